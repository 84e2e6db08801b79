"""What `metering replay` reads and prints apart from the replay itself: keys, speed, progress, sums."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from metering.errors import ConfigError, InputError
from metering.lab.replay import ReplayOutcome
from metering.lab.tally import Sums


def read_speed(text: str) -> float | None:
    """`max` (None) or a factor such as `60x`."""
    if text == "max":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text)
    if not match or not float(match[1]):
        raise ConfigError(f"--speed {text!r} must be max or a factor such as 60x")
    return float(match[1])


def read_keys(path: Path | None) -> dict[str, str]:
    """A JSON object of team -> metering key."""
    if path is None:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"--keys {path}: {error}; it must be a JSON object of team to metering key") from None


@contextmanager
def progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr if that is a terminal; yields what to call with the number of ended calls."""
    console = Console(stderr=True)
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda ended: bar.update(task, completed=ended)


def to_json(outcome: ReplayOutcome) -> dict[str, object]:
    """The replay's sums as plain values: the total, then by team, model and dialect."""
    tally = outcome.tally
    total = tally.total()
    return {
        **msgspec.structs.asdict(total),
        "attempts": outcome.attempts,
        "seconds": round(outcome.seconds, 3),
        "calls_per_second": round(total.calls / outcome.seconds, 1) if outcome.seconds else 0.0,
        **{f"by_{name}": _rows(tally.by(name)) for name in ("team", "model", "dialect")},
    }


def _rows(sums: dict[str, Sums]) -> dict[str, dict[str, int]]:
    return {name: msgspec.structs.asdict(row) for name, row in sums.items()}


def summary(outcome: ReplayOutcome, output: str) -> None:
    """Print the sums on stdout."""
    if output == "json":
        typer.echo(msgspec.json.encode(to_json(outcome)))
        return
    for name in ("dialect", "model", "team"):
        table = Table(name, "calls", "input tokens", "output tokens", "failed", "aborted", highlight=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for key, row in [*outcome.tally.by(name).items(), ("total", outcome.tally.total())]:
            numbers = (row.calls, row.input_tokens, row.output_tokens, row.failed_calls, row.aborted_calls)
            table.add_row(key or "(nobody)", *(f"{number:,}" for number in numbers))
        Console().print(table)
    rate = outcome.tally.total().calls / outcome.seconds if outcome.seconds else 0.0
    typer.echo(f"{outcome.attempts} attempts in {outcome.seconds:.1f} s, {rate:.0f} calls/s", err=True)
