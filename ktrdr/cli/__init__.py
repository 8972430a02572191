"""The command line `ktrdr`."""

from ktrdr.cli.alerts import alerts
from ktrdr.cli.commands import app
from ktrdr.cli.contract import contract
from ktrdr.cli.watch import watch

app.add_typer(watch, name="watch")
app.command()(contract)

app.add_typer(alerts, name="alerts")

__all__ = ["app"]
