"""What waits in spools for the shipper, told from names, ends of files and a short look: cheap at any size."""

import mmap
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import msgspec

from metering.core.event import started_at
from metering.sidecar.ship.status import ShipTotals, read_status
from metering.sidecar.spool.quarantine import QUARANTINE
from metering.sidecar.spool.segment import (
    BOOT_SEQUENCES,
    FINAL,
    LINE_BYTES_MAX,
    Record,
    first_sequence_of,
    list_segments,
    parse_line,
    segments_bytes,
)

LOOK_RECORDS_MAX = 20_000  # how far the first final is looked for behind the shipped ones


class Backlog(msgspec.Struct, kw_only=True):
    """All spools below one folder."""

    bytes: int = 0  # of all segments, those being written too
    unshipped_records: int = 0  # beginnings and ends of calls; 0 while no call that ended waits
    oldest_unshipped_at: float | None = None  # when the oldest call ended that waits, seconds since 1970
    shipped_at: float = 0.0  # when the ledger last took some
    quarantined: int = 0  # pieces of damage set aside
    totals: dict[str, ShipTotals] = {}  # by spool, as the shipper that runs said


class _Ended(msgspec.Struct):
    event_id: UUID
    ended_at: datetime | None = None


_decode = msgspec.json.Decoder(_Ended).decode


def measure_backlog(spool_dir: Path) -> Backlog:
    """Look at every spool below `spool_dir`. What is retired or damaged meanwhile is left out."""
    backlog = Backlog()
    spools = sorted(spool_dir.glob("worker-*"))
    for directory in (spool_dir, *spools):
        if (status := read_status(directory)) is not None:
            backlog.totals[directory.name] = status.totals
            backlog.shipped_at = max(backlog.shipped_at, status.shipped_at)
    for directory in spools:
        try:
            _look(directory, backlog)
        except OSError:
            continue
    return backlog


def _look(directory: Path, backlog: Backlog) -> None:
    status = read_status(directory)
    position = status.position if status else 0
    backlog.bytes += segments_bytes(directory)
    backlog.quarantined += sum(1 for _ in (directory / QUARANTINE).glob("*"))
    segments = list_segments(directory)
    waiting, oldest, looked = 0, None, 0
    for segment, following in pairwise([*segments, None]):
        if segment is None or (following is not None and first_sequence_of(following) <= position + 1):
            continue
        last = _last_sequence(segment, following)
        waiting += max(0, last - max(position, first_sequence_of(segment) - 1))
        if oldest is None and looked < LOOK_RECORDS_MAX:
            oldest, seen = _first_end(segment, position, LOOK_RECORDS_MAX - looked)
            looked += seen
    if oldest is not None:
        backlog.unshipped_records += waiting
        backlog.oldest_unshipped_at = min(backlog.oldest_unshipped_at or oldest, oldest)


def _last_sequence(segment: Path, following: Path | None) -> int:
    """Sequences run on over segments, except at a writer's start."""
    first = first_sequence_of(segment)
    if following is not None and first_sequence_of(following) // BOOT_SEQUENCES == first // BOOT_SEQUENCES:
        return first_sequence_of(following) - 1
    with segment.open("rb") as file:
        file.seek(max(0, segment.stat().st_size - LINE_BYTES_MAX))
        for line in reversed(file.read().split(b"\n")[:-1]):
            if (record := parse_line(line, 0)) is not None:
                return record.sequence
    return first - 1


def _first_end(segment: Path, position: int, records_max: int) -> tuple[float | None, int]:
    """When the first call behind `position` ended, if its final is near; and how many records were read."""
    if segment.stat().st_size == 0:
        return None, 0
    seen = 0
    with segment.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = _find(data, position)
        while at < len(data) and seen < records_max:
            end = data.find(b"\n", at)
            if end < 0:
                break
            seen += 1
            record = parse_line(data[at:end], at)
            if record is not None and record.kind == FINAL and record.sequence > position:
                return _ended_at(record), seen
            at = end + 1
    return None, seen


def _find(data: mmap.mmap, position: int) -> int:
    """Where a line begins that isn't behind the first record after `position`: by halving, for they are in order."""
    low, high = 0, len(data)
    while high - low > LINE_BYTES_MAX // 16:
        middle = (low + high) // 2
        start = data.find(b"\n", middle, high) + 1
        end = data.find(b"\n", start) if start else -1
        record = parse_line(data[start:end], start) if end > 0 else None
        if record is None or record.sequence > position:
            high = middle
        else:
            low = start
    return low


def _ended_at(record: Record) -> float | None:
    try:
        event = _decode(record.payload)
        return (event.ended_at or started_at(event.event_id)).timestamp()
    except (msgspec.DecodeError, ValueError):
        return None
