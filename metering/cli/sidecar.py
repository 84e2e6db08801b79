"""`metering sidecar`: the relay and its shipper. `metering ship`: the shipper alone."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from metering.cli.context import ledger_url, settings

ConfigOption = Annotated[Path, typer.Option("--config", help="The sidecar's TOML file.", show_default=False)]
PARENT_POLL_SECONDS = 0.5


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
) -> None:
    """Relay calls to the upstreams of FILE and count them. SIGTERM or Ctrl-C drains and ends it."""
    import asyncio

    from metering.sidecar.config import load_config
    from metering.sidecar.relay.routes import RouteTable
    from metering.sidecar.supervisor import Supervisor

    found = settings()
    parsed = load_config(config, found.state_dir)
    RouteTable(parsed.routes, parsed.keys)  # a ca_file without certificates shows here
    if check:
        typer.echo(f"{config} is right: {len(parsed.routes)} routes, {len(parsed.keys)} keys", err=True)
        return
    ships = found.database_url is not None if ship is None else ship
    supervisor = Supervisor(parsed, config.resolve(), found.state_dir, ships=ships, environ=os.environ)
    raise typer.Exit(asyncio.run(supervisor.run()))


def ship(
    config: ConfigOption,
    once: Annotated[bool, typer.Option("--once", help="Ship what there is and end.")] = False,
    retain: Annotated[float, typer.Option(min=0, help="Seconds to keep segments that are shipped.")] = 0.0,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End when this is not the parent any more.")] = None,
) -> None:
    """Bring the counts of FILE's spools to the ledger, each exactly once, until SIGTERM or Ctrl-C."""
    from metering.sidecar.config import load_config
    from metering.sidecar.ship.shipper import run_shipper

    spool = load_config(config, settings().state_dir).spool
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with ledger_url() as url:
        totals = run_shipper(spool.dir, url, once=once, retain_seconds=retain)
    typer.echo(f"shipped {totals.records} records in {totals.batches} batches", err=True)


def _end_with(parent: int) -> None:
    """A sidecar that was killed can't stop its shipper: the shipper looks itself."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
