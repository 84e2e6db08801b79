"""How long a sidecar's spool takes to start, whatever it holds: the bar is 2 s.

    python -m benchmarks.startup --output json|table [--quick] [--bytes 10GB]

Each case is a spool as a crash may leave it, and a fresh program that opens it. Old segments are sparse files of their
full size: a start lists them and does not read them. What it reads (the newest ones, damage, open calls) is really
there, and was read into the page cache by nobody but the program that wrote it.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

import msgspec

from benchmarks.spool import call
from metering.sidecar.spool.disk import DISK, sync_file
from metering.sidecar.spool.segment import (
    BOOT_SEQUENCES,
    FINAL,
    OPEN,
    SEGMENT_BYTES,
    Header,
    encode_header,
    encode_line,
    segment_path,
)

BAR_SECONDS = 2.0
SOURCE = UUID("0190c0de-0000-7000-8000-000000000000")
UNITS = {"": 1, "MB": 10**6, "GB": 10**9, "MiB": 1 << 20, "GiB": 1 << 30}

_encode = msgspec.json.Encoder().encode


class Case(msgspec.Struct):
    """What one start took."""

    case: str
    bytes: int
    segments: int
    seconds: float
    cpu_seconds: float  # of them, what the program itself used
    interrupted: int  # calls that got their final
    corrupt: int  # damaged places quarantined
    rss_mb: float


def write_segment(directory: Path, first: int, records: Iterable[tuple[bytes, bytes]]) -> int:
    """A segment of `records` (kind, JSON); the sequence after it."""
    header = Header(source_id=SOURCE, boot_id=SOURCE, after=first - 1, carried=0)
    sequence = first + 1
    with segment_path(directory, first).open("wb") as file:
        file.write(encode_header(first, header))
        for kind, payload in records:
            file.write(encode_line(sequence, kind, payload))
            sequence += 1
    return sequence


def write_sparse(directory: Path, count: int, size: int) -> int:
    """Old segments with a header and a hole; the sequence after them."""
    for number in range(count):
        first = 1 + number * 1_000_000
        write_segment(directory, first, [])
        os.truncate(segment_path(directory, first), size)
    return 1 + count * 1_000_000


def busy(bytes_max: int) -> Iterator[tuple[bytes, bytes]]:
    """Calls opened and finished, a hundred always in flight, until about `bytes_max`."""
    written = 0
    number = 0
    while written < bytes_max:
        opened, final = call(number)
        yield OPEN, _encode(opened)
        if number >= 100:
            _, final = call(number - 100)
            yield FINAL, _encode(final)
        written += 1300
        number += 1


def opens(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Calls opened and never finished."""
    for number in range(count):
        yield OPEN, _encode(call(number)[0])


def garbage(directory: Path, first: int, size: int, kind: str) -> None:
    """A segment of nothing but damage: zeros, noise, or lines of which each has wrong bits."""
    dice = random.Random(7)
    path = segment_path(directory, first)
    with path.open("wb") as file:
        while file.tell() < size:
            if kind == "zeros":
                file.write(bytes(1 << 20))
            elif kind == "noise":
                file.write(dice.randbytes(1 << 20))
            else:
                lines = b"".join(encode_line(number, FINAL, _encode(call(number)[1])) for number in range(1500))
                spoiled = bytearray(lines)
                for at in range(0, len(spoiled), 200):
                    spoiled[at] ^= 0x15
                file.write(spoiled)


def build(directory: Path, name: str, total: int) -> None:
    """One case's spool."""
    directory.mkdir(parents=True)
    (directory / "source.id").write_text(f"{SOURCE}\n")
    if name == "empty":
        return
    if name in ("backlog", "everything"):
        first = write_sparse(directory, total // SEGMENT_BYTES, SEGMENT_BYTES)
    elif name == "5,000 segments":
        first = write_sparse(directory, 5_000, 4096)
    else:
        first = 1
    if name in ("100,000 open calls", "everything"):
        write_segment(directory, first, opens(100_000))
        return
    following = write_segment(directory, first, busy(SEGMENT_BYTES if name == "backlog" else 1 << 20))
    if name.startswith("corrupt"):
        for number in range(16):
            garbage(directory, following + number * BOOT_SEQUENCES, SEGMENT_BYTES, name.rsplit(maxsplit=1)[-1])


CASES = (
    *("empty", "backlog", "5,000 segments", "100,000 open calls", "everything"),
    *("corrupt zeros", "corrupt noise", "corrupt lines"),
)
SLOW_TO_WRITE = ("corrupt zeros", "corrupt noise")
OPEN_IT = """
import json, sys, time
from pathlib import Path
from metering.sidecar.spool.writer import SpoolWriter
begun, cpu = time.perf_counter(), time.process_time()
writer = SpoolWriter.open(Path(sys.argv[1]), max_bytes=1 << 40)
seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
stats = writer.measure()
rss = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps([seconds, cpu, stats.interrupted, stats.corrupt, rss]))
"""


def measure(folder: Path, name: str, total: int) -> Case:
    """Build one case and start on it, in a program of its own."""
    directory = folder / "worker-0"
    build(directory, name, total)
    segments = sorted(directory.glob("*.seg"))
    for path in segments[-20:]:  # what the writer of a spool syncs every 20 ms is no matter of the start
        sync_file(DISK, path)
    size = sum(path.stat().st_size for path in segments)
    run = subprocess.run([sys.executable, "-c", OPEN_IT, str(directory)], capture_output=True, text=True, check=True)
    seconds, cpu, interrupted, corrupt, rss = json.loads(run.stdout)
    shutil.rmtree(directory)
    return Case(name, size, len(segments), round(seconds, 3), round(cpu, 3), interrupted, corrupt, round(rss, 1))


def read_bytes(text: str) -> int:
    """`10GB`, `512MiB` or a number."""
    digits = text.rstrip("GMiB")
    return int(float(digits) * UNITS[text[len(digits) :]])


def main() -> int:
    """Measure and print; 0 if each start is within the bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", choices=("json", "table"), default="table")
    parser.add_argument("--bytes", type=read_bytes, default="10GB", help="of the backlog")
    parser.add_argument("--quick", action="store_true", help="1 GB, and one kind of damage")
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    names = (
        [options.case] if options.case else [name for name in CASES if not options.quick or name not in SLOW_TO_WRITE]
    )
    folder = Path(tempfile.mkdtemp(prefix="metering-startup-", dir="/var/tmp"))
    try:
        cases = [measure(folder, name, 10**9 if options.quick else options.bytes) for name in names]
    finally:
        shutil.rmtree(folder)
    worst = max(one.seconds for one in cases)
    if options.output == "json":
        print(
            json.dumps(
                {"bar_seconds": BAR_SECONDS, "seconds_max": worst, "cases": msgspec.to_builtins(cases)}, indent=2
            )
        )
    else:
        print(
            f"{'case':20} {'MB':>9} {'segments':>9} {'seconds':>8} {'CPU s':>8}"
            f" {'interrupted':>12} {'corrupt':>8} {'RSS MB':>8}"
        )
        for one in cases:
            print(
                f"{one.case:20} {one.bytes / 1e6:>9,.0f} {one.segments:>9,} {one.seconds:>8.3f} {one.cpu_seconds:>8.3f}"
                f" {one.interrupted:>12,} {one.corrupt:>8,} {one.rss_mb:>8.1f}"
            )
    return 0 if worst <= BAR_SECONDS else 5


if __name__ == "__main__":
    sys.exit(main())
