"""The version of this client, told to the server with each request."""

__version__ = "0.2.0"
