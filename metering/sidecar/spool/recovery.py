"""What a starting writer must know of the spool it finds, read in time that the backlog's size doesn't change.

A segment begins with copies of all calls then open, so the newest one tells everything; an older one is read
only where the newest one's beginning is damaged or was never written to its end.
"""

import os
from pathlib import Path
from uuid import UUID

import msgspec

from metering.sidecar.spool.disk import Disk
from metering.sidecar.spool.quarantine import set_aside
from metering.sidecar.spool.scan import Damage, Harm, scan_segment
from metering.sidecar.spool.segment import (
    BOOT_SEQUENCES,
    FINAL,
    OPEN,
    Header,
    Record,
    event_id_of,
    event_key,
    first_sequence_of,
    list_segments,
    parse_header,
)


class Checkpoint(msgspec.Struct, frozen=True):
    """The beginning of a segment: its header and the ids of the records carried into it."""

    header: Header
    carried: frozenset[bytes]


class Found(msgspec.Struct):
    """A spool as a crash left it."""

    next_sequence: int
    last_sequence: int  # the highest that can be read, 0 if none
    open_payloads: dict[UUID, bytes]  # calls without a final record: the JSON of their last open record
    source_id: UUID | None  # as the newest readable header says
    corrupt_records: int
    cut_bytes: int


def recover(directory: Path, disk: Disk) -> Found:
    """Read the newest segments, cut a torn tail, keep what is damaged in quarantine.

    The caller holds the directory's lock. `OSError` if the directory can't be read.
    """
    segments = list_segments(directory)
    found = Found(_next_boot(segments), 0, {}, None, 0, 0)
    open_payloads: dict[bytes, bytes] = {}
    for segment in _needed(segments):
        _read_segment(disk, segment, found, open_payloads)
        found.last_sequence = max(found.last_sequence, first_sequence_of(segment) - 1)
    for key, payload in open_payloads.items():
        if event_id := event_id_of(key):
            found.open_payloads[event_id] = payload
        else:
            found.corrupt_records += 1
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


def open_at_end(segment: Path) -> dict[bytes, bytes]:
    """Calls that `segment` opens and does not finish: the JSON of their last open record."""
    open_payloads: dict[bytes, bytes] = {}
    for item in scan_segment(segment):
        if isinstance(item, Record):
            _apply(item, open_payloads)
    return open_payloads


def _next_boot(segments: list[Path]) -> int:
    if not segments:
        return 1
    return (first_sequence_of(segments[-1]) // BOOT_SEQUENCES + 1) * BOOT_SEQUENCES


def _needed(segments: list[Path]) -> list[Path]:
    """The newest segments, back to one whose beginning is whole; oldest first."""
    needed: list[Path] = []
    for segment in reversed(segments):
        needed.append(segment)
        if read_checkpoint(segment) is not None:
            break
    return needed[::-1]


def _read_segment(disk: Disk, segment: Path, found: Found, open_payloads: dict[bytes, bytes]) -> None:
    for item in scan_segment(segment):
        if isinstance(item, Damage):
            _set_aside(disk, segment, item, found)
            continue
        found.last_sequence = max(found.last_sequence, item.sequence)
        if header := parse_header(item):
            found.source_id = header.source_id
        elif not _apply(item, open_payloads):
            found.corrupt_records += 1


def _set_aside(disk: Disk, segment: Path, damage: Damage, found: Found) -> None:
    torn = damage.harm is Harm.TORN
    try:
        set_aside(disk, segment, damage.offset, damage.harm, damage.data)
        if torn:
            _cut(disk, segment, damage.offset)
    except OSError:
        # A full disk or a read-only file must not stop traffic: the bytes stay where they are, readers step
        # over them, and nothing is ever appended behind them.
        torn = False
    if torn:
        found.cut_bytes += len(damage.data)
    else:
        found.corrupt_records += 1


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
