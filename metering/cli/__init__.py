"""The command line: the composition root. It reads the settings and hands each command what it needs.

A command imports only its own room, so `metering sidecar` never loads Polars and `metering --help` is the
only call that loads everything. Data goes to stdout, messages to stderr; errors raised on purpose end
as one sentence and their own exit code.
"""

import sys
from importlib import import_module

import typer

from metering.errors import MeteringError

# command → the module whose `register(app)` adds it
COMMANDS = {
    "sidecar": "sidecar",
    "ship": "sidecar",
    "keys": "keys",
    "spool": "spool",
    "migrate": "ledger",
    "count": "ledger",
    "verify": "ledger",
    "postgres": "ledger",
    "prices": "prices",
    "teams": "teams",
    "report": "report",
    "explain": "report",
    "api": "api",
    "dialects": "dialects",
    "emulate": "lab",
    "replay": "lab",
    "demo": "demo",
}


def main() -> None:
    """Run the command line; the console script and `python -m metering` end here."""
    app = typer.Typer(
        name="metering",
        help="Token-economics metering and chargeback.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    asked = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    for module in [asked] if asked else sorted(set(COMMANDS.values())):
        import_module(f"metering.cli.{module}").register(app)
    # With a single command registered Typer would drop its name; a callback keeps it a group.
    app.callback()(lambda: None)
    try:
        app(prog_name="metering")
    except MeteringError as error:
        typer.echo(f"metering: {error}", err=True)
        raise SystemExit(error.exit_code) from None
