"""`metering sidecar`: the relay and its shipper. `metering ship`: the shipper alone."""

import os
from pathlib import Path
from typing import Annotated

import typer

from metering.cli.context import ledger_url, settings
from metering.cli.parent import ParentOption, end_with

ConfigOption = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The sidecar's TOML file.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add `sidecar` and `ship`."""
    app.command()(sidecar)
    app.command()(ship)


def sidecar(
    config: ConfigOption,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the file is right.")] = False,
    ship: Annotated[
        bool | None,
        typer.Option(help="Run the shipper too. Default: if METERING_DATABASE_URL is set; --ship alone: embedded."),
    ] = None,
    parent: ParentOption = None,
    inherit: Annotated[int | None, typer.Option(hidden=True, help="What the program before this one left.")] = None,
) -> None:
    """Relay calls to the upstreams of FILE and count them.

    SIGTERM or Ctrl-C drains and ends it. SIGHUP puts FILE in force as it is now, SIGUSR2 starts the installed version
    in its place; neither costs a call.
    """
    import asyncio

    from metering.sidecar.config_file import read_config
    from metering.sidecar.handover import Handover
    from metering.sidecar.supervisor import Supervisor

    found = settings()
    inherited = None if inherit is None else Handover.read(inherit)
    file = read_config(config.absolute(), found.state_dir, inherited.fixed if inherited else None)
    if check:
        routes, keys = len(file.config.routes), len(file.config.keys)
        typer.echo(f"{config} is right (routes: {routes}, keys: {keys})", err=True)
        return
    end_with(parent)
    ships = found.database_url is not None if ship is None else ship
    supervisor = Supervisor(file, found.state_dir, ships=ships, environ=os.environ, inherited=inherited)
    raise typer.Exit(asyncio.run(supervisor.run()))


def ship(
    config: ConfigOption,
    once: Annotated[bool, typer.Option("--once", help="Ship what there is and end.")] = False,
    retain: Annotated[float, typer.Option(min=0, help="Seconds to keep segments that are shipped.")] = 0.0,
    parent: ParentOption = None,
) -> None:
    """Bring the spools' counts to the ledger, each exactly once.

    FILE is the sidecar's. Goes on until SIGTERM or Ctrl-C.
    """
    from metering.sidecar.config import load_config
    from metering.sidecar.ship.shipper import run_shipper

    spool = load_config(config, settings().state_dir).spool
    end_with(parent)
    with ledger_url() as url:
        totals = run_shipper(spool.dir, url, once=once, retain_seconds=retain)
    typer.echo(f"shipped {totals.records} records in {totals.batches} batches", err=True)
