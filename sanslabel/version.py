"""The version of the package, which each run records."""

__version__ = "0.1.0"
