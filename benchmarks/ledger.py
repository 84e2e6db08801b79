"""How quick the ledger is: rows shipped a second, rows counted a second, and a month of totals read.

    python -m benchmarks.ledger --output json|table [--quick]

Shipping is everything from decoded events to a committed batch: disjoint meters, COPY text, partitions, the
unique index, every CHECK, the source's position. The embedded Postgres runs as it does for a user: durable.
Bar: 15,000 rows shipped a second by one shipper.
"""

import argparse
import hashlib
import json
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import msgspec

from metering.core.event import Attribution, Outcome, UsageEvent, mint_event_id
from metering.core.period import Period
from metering.core.usage import Usage, UsageSource
from metering.jobs.count import count_all
from metering.ledger.checks import run_checks
from metering.ledger.embedded import running
from metering.ledger.engine import Engine, connect, transaction
from metering.ledger.events import ship_batch, source_position
from metering.ledger.migrate import upgrade
from metering.ledger.slots import slot_totals

ROWS, ROWS_QUICK = 500_000, 100_000
BATCH_ROWS = 10_000
TEAMS = 100
MODELS = {"gpt-5-2025-08-07": "openai", "gpt-5-mini": "openai", "claude-sonnet-4-5": "anthropic"}
START_AT = datetime(2026, 10, 1, tzinfo=UTC)
ROWS_A_DAY = 250_000
BAR_ROWS_PER_SECOND = 15_000

Records = list[tuple[UsageEvent, bytes]]


def make_records(first: int, count: int, total: int, chance: random.Random) -> Records:
    """Calls `first` … of `total`, spread evenly, of many teams with a key each and a few models."""
    start_ms, span_ms = int(START_AT.timestamp() * 1000), total * 86_400_000 // ROWS_A_DAY
    events = []
    for number in range(first, first + count):
        input_tokens, output_tokens = chance.randrange(50, 9000), chance.randrange(1, 900)
        team = int(TEAMS * chance.random() ** 2)  # a few teams make most calls
        model = chance.choice(list(MODELS))
        cached = chance.choice([None, 0, input_tokens // 2])
        began_ms = start_ms + number * span_ms // total
        event = UsageEvent(
            event_id=mint_event_id(began_ms, chance.getrandbits(74)),
            provider_name=MODELS[model],
            operation_name="chat",
            dialect="openai.chat",
            outcome=Outcome.COMPLETED,
            usage_source=UsageSource.REPORTED,
            usage=Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_input_tokens=cached),
            raw_usage={
                "prompt_tokens": input_tokens,
                "completion_tokens": output_tokens,
                "details": {"cached": cached},
            },
            request_model=model,
            response_model=model,
            response_id=f"resp_{chance.getrandbits(96):024x}",
            status=200,
            streamed=True,
            ended_at=START_AT + timedelta(milliseconds=began_ms - start_ms + 1500),
            attribution=Attribution(credential_id=f"key-{team}", team=f"team-{team}", environment="prod"),
        )
        events.append((event, hashlib.sha256(msgspec.json.encode(event)).digest()))
    return events


def measure(engine: Engine, rows: int) -> dict[str, float]:
    """Ship, count, read, verify; seconds spent making events are not counted."""
    source_id, chance = uuid4(), random.Random(1)
    with transaction(engine) as connection:
        source_position(connection, source_id, "benchmark")
    ship_seconds = 0.0
    for first in range(0, rows, BATCH_ROWS):
        records = make_records(first, BATCH_ROWS, rows, chance)
        begun = perf_counter()
        result = ship_batch(engine, source_id, first, first + BATCH_ROWS, records)
        ship_seconds += perf_counter() - begun
        if result.inserted != BATCH_ROWS:
            raise RuntimeError(f"of {BATCH_ROWS} rows {result.inserted} were inserted")
    begun = perf_counter()
    counted = count_all(engine)
    count_seconds = perf_counter() - begun
    with transaction(engine) as connection:
        begun = perf_counter()
        totals = slot_totals(connection, Period("2026-10", START_AT, START_AT + timedelta(days=31)), [])
        read_seconds = perf_counter() - begun
        slots = connection.exec_driver_sql("SELECT count(*) FROM usage_slot").scalar_one()
    begun = perf_counter()
    broken = [check.check for check in run_checks(engine) if not check.holds]
    verify_seconds = perf_counter() - begun
    if broken or sum(total.calls for total in totals) != rows or counted.events != rows:
        raise RuntimeError(f"the books do not balance: {broken or 'totals'}")
    return {
        "rows": rows,
        "ship_rows_per_second": round(rows / ship_seconds),
        "ship_rows_per_second_bar": BAR_ROWS_PER_SECOND,
        "count_rows_per_second": round(rows / count_seconds),
        "slots": slots,
        "month_totals_seconds": round(read_seconds, 3),
        "verify_seconds": round(verify_seconds, 2),
    }


def main() -> None:
    """Measure on an embedded Postgres of its own, which is removed again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help=f"{ROWS_QUICK:,} rows instead of {ROWS:,}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metering-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        with running(Path(folder, "postgres")) as url:
            upgrade(url)
            engine = connect(url)
            figures = measure(engine, ROWS_QUICK if options.quick else ROWS)
            engine.dispose()
    if options.output == "json":
        print(json.dumps(figures, indent=2))
    else:
        for name, figure in figures.items():
            print(f"{name.replace('_', ' '):28} {figure:>12,}")


if __name__ == "__main__":
    main()
