"""`metering spool`: what a spool holds, whether it is whole, and making it so. For the person on call."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from metering.cli.tables import Output, OutputOption, print_json, print_rows
from metering.errors import SpoolError

if TYPE_CHECKING:
    from metering.sidecar.spool.report import SpoolReport

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The sidecar's [spool] dir, or one worker-* in it.")]

SEGMENT_COLUMNS = (
    "segment",
    "bytes",
    "first_sequence",
    "last_sequence",
    "opens",
    "finals",
    "first_at",
    "last_at",
    "damages",
)
PLACE_COLUMNS = ("spool", "segment", "offset", "bytes", "harm", "is_damage", "meaning")


def register(app: typer.Typer) -> None:
    """Add `spool inspect|verify|repair`."""
    spool = typer.Typer(no_args_is_help=True, help="A sidecar's spool: inspect, verify, repair.")
    spool.command()(inspect)
    spool.command()(verify)
    spool.command()(repair)
    app.add_typer(spool, name="spool")


def inspect(directory: Directory, output: OutputOption = Output.TABLE) -> None:
    """Show segments, records, open calls, sequences and times of each spool. Changes nothing."""
    reports = _read(directory)
    if output is Output.JSON:
        print_json(reports)
        return
    for report in reports:
        rows = [_plain(segment) for segment in report.segments]
        if output is Output.TABLE:
            typer.echo(_headline(report))  # not the table's title: that is folded to the table's width
        print_rows(rows, SEGMENT_COLUMNS, output, title=Path(report.directory).name)


def verify(directory: Directory, output: OutputOption = Output.TABLE) -> None:
    """Check every record. Exit code 4 and the damaged offsets if something is wrong. Changes nothing."""
    reports = _read(directory)
    places = [{"spool": report.directory, **_plain(place)} for report in reports for place in report.places]
    damages = sum(len(report.damages) for report in reports)
    records = sum(segment.opens + segment.finals for report in reports for segment in report.segments)
    if output is Output.JSON:
        print_json({"spools": len(reports), "records": records, "damages": damages, "places": places})
    elif places:
        print_rows(places, PLACE_COLUMNS, output, title="what is not as it was written")
    if damages:
        raise SpoolError(
            f"{damages} damaged places in {directory}: nothing else is affected, and what can be read is shipped; "
            "look at the disk, then run `metering spool repair` with the sidecar stopped"
        )
    typer.echo(f"{records} records in {len(reports)} spools are as they were written", err=True)


def repair(directory: Directory, output: OutputOption = Output.TABLE) -> None:
    """Move damage to quarantine and finish the calls of writers that are gone. Refused while the spool is in use."""
    from metering.sidecar.spool.repair import repair_spool
    from metering.sidecar.spool.report import find_spools

    reports = [repair_spool(spool) for spool in find_spools(directory)]
    print_rows([_plain(report) for report in reports], tuple(reports[0].__struct_fields__), output, title="repaired")


def _read(directory: Path) -> list["SpoolReport"]:
    """All reports, with a bar on a terminal: a large backlog takes its time."""
    from rich.console import Console
    from rich.progress import track

    from metering.sidecar.spool.report import find_spools, report_spool

    console = Console(stderr=True)
    spools = track(find_spools(directory), "reading", console=console, transient=True, disable=not console.is_terminal)
    return [report_spool(spool) for spool in spools]


def _plain(value: msgspec.Struct) -> dict[str, object]:
    return dict(msgspec.to_builtins(value))


def _headline(report: "SpoolReport") -> str:
    writer = "a writer runs on it" if report.in_use else "no writer runs on it"
    shipped = "never shipped" if report.shipped_position is None else f"shipped to {report.shipped_position}"
    counts = f"{report.bytes:,} bytes, {report.open_calls:,} open calls, {report.quarantined} quarantined"
    return f"{report.directory} · source {report.source_id} · {counts} · {shipped} · {writer}"
