"""The command line."""

from sanslabel.cli.main import main

__all__ = ["main"]
