"""The command line `ktrdr`."""

import os

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
"""pydantic would look for plugins in every package that is installed, at each start."""

from ktrdr.cli.commands import app  # noqa: E402  # after that

__all__ = ["app"]
