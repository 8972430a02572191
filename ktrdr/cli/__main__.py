"""`python -m ktrdr.cli`: the command line where the script `ktrdr` is not on the PATH."""

from ktrdr.cli import app

app()
