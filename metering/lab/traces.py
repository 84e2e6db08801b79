"""Traces of real traffic as `Call`s: which format a file has, and several traces as one.

- Azure 2023 (CSV: TIMESTAMP, ContextTokens, GeneratedTokens), https://github.com/Azure/AzurePublicDataset
- Mooncake (JSON lines: timestamp, input_length, output_length, hash_ids), https://github.com/kvcache-ai/Mooncake
- ServeGen (Parquet: rates and token distributions a client), https://github.com/alibaba/ServeGen
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from metering.errors import InputError
from metering.lab.calls import Call
from metering.lab.trace_lines import azure_calls, mooncake_calls
from metering.lab.trace_servegen import servegen_calls

FORMATS = ("azure", "mooncake", "servegen")
SERVEGEN_CALLS = 200_000  # how many calls are drawn from the rates when nobody says


def read_traces(
    paths: Sequence[Path], *, trace_format: str = "auto", seed: int = 0, calls: int | None = None, teams: int = 12
) -> Iterator[Call]:
    """The calls of all `paths` in order of time, every trace beginning at 0; at most `calls` of them.

    ServeGen files are two halves of one trace. The same seed gives the same calls. `teams` is how many teams
    share a trace that knows none. `InputError` names the file, the line and what to do.
    """
    merged: list[Call] = []
    servegen = [path for path in paths if _format_of(path, trace_format) == "servegen"]
    if servegen:
        merged += servegen_calls(*_servegen_halves(servegen), seed=seed, calls=calls or SERVEGEN_CALLS)
    for path in paths:
        kind = _format_of(path, trace_format)
        if kind == "azure":
            merged += azure_calls(path, seed=seed, teams=teams)
        elif kind == "mooncake":
            merged += mooncake_calls(path, seed=seed, teams=teams)
    merged.sort(key=lambda call: call.at_ms)
    return iter(merged[:calls])


def _format_of(path: Path, trace_format: str) -> str:
    if not path.is_file():
        raise InputError(f"trace {path} is not a file: give the path of a downloaded trace")
    if trace_format != "auto":
        if trace_format not in FORMATS:
            raise InputError(f"--format {trace_format!r} is unknown: write auto, {', '.join(FORMATS)}")
        return trace_format
    found = {".csv": "azure", ".jsonl": "mooncake", ".parquet": "servegen"}.get(path.suffix)
    if found is None:
        raise InputError(f"can't tell the format of {path} by its name: add --format {'|'.join(FORMATS)}")
    return found


def _servegen_halves(paths: Sequence[Path]) -> tuple[Path, Path]:
    """The file of rates and the file of token distributions; a half not named is looked for beside the other."""
    rates = [path for path in paths if "rate" in path.name]
    tokens = [path for path in paths if "token" in path.name]
    beside = paths[0].parent
    rates = rates or sorted(beside.glob("*client_rate*.parquet"))
    tokens = tokens or sorted(beside.glob("*client_token*.parquet"))
    if len(rates) != 1 or len(tokens) != 1:
        raise InputError(
            f"a ServeGen trace is two files, *client_rate*.parquet and *client_tokendist*.parquet, "
            f"and {beside} has not one of each: name both"
        )
    return rates[0], tokens[0]
