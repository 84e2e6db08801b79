"""`metering demo`: the whole path on this machine, from a client's socket to a printed statement.

The composition root of the lab's programs and the ledger's own functions; everything lives in a folder and a
database of the demo's own, made anew by each run, so that it never mixes with real data.
"""

import fcntl
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.context import settings
from metering.cli.tables import Output
from metering.errors import ConfigError

if TYPE_CHECKING:
    from metering.cli.demo_path import DemoPath

LOOK_SECONDS = 2.0  # how often calls of the user's own are counted while the demo stays up


def register(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command()(demo)


def demo(
    once: Annotated[bool, typer.Option(help="Stop when the statement is printed.")] = False,
    output: Annotated[Output, typer.Option(help="How to print the result; json needs --once.")] = Output.TABLE,
) -> None:
    """Run everything on a small scenario: model, sidecar, ledger, prices, teams, statement. Needs nothing set up."""
    from metering.cli.demo_path import open_path

    if output is Output.CSV or (output is Output.JSON and not once):
        raise ConfigError("the demo prints a table, or JSON with --once: leave --output out")
    began = time.monotonic()
    # A SIGTERM ends the demo as a Ctrl-C does: every block is left in order, every program stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _own_folder(settings().state_dir) as folder, open_path(folder, _step(began)) as path:
            path.send()
            path.count()
            path.show(output, time.monotonic() - began)
            if not once:
                _stay_up(path, folder)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


def _stay_up(path: "DemoPath", folder: Path) -> None:
    """Show how to send a call, and count what comes, until Ctrl-C or SIGTERM."""
    for line in path.three_lines():
        typer.echo(line)
    typer.echo(
        f"see it: METERING_STATE_DIR={folder} metering report --period {path.period_name()}; Ctrl-C stops everything",
        err=True,
    )
    while True:
        time.sleep(LOOK_SECONDS)
        path.look()


@contextmanager
def _own_folder(state_dir: Path) -> Iterator[Path]:
    """An empty folder that no other demo uses. What a demo that was killed left running there is stopped."""
    from metering.ledger.embedded import EmbeddedPostgres

    folder = state_dir / "demo"
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"a demo is running already with {folder}: stop it, or set METERING_STATE_DIR to another folder"
            ) from None
        if (folder / "postgres").exists():
            EmbeddedPostgres(folder / "postgres").stop()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder


def _step(began: float) -> Callable[[str], None]:
    """Says what has been reached, and after how many seconds."""
    return lambda sentence: typer.echo(f"{time.monotonic() - began:5.1f} s  {sentence}", err=True)
