"""What counting a call for `/metrics` costs, in µs a call: the best of many rounds, on a quiet machine.

python -m benchmarks.call_counts --output json [--quick]
"""

import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from metering.core.event import Outcome, UsageEvent, mint_event_id
from metering.core.usage import Usage, UsageSource
from metering.sidecar.call_counts import CallCounts
from metering.sidecar.config import parse_config
from metering.sidecar.relay.routes import RouteTable
from metering.sidecar.tally import Tally

CONFIG = '[[route]]\npath = "/openai"\nupstream = "http://127.0.0.1:1"\nprovider = "openai"\n'
USAGES = {
    "plain": Usage(input_tokens=412, output_tokens=118, cache_read_input_tokens=0, reasoning_output_tokens=0),
    "cached": Usage(input_tokens=412, output_tokens=118, cache_read_input_tokens=100, reasoning_output_tokens=30),
    "no_usage": None,
}
CALLS = 20_000


def measure(rounds: int) -> dict[str, float]:
    """Case → µs a call."""
    route = RouteTable(parse_config(CONFIG, Path()).routes, ()).routes[0]
    figures: dict[str, float] = {}
    for name, usage in USAGES.items():
        for streamed in (False, True):
            # Not a `CallRecord`: only what is read of one.
            record: Any = SimpleNamespace(
                route=route, streamed=streamed, began=1.0, sent_at=1.00004, first=1.2, ended=1.5
            )
            event = UsageEvent(
                event_id=mint_event_id(1, 1), provider_name="openai", operation_name="chat", outcome=Outcome.COMPLETED,
                usage_source=UsageSource.REPORTED, usage=usage, request_model="gpt-4o-mini", status=200,
            )  # fmt: skip
            count, best = CallCounts(Tally()).count, float("inf")
            for _ in range(rounds):
                begun = time.perf_counter()
                for _ in range(CALLS):
                    count(record, event, 1.50002)
                best = min(best, (time.perf_counter() - begun) / CALLS)
            figures[f"{name}_stream" if streamed else name] = round(best * 1e6, 2)
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.call_counts", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", choices=("json", "table"), default="table")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    figures = measure(10 if options.quick else 50)
    lines = [f"{name:<16}{micros:>6.2f} µs" for name, micros in figures.items()]
    print(json.dumps({"us_per_call": figures}, indent=2) if options.output == "json" else "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
