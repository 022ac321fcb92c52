"""Calls with callers whose every word is known: what a fault costs, with the client and without."""
