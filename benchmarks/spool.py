"""What the spool costs: CPU of a call's two records, start-up behind a backlog, records shipped per second.

    python -m benchmarks.spool --output json|table [--quick]

CPU is user + system time of the process, group syncs on (a sync every 20 ms in its thread). Shipping goes to an
embedded Postgres of its own with fsync on, from a spool that was written before. Figures are medians of rounds.
"""

import argparse
import asyncio
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from metering.core.event import Attribution, Outcome, UsageEvent, mint_event_id
from metering.core.usage import Usage, UsageSource
from metering.ledger import migrate
from metering.ledger.embedded import running
from metering.sidecar.ship.shipper import run_shipper
from metering.sidecar.spool.segment import list_segments
from metering.sidecar.spool.writer import SpoolWriter

START_MS = 1_790_000_000_000
RAW_USAGE = {
    "prompt_tokens": 812,
    "completion_tokens": 100,
    "total_tokens": 912,
    "prompt_tokens_details": {"cached_tokens": 512, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 40, "audio_tokens": 0},
}


def call(number: int) -> tuple[UsageEvent, UsageEvent]:
    """The open and the final record of one call, as large as real ones."""
    opened = UsageEvent(
        event_id=mint_event_id(START_MS + number, number),
        provider_name="openai",
        operation_name="chat",
        dialect="openai.chat",
        outcome=Outcome.INTERRUPTED,
        usage_source=UsageSource.UNKNOWN,
        request_model="gpt-4o",
        deployment="eu",
        attribution=Attribution(credential_id="search-prod", team="search", project="ranking", environment="prod"),
    )
    final = UsageEvent(
        event_id=opened.event_id,
        provider_name="openai",
        operation_name="chat",
        dialect="openai.chat",
        outcome=Outcome.COMPLETED,
        usage_source=UsageSource.REPORTED,
        usage=Usage(input_tokens=812, output_tokens=100, cache_read_input_tokens=512, reasoning_output_tokens=40),
        raw_usage=RAW_USAGE,
        request_model="gpt-4o",
        response_model="gpt-4o-2024-11-20",
        response_id=f"chatcmpl-{number:020d}",
        deployment="eu",
        service_tier="default",
        status=200,
        request_bytes=2048,
        response_bytes=1024,
        attribution=opened.attribution,
    )
    return opened, final


def append_cpu_us(directory: Path, calls: int) -> tuple[float, int]:
    """CPU µs of `append_open` + `append_final`, in bursts of 50 calls between turns of the loop; bytes a call."""
    events = [call(number) for number in range(calls)]

    async def append() -> float:
        writer = SpoolWriter.open(directory)
        writer.start_syncing(asyncio.get_running_loop())
        begun = time.process_time()
        for at, (opened, final) in enumerate(events):
            writer.append_open(opened)
            writer.append_final(final)
            if at % 50 == 49:
                await asyncio.sleep(0)
        used = time.process_time() - begun
        writer.close()
        return used

    used = asyncio.run(append())
    size = sum(segment.stat().st_size for segment in list_segments(directory))
    return used / calls * 1e6, size // calls


def write_backlog(directory: Path, calls: int) -> None:
    """A spool as a long outage of the ledger leaves it, the writer killed with calls in flight."""
    writer = SpoolWriter.open(directory)
    for number in range(calls):
        opened, final = call(number)
        writer.append_open(opened)
        if number < calls - 100:
            writer.append_final(final)
    writer.close()


def start_seconds(directory: Path) -> float:
    """How long a writer takes to recover and be ready."""
    begun = time.perf_counter()
    writer = SpoolWriter.open(directory)
    seconds = time.perf_counter() - begun
    writer.close()
    return seconds


def ship(folder: Path, calls: int) -> dict[str, float]:
    """Ship `calls` records to a fresh embedded Postgres; rows a second of wall-clock time, and memory gained."""
    write_backlog(folder / "spool" / "worker-0", calls)
    SpoolWriter.open(folder / "spool" / "worker-0").close()
    with running(folder / "postgres") as url:
        migrate.upgrade(url)
        before = resource.getrusage(resource.RUSAGE_SELF)
        begun = time.perf_counter()
        totals = run_shipper(folder / "spool", url, once=True)
        seconds = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "ship_records": totals.inserted,
        "ship_rows_per_second": round(totals.inserted / seconds, 0),
        "ship_cpu_us_per_row": round(cpu / totals.inserted * 1e6, 1),
        "ship_rss_gained_mb": round((after.ru_maxrss - before.ru_maxrss) / 1024, 1),
    }


def measure(*, quick: bool) -> dict[str, float]:
    """All figures."""
    calls, rounds = (10_000, 3) if quick else (50_000, 7)
    folder = Path(tempfile.mkdtemp(prefix="metering-benchmark-", dir="/var/tmp"))
    folder.chmod(0o711)  # under root Postgres runs as another user
    try:
        appends = [append_cpu_us(folder / f"append-{turn}", calls) for turn in range(rounds)]
        backlog = folder / "backlog"
        write_backlog(backlog, 60_000 if quick else 250_000)
        size = sum(segment.stat().st_size for segment in list_segments(backlog))
        return {
            "append_pair_cpu_us": round(statistics.median(cost for cost, _ in appends), 2),
            "bytes_per_call": appends[0][1],
            "backlog_mb": round(size / 1e6, 1),
            "start_seconds": round(start_seconds(backlog), 3),
            **ship(folder, 40_000 if quick else 300_000),
        }
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help="under 50 s")
    arguments = parser.parse_args()
    figures = measure(quick=arguments.quick)
    if arguments.output == "json":
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:24} {value:>12,}")


if __name__ == "__main__":
    main()
