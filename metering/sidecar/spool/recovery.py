"""What a starting writer must know of the spool it finds, read in time that the backlog's size doesn't change.

A segment begins with copies of all calls then open, so the newest one tells everything; an older one is read
only where the newest one's beginning is damaged or was never written to its end.
"""

import os
from pathlib import Path
from uuid import UUID

import msgspec

from metering.sidecar.spool.disk import Disk, sync_file
from metering.sidecar.spool.quarantine import set_aside
from metering.sidecar.spool.scan import Damage, Harm, scan_segment
from metering.sidecar.spool.segment import (
    BOOT_EPOCH,
    BOOT_SEQUENCES,
    BOOTS_MAX,
    FINAL,
    OPEN,
    Header,
    Record,
    event_key,
    first_sequence_of,
    list_segments,
    parse_header,
)
from metering.sidecar.spool.segment_file import UNNAMED

# A start that had to read more would keep traffic waiting for longer than 2 s.
NEEDED_SEGMENTS_MAX = 16
NEEDED_BYTES_MAX = 128 * 1024**2
DAMAGED_BYTES_MAX = 4 * 1024**2
LOOKS_MAX = 100  # each but the last met a segment that was shipped and gone before it was read
UNSYNCED_SEGMENTS_MAX = 8  # more than a writer fills between two syncs


class Checkpoint(msgspec.Struct, frozen=True):
    """The beginning of a segment: its header and the ids of the records carried into it."""

    header: Header
    carried: frozenset[bytes]


class Found(msgspec.Struct):
    """A spool as a crash left it. Where reading it would take too long it has no `open_payloads`: whoever ships it
    reads it all, and gives a row to each call that nobody finished.
    """

    next_sequence: int
    last_sequence: int  # the highest that can be read, 0 if none
    open_payloads: dict[bytes, bytes]  # calls without a final record: the JSON of their last open record
    source_id: UUID | None  # as the newest readable header says
    corrupt_records: int
    cut_bytes: int
    synced: bool = True  # whether it is on the disk


def recover(directory: Path, disk: Disk, now: float) -> Found:
    """Read the newest segments, cut a torn tail, keep what is damaged in quarantine.

    The caller holds the directory's lock; `now` is the time in seconds since 1970. `OSError` if the directory can't
    be read.
    """
    for unnamed in directory.glob(f"*{UNNAMED}"):
        disk.unlink(unnamed)
    for _ in range(LOOKS_MAX):
        try:
            return _read(directory, disk, now)
        except FileNotFoundError:
            # The shipper retires what it has shipped meanwhile; what such a segment left open stands in the next one.
            continue
    return _read(directory, disk, now)


def _read(directory: Path, disk: Disk, now: float) -> Found:
    segments = list_segments(directory)
    found = Found(_next_boot(segments, now), 0, {}, None, 0, 0, synced=_sync_newest(disk, segments))
    if segments:
        found.last_sequence = first_sequence_of(segments[-1]) - 1
    for segment in since_checkpoint(_newest(segments)):
        if not _read_segment(disk, segment, found):
            found.open_payloads = {}
            break
    if found.next_sequence <= found.last_sequence:  # a file was renamed by hand
        found.next_sequence = (found.last_sequence // BOOT_SEQUENCES + 1) * BOOT_SEQUENCES
    return found


def read_checkpoint(segment: Path) -> Checkpoint | None:
    """The beginning of `segment`; None where any of it is unreadable or missing."""
    header: Header | None = None
    carried: set[bytes] = set()
    records = 0
    for item in scan_segment(segment):
        if isinstance(item, Damage):
            if item.harm in (Harm.LOST, Harm.TORN):
                return None
        elif header is None:
            header = parse_header(item)
            if header is None:
                return None
        else:
            key = event_key(item)
            if key is None:
                return None
            carried.add(key)
            records += 1
        if header is not None and records == header.carried:
            return Checkpoint(header, frozenset(carried))
    return None


def open_at_end(segments: list[Path]) -> dict[bytes, bytes]:
    """Calls that `segments` open and do not finish: the JSON of their last open record."""
    open_payloads: dict[bytes, bytes] = {}
    for segment in segments:
        for item in scan_segment(segment):
            if isinstance(item, Record):
                _apply(item, open_payloads)
    return open_payloads


def since_checkpoint(segments: list[Path]) -> list[Path]:
    """The newest of `segments`, back to one whose beginning is whole: they tell which calls are open at the end."""
    for at in range(len(segments) - 1, -1, -1):
        if read_checkpoint(segments[at]) is not None:
            return segments[at:]
    return segments


def _next_boot(segments: list[Path], now: float) -> int:
    if not segments:
        return 1
    following = first_sequence_of(segments[-1]) // BOOT_SEQUENCES + 1
    return max(following, min(int(now) - BOOT_EPOCH, BOOTS_MAX)) * BOOT_SEQUENCES


def _newest(segments: list[Path]) -> list[Path]:
    """As many of the newest segments as a start has the time to read."""
    size = 0
    newest = segments[-NEEDED_SEGMENTS_MAX:]
    for at in range(len(newest) - 1, -1, -1):
        size += newest[at].stat().st_size
        if size > NEEDED_BYTES_MAX:
            return newest[at + 1 :]
    return newest


def _sync_newest(disk: Disk, segments: list[Path]) -> bool:
    """Make durable what a killed writer had no time to; nobody else would. False if the disk refuses."""
    synced = True
    for segment in segments[-UNSYNCED_SEGMENTS_MAX:]:
        try:
            sync_file(disk, segment)
        except OSError:
            synced = False
    return synced


def _read_segment(disk: Disk, segment: Path, found: Found) -> bool:
    """Follow the calls through a segment and cut its torn tail; False if it is damaged beyond reading now."""
    damaged_bytes = 0
    for item in scan_segment(segment):
        if isinstance(item, Damage):
            damaged_bytes += len(item.data)
            if item.harm is Harm.TORN and _cut_off(disk, segment, item):
                found.cut_bytes += len(item.data)
            else:
                # It stays where it is: readers step over it, and the shipper takes the time to quarantine it.
                found.corrupt_records += 1
            if damaged_bytes > DAMAGED_BYTES_MAX:
                return False
            continue
        found.last_sequence = max(found.last_sequence, item.sequence)
        if header := parse_header(item):
            found.source_id = header.source_id
        elif not _apply(item, found.open_payloads):
            found.corrupt_records += 1
    return True


def _cut_off(disk: Disk, segment: Path, damage: Damage) -> bool:
    """Move a torn tail to quarantine; False where a full disk or a read-only file refuses."""
    try:
        set_aside(disk, segment, damage.offset, damage.harm, damage.data)
        _cut(disk, segment, damage.offset)
    except OSError:
        return False
    return True


def _cut(disk: Disk, segment: Path, offset: int) -> None:
    fd = disk.open(segment, os.O_WRONLY)
    try:
        disk.ftruncate(fd, offset)
    finally:
        disk.close(fd)


def _apply(record: Record, open_payloads: dict[bytes, bytes]) -> bool:
    """Follow a call from open to final; False if the record doesn't say whose it is."""
    if record.kind not in (OPEN, FINAL):
        return True
    key = event_key(record)
    if key is None:
        return False
    if record.kind == OPEN:
        open_payloads[key] = record.payload
    else:
        open_payloads.pop(key, None)
    return True
