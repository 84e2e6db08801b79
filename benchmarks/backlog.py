"""A backlog, as a long outage of the ledger leaves it, drained into a real Postgres in constant memory.

    python -m benchmarks.backlog --output json|table [--quick] [--bytes 10GB]

A spool is filled through the writer, then a shipper of its own process (`metering ship --once`'s code) drains it while
its memory is looked at twice a second. Each call must be one row, and the checks of the books empty.
`--bytes` is of the spool: about 1.1 kB a call. Postgres takes about as much again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.spool import call
from benchmarks.startup import read_bytes
from benchmarks.workshop import Workshop, open_workshop
from metering.lab.programs import run_command
from metering.sidecar.spool.segment import segments_bytes
from metering.sidecar.spool.writer import SpoolWriter

QUICK_BYTES = 100_000_000
LOOK_SECONDS = 0.5
SHIP_IT = """
import sys
from pathlib import Path
from metering.sidecar.ship.shipper import run_shipper
print(run_shipper(Path(sys.argv[1]), sys.argv[2], once=True).records)
"""


def fill(directory: Path, size: int) -> int:
    """Finished calls, until the segments take `size` bytes; how many."""
    writer = SpoolWriter.open(directory, max_bytes=2 * size + (1 << 30))
    number = 0
    while number % 1000 or segments_bytes(directory) < size:
        opened, final = call(number)
        writer.append_open(opened)
        writer.append_final(final)
        number += 1
    writer.close()
    return number


def resident_mb(pid: int) -> float:
    """What a process holds in memory now; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024 if "VmRSS:" in status else 0.0


def drain(workshop: Workshop, spool: Path) -> tuple[int, float, list[float]]:
    """Ship it all: records, seconds, and the shipper's memory in MB twice a second."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", SHIP_IT, str(spool), workshop.database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shipper:
        memory: list[float] = []
        while shipper.poll() is None:
            memory.append(resident_mb(shipper.pid))
            time.sleep(LOOK_SECONDS)
        out, _ = shipper.communicate()
    return int(out), time.perf_counter() - begun, memory


def measure(size: int) -> dict[str, Any]:
    """Fill, drain, compare."""
    with open_workshop("metering-backlog-") as workshop:
        run_command(["migrate"], workshop.stack.environ)
        spool = workshop.folder / "spool"
        calls = fill(spool / "worker-0", size)
        taken = segments_bytes(spool / "worker-0")
        records, seconds, memory = drain(workshop, spool)
        ((rows,),) = workshop.rows("SELECT count(*) FROM usage_event")
        broken = workshop.broken_checks()
        left = segments_bytes(spool / "worker-0")
    return {
        "spool_mb": round(taken / 1e6, 1),
        "spool_left_mb": round(left / 1e6, 1),
        "calls": calls,
        "records": records,
        "rows": rows,
        "equal": calls == records == rows and not broken,
        "verify": broken or "empty",
        "seconds": round(seconds, 1),
        "events_per_second": round(records / seconds),
        "rss_mb_max": round(max(memory), 1),
        "rss_mb_first_half_max": round(max(memory[: len(memory) // 2 + 1]), 1),
        "rss_mb_second_half_max": round(max(memory[len(memory) // 2 :]), 1),
    }


def main() -> int:
    """Measure and print; 0 if each call is a row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backlog", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", choices=("json", "table"), default="table")
    parser.add_argument("--bytes", type=read_bytes, default="1GB", help="of the spool, such as 10GB")
    parser.add_argument("--quick", action="store_true", help="100 MB")
    options = parser.parse_args()
    found = measure(QUICK_BYTES if options.quick else options.bytes)
    if options.output == "json":
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:24} {value!s:>14}")
    return 0 if found["equal"] else 5


if __name__ == "__main__":
    sys.exit(main())
