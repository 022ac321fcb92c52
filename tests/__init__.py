"""The tests: one module for each of the app's, named after it."""
