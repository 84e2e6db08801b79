"""Replay real traces through the sidecar and compare every layer of the books with the trace: exactly.

    python -m benchmarks.replay --output json [--quick] [--servegen-calls N] [--workers N]

Both Azure 2023 traces (28,185 calls) and calls drawn from ServeGen's tenants go through a sidecar to the emulator,
half of the teams with keys, the others by trusted headers. Then usage_event, usage_slot and the statement must show
the same calls, input and output tokens as the trace, by team and by model, and `metering verify` must be empty.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.workshop import TRACES, Sums, Workshop, mint_keys, open_workshop
from metering.lab.calls import Call
from metering.lab.programs import run_command
from metering.lab.replay import Pace, replay
from metering.lab.tally import expected, tokens_by
from metering.lab.traces import read_traces
from metering.lab.wire import RequestWriter, read_target

SHIP_SECONDS = 300
QUICK_AZURE_CALLS, QUICK_SERVEGEN_CALLS = 4_000, 6_000


def main() -> int:
    """Run it; 0 if everything is equal."""
    options = _parse()
    azure = _read(options, "Azure*.csv", QUICK_AZURE_CALLS if options.quick else None)
    servegen = _read(options, "servegen*.parquet", QUICK_SERVEGEN_CALLS if options.quick else options.servegen_calls)
    with open_workshop("metering-replay-", keep=options.keep) as workshop:
        found = _measure(workshop, {"azure": azure, "servegen": servegen}, options)
    if options.output == "json":
        print(json.dumps(found, indent=2))
    else:
        _print_table(found)
    return 0 if found["equal"] else 5


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", choices=("json", "table"), default="table")
    parser.add_argument("--quick", action="store_true", help="fewer calls: under 50 s")
    parser.add_argument("--traces", type=Path, default=TRACES)
    parser.add_argument("--servegen-calls", type=int, default=200_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    return parser.parse_args()


def _read(options: argparse.Namespace, pattern: str, calls: int | None) -> list[Call]:
    paths = sorted(options.traces.glob(pattern))
    if not paths:
        sys.exit(f"no {pattern} in {options.traces}: give the folder of the public traces with --traces")
    return list(read_traces(paths, seed=options.seed, calls=calls))


def _measure(workshop: Workshop, traces: dict[str, list[Call]], options: argparse.Namespace) -> dict[str, Any]:
    stack = workshop.stack
    run_command(["migrate"], stack.environ)
    run_command(["prices", "import"], stack.environ)
    teams = sorted({call.team for calls in traces.values() for call in calls})
    secrets, planned = mint_keys(teams[::2])
    stack.start(keys=planned, workers=options.workers, emulator_options=("--content", "short"))
    target = read_target(stack.url, direct=False)
    rates: dict[str, Any] = {}
    attempts = 0
    for name, calls in traces.items():
        pace = Pace(concurrency=options.concurrency)
        outcome = replay(target, RequestWriter(target, secrets, chunks=4), iter(calls), pace, on_progress=_progress)
        rates[name] = {
            "calls": outcome.attempts,
            "failed": outcome.tally.total().failed_calls,
            "seconds": round(outcome.seconds, 2),
            "calls_per_second": round(outcome.attempts / outcome.seconds),
        }
        attempts += outcome.attempts
    began = time.monotonic()
    stack.wait_until_shipped(lambda: _shipped(workshop) >= attempts, SHIP_SECONDS)
    rates["shipped_after_seconds"] = round(time.monotonic() - began, 2)
    began = time.monotonic()
    run_command(["count"], stack.environ)
    rates["count_seconds"] = round(time.monotonic() - began, 2)
    return {**_compare(workshop, [call for calls in traces.values() for call in calls]), "rates": rates}


def _shipped(workshop: Workshop) -> int:
    return int(workshop.rows("SELECT coalesce(sum(inserted), 0) FROM shipped_batch")[0][0])


def _compare(workshop: Workshop, calls: list[Call]) -> dict[str, Any]:
    tally = expected(calls)
    year = f"{datetime.now(UTC):%Y}"
    layers: dict[str, Any] = {}
    for name in ("team", "model"):
        true = tokens_by(tally.by(name))
        for layer, found in (
            ("usage_event", workshop.event_sums(name)),
            ("usage_slot", workshop.slot_sums(name)),
            ("statement", workshop.statement_sums(name, year)),
        ):
            layers[f"{layer} by {name}"] = _differences(true, found)
    broken = workshop.broken_checks()
    total = tally.total()
    return {
        "equal": all(layer["equal"] for layer in layers.values()) and not broken,
        "calls": total.calls,
        "teams": len(tally.by("team")),
        "models": len(tally.by("model")),
        "input_tokens": total.input_tokens,
        "output_tokens": total.output_tokens,
        "layers": layers,
        "verify": broken or "empty",
    }


def _differences(true: Sums, found: Sums) -> dict[str, Any]:
    names = sorted(true.keys() | found.keys())
    differing = [name for name in names if true.get(name) != found.get(name)]
    result: dict[str, Any] = {"equal": not differing, "names": len(names)}
    if differing:
        result["differing"] = {name: {"trace": true.get(name), "books": found.get(name)} for name in differing[:5]}
    return result


def _progress(ended: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{ended:,} calls", end="", file=sys.stderr)


def _print_table(found: dict[str, Any]) -> None:
    for name, layer in found["layers"].items():
        print(f"{'equal' if layer['equal'] else 'DIFFERENT':10} {name} ({layer['names']} names)")
    print(f"verify     {found['verify']}")
    tokens = f"{found['input_tokens']:,} + {found['output_tokens']:,} tokens"
    print(f"{found['calls']:,} calls, {found['teams']} teams, {found['models']} models, {tokens}")
    print(json.dumps(found["rates"]))


if __name__ == "__main__":
    sys.exit(main())
