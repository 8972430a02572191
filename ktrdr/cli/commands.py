"""All commands of `ktrdr`, put together. What each does is in a file of its own."""

from __future__ import annotations

import typer

from ktrdr.cli.alerts import alerts
from ktrdr.cli.bars import export, show
from ktrdr.cli.check import check
from ktrdr.cli.contract import contract
from ktrdr.cli.doctor import doctor
from ktrdr.cli.fills import fill, fills
from ktrdr.cli.gaps import gaps, scan
from ktrdr.cli.sim import sim
from ktrdr.cli.status import status
from ktrdr.cli.supervisorctl import ctl
from ktrdr.cli.watch import watch

app = typer.Typer(
    help="Keeps a folder of OHLCV CSV files complete from Interactive Brokers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(sim, name="sim")
for _command in (status, doctor, scan, gaps, fill, fills, show, export, check):
    app.command()(_command)
app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="",
)(ctl)
app.add_typer(watch, name="watch")
app.command()(contract)
app.add_typer(alerts, name="alerts")
