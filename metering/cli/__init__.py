"""The command line: the composition root. It reads the settings and hands each command what it needs.

A command imports only its own room, so `metering sidecar` never loads Polars and `metering --help` is the
only call that loads every module of this folder. Data goes to stdout, messages to stderr; errors raised on
purpose end as one sentence and their own exit code.
"""

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from metering.errors import MeteringError

# command → the module whose `register(app)` adds it; `metering --help` lists them in this order
COMMANDS = {
    "demo": "demo",
    "sidecar": "sidecar",
    "ship": "sidecar",
    "keys": "keys",
    "spool": "spool",
    "report": "report",
    "explain": "report",
    "prices": "prices",
    "teams": "teams",
    "count": "ledger",
    "verify": "ledger",
    "migrate": "ledger",
    "postgres": "ledger",
    "api": "api",
    "dialects": "dialects",
    "emulate": "lab",
    "replay": "lab",
}


class _InOrder(typer.core.TyperGroup):
    """Lists the commands in the order of `COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [command for command in COMMANDS if self.get_command(ctx, command)]


def main() -> None:
    """Run the command line; the console script and `python -m metering` end here."""
    asked = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    app = build_app([asked] if asked else COMMANDS.values())
    try:
        app(prog_name="metering")
    except MeteringError as error:
        typer.echo(f"metering: {error}", err=True)
        raise SystemExit(error.exit_code) from None


def build_app(modules: Iterable[str]) -> typer.Typer:
    """The command line with the commands of `modules`, which are imported now."""
    app = typer.Typer(
        name="metering",
        cls=_InOrder,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Plain help: Rich's costs every command 0.1 s, and its markup swallows words like [[key]] and [spool].
        rich_markup_mode=None,
    )
    for module in dict.fromkeys(modules):
        import_module(f"metering.cli.{module}").register(app)
    # With a single command registered Typer would drop its name; a callback keeps it a group.
    app.callback()(_metering)
    return app


def _print_version(asked: bool) -> None:
    if not asked:
        return
    try:
        typer.echo(f"metering {version('metering')}")
    except PackageNotFoundError:  # run from its sources, as some tools do
        typer.echo("metering, not installed")
    raise typer.Exit


def _metering(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Count every call to a model, know whose it was, and what it cost.

    `metering demo` shows everything at work; each command explains itself with --help.
    """
