"""Is the sidecar transparent to the last byte? Generated exchanges, each played without it and through it.

    python -m benchmarks.identity --count 10000 --seed 1 --output json|table [--quick]
    python -m benchmarks.identity --seed 1 --only 417      # one conversation again, as a finding names it

Dialects, framings, encodings, chunk sizes, truncations, pipelining, early answers and closes come from the seed
(`tests/identity`). Compared: status, headers less hop-by-hop, body as framed, order of chunks, trailers, the way of
ending, what the upstream saw of the request, and that each call has exactly one row that is right.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import uvloop

from tests.identity.campaign import Campaign
from tests.identity.conversation import compose
from tests.identity.exchange import Conversation

ROUND = 500  # conversations before one sidecar
QUICK = 3000


def main() -> int:
    """Play; 0 if nothing differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--count", type=int, default=10_000, help="at least that many exchanges")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one conversation")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} exchanges; under 50 s")
    options = parser.parse_args()
    campaign, began = Campaign(), time.monotonic()
    numbers = count() if options.only is None else iter((options.only,))
    conversations = (compose(options.seed, number) for number in numbers)
    uvloop.run(play(campaign, conversations, QUICK if options.quick else options.count))
    for line in campaign.describe():
        print(line, file=sys.stderr)
    found = {
        "seed": options.seed,
        "exchanges": len(campaign.exchanges),
        "different": len(campaign.findings),
        "retries": campaign.retries,
        "seconds": round(time.monotonic() - began, 1),
        "kinds": kinds(campaign),
    }
    if options.output == "json":
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(f"{name:24} {value:>10,}" for name, value in (found | found.pop("kinds")).items()))
    return 1 if campaign.findings else 0


async def play(campaign: Campaign, conversations: Iterator[Conversation], exchanges_min: int) -> None:
    """Rounds until there were enough exchanges."""
    while len(campaign.exchanges) < exchanges_min and (some := list(islice(conversations, ROUND))):
        with tempfile.TemporaryDirectory(prefix="metering-identity-") as folder:
            await campaign.play(Path(folder), some)


def kinds(campaign: Campaign) -> dict[str, Any]:
    """How many exchanges there were of each kind."""
    counts: Counter[str] = Counter()
    for exchange in campaign.exchanges:
        request, answer = exchange.request, exchange.answer
        counts[exchange.dialect] += 1
        counts[f"framing {answer.framing}"] += 1
        counts[f"HTTP/{request.version}"] += 1
        counts["cut"] += not answer.whole
        counts["100-continue"] += request.expects
        counts["early answer"] += answer.early is not None
        counts["half-close"] += request.half_closes
        counts["status 400 and above"] += answer.status >= 400
    return dict(sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
