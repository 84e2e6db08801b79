"""`metering demo`: the whole path on this machine, from a client's socket to a printed statement.

The composition root of the lab's programs and the ledger's own functions; everything lives in a folder and a
database of the demo's own, made anew by each run, so that it never mixes with real data.
"""

import fcntl
import shlex
import shutil
import signal
import sys
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
    once: Annotated[bool, typer.Option("--once", help="Stop when the statement is printed.")] = False,
    output: Annotated[Output, typer.Option(help="How to print the result; json needs --once.")] = Output.TABLE,
) -> None:
    """Run everything on a small scenario. Needs nothing set up.

    Model, sidecar, ledger, prices, teams and statement are the demo's own; it stays up for calls of yours.
    """
    from metering.cli.demo_path import open_path

    if output is Output.CSV or (output is Output.JSON and not once):
        raise ConfigError("the demo prints a table, or JSON with --once: leave --output out")
    began = time.monotonic()
    _end_in_order()
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
    report = f"METERING_STATE_DIR={shlex.quote(str(folder))} {_own_command()} report --period {path.period_name()}"
    typer.echo(f"see it    {report}", err=True)
    typer.echo("Ctrl-C stops everything", err=True)
    while True:
        time.sleep(LOOK_SECONDS)
        path.look()


def _end_in_order() -> None:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does: every block is left, every program stopped.

    Ctrl-C itself is said again because a shell's background jobs are started deaf to it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def _own_command() -> str:
    """How this very metering is called, from any folder."""
    script = Path(sys.executable).with_name("metering")
    return shlex.quote(str(script)) if script.exists() else f"{shlex.quote(sys.executable)} -m metering"


@contextmanager
def _own_folder(state_dir: Path) -> Iterator[Path]:
    """An empty folder that no other demo uses. What a demo that was killed left running there is stopped."""
    from metering.ledger.embedded import EmbeddedPostgres

    folder = state_dir / "demo"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock_file = (state_dir / "demo.lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"can't write to {state_dir} ({error.strerror}): set METERING_STATE_DIR to a folder of your own"
        ) from None
    with lock_file as lock:
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
