"""`metering emulate`: a model server that isn't one. `metering replay`: real traces through a running sidecar."""

from pathlib import Path
from typing import Annotated

import typer

from metering.cli.parent import ParentOption, end_with


def register(app: typer.Typer) -> None:
    """Add `emulate` and `replay`."""
    app.command()(emulate)
    app.command()(replay)


def emulate(
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes any free one.")] = "127.0.0.1:0",
    json_port_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write host, port and pid here once listening.")
    ] = None,
    call_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a line for every call received and answered.")
    ] = None,
    content: Annotated[str, typer.Option(help="full: as many words as output tokens; short: at most 24.")] = "full",
    chunks: Annotated[int, typer.Option(min=1, help="Pieces a streamed answer comes in.")] = 8,
    pace_ms: Annotated[int, typer.Option(min=0, help="Milliseconds between the pieces.")] = 0,
    parent: ParentOption = None,
) -> None:
    """Serve a fake model: deterministic answers, exact usage.

    It speaks OpenAI, Anthropic and Ollama, streamed and not.
    """
    from metering.lab.ask import Defaults
    from metering.lab.emulate import emulate as run
    from metering.lab.emulate import write_port_file

    if content not in ("full", "short"):
        raise typer.BadParameter("write full or short", param_hint="--content")

    def announce(host: str, port: int) -> None:
        typer.echo(f"http://{host}:{port}")
        if json_port_file:
            write_port_file(json_port_file, host, port)

    end_with(parent)
    run(listen, Defaults(chunks, pace_ms, content == "full"), call_log=call_log, announce=announce)


def replay(  # noqa: PLR0913, PLR0917 -- a command has as many parameters as it has options
    traces: Annotated[
        list[Path], typer.Argument(metavar="TRACE", help="Files of the Azure 2023, Mooncake or ServeGen traces.")
    ],
    through: Annotated[str, typer.Option(help="Where the sidecar listens.")] = "http://127.0.0.1:8787",
    direct: Annotated[bool, typer.Option(help="--through is an emulator: send without the sidecar's routes.")] = False,
    trace_format: Annotated[str, typer.Option("--format", help="auto, azure, mooncake or servegen.")] = "auto",
    calls: Annotated[int | None, typer.Option(min=1, help="Send at most so many calls.")] = None,
    teams: Annotated[int, typer.Option(min=1, help="Teams that share a trace which knows none.")] = 12,
    speed: Annotated[str, typer.Option(help="max, or trace time per time, such as 60x.")] = "max",
    concurrency: Annotated[int, typer.Option(min=1, help="Calls in flight.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed sends the same calls.")] = 0,
    chunks: Annotated[int, typer.Option(min=1, help="Pieces a streamed answer comes in.")] = 4,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON object: team -> metering key; others use x-team.")
    ] = None,
    retry: Annotated[bool, typer.Option(help="Send a failed call again, as a new attempt.")] = False,
    call_log: Annotated[Path | None, typer.Option(metavar="FILE", help="Append a JSON line for every attempt.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar on stderr.")] = True,
    output: Annotated[str, typer.Option(help="table or json.")] = "table",
) -> None:
    """Send a trace through a running sidecar to an emulator.

    Prints the exact sums that the books must show.
    """
    from metering.cli.lab_output import progress_bar, read_keys, read_speed, summary
    from metering.lab.replay import Pace
    from metering.lab.replay import replay as run
    from metering.lab.traces import read_traces
    from metering.lab.wire import RequestWriter, read_target

    if output not in ("table", "json"):
        raise typer.BadParameter("write table or json", param_hint="--output")
    target = read_target(through, direct=direct)
    pace = Pace(speed=read_speed(speed), concurrency=concurrency, retry=retry)
    drawn = list(read_traces(traces, trace_format=trace_format, seed=seed, calls=calls, teams=teams))
    writer = RequestWriter(target, read_keys(keys), chunks=chunks)
    with progress_bar(len(drawn), shown=progress) as on_progress:
        outcome = run(target, writer, iter(drawn), pace, on_progress=on_progress, log=call_log)
    summary(outcome, output)
