"""The command line `ktrdr`."""

from ktrdr.cli.commands import app

__all__ = ["app"]
