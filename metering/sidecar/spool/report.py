"""A spool told to the person on call: what its segments hold, and what is wrong with them. Reads only."""

import os
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec

from metering.core.event import started_at
from metering.errors import SpoolError, SpoolLocked
from metering.sidecar.ship.status import read_status
from metering.sidecar.spool.lock import lock_directory
from metering.sidecar.spool.quarantine import QUARANTINE
from metering.sidecar.spool.scan import Damage, Harm, scan_segment
from metering.sidecar.spool.segment import (
    FINAL,
    HEADER,
    OPEN,
    Record,
    event_id_of,
    event_key,
    list_segments,
    parse_header,
    spool_error,
)
from metering.sidecar.spool.source_id import read_source_id

MEANINGS = {
    Harm.BIT: "one bit is wrong; the record can be read all the same",
    Harm.NEWLINE: "a line's end is lost; the records can be read all the same",
    Harm.LOST: "no record can be read from these bytes",
    Harm.TORN: "half a record, as a crash leaves it; the next start cuts it off",
}


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong at an offset of a segment."""

    segment: str
    offset: int
    bytes: int
    harm: str  # a `Harm`, or "missing": records that must have stood here are gone
    is_damage: bool  # False for a torn end, which the next start cuts, and for what quarantine already has
    meaning: str


class SegmentReport(msgspec.Struct, kw_only=True):
    """One segment. Times are of the calls: the earliest and latest start."""

    segment: str
    bytes: int
    first_sequence: int | None = None
    last_sequence: int | None = None
    opens: int = 0  # carried copies included
    finals: int = 0
    carried: int | None = None  # None: no readable header
    first_at: datetime | None = None
    last_at: datetime | None = None
    damages: int = 0


class SpoolReport(msgspec.Struct, kw_only=True):
    """One spool."""

    directory: str
    source_id: UUID | None
    in_use: bool  # a writer runs on it
    shipped_position: int | None  # as the shipper last said
    bytes: int = 0
    open_calls: int = 0
    quarantined: int = 0  # files
    segments: list[SegmentReport] = []
    places: list[Place] = []

    @property
    def damages(self) -> list[Place]:
        """What is wrong and not yet quarantined."""
        return [place for place in self.places if place.is_damage]


def find_spools(directory: Path) -> list[Path]:
    """`directory` itself if it is a spool, else the `worker-*` spools in it. `SpoolError` if there are none."""
    try:
        spools = [path for path in sorted(directory.glob("worker-*")) if path.is_dir()]
        if not spools and (list_segments(directory) or read_source_id(directory)):
            return [directory]
    except OSError:
        spools = []
    if not spools:
        raise SpoolError(f"there is no spool in {directory}: name the [spool] dir of the sidecar, or a worker-* in it")
    return spools


def report_spool(directory: Path) -> SpoolReport:
    """Read all of a spool in constant memory; `SpoolError` if it can't be read."""
    status = read_status(directory)
    report = SpoolReport(
        directory=str(directory),
        source_id=read_source_id(directory),
        in_use=_is_in_use(directory),
        shipped_position=status.position if status else None,
    )
    kept = {path.name for path in (directory / QUARANTINE).glob("*")}
    report.quarantined = len(kept)
    open_keys: set[bytes] = set()
    before: _SegmentReading | None = None
    segments = list_segments(directory)
    for path in segments:
        try:
            reading = _SegmentReading(path, kept, is_live=report.in_use and path == segments[-1])
            reading.read(open_keys, before)
        except FileNotFoundError:
            continue  # shipped and retired as we read
        except OSError as error:
            raise spool_error("read", path, error) from None
        report.segments.append(reading.report)
        report.places += reading.places
        report.bytes += reading.report.bytes
        before = reading
    report.open_calls = len(open_keys)
    return report


class _SegmentReading:
    """One segment being read."""

    def __init__(self, path: Path, kept: set[str], *, is_live: bool) -> None:
        self.report = SegmentReport(segment=path.name, bytes=path.stat().st_size)
        self.places: list[Place] = []
        # What is damaged, or was and lies in quarantine now, explains records that are not here.
        self.is_explained = any(name.startswith(path.stem) for name in kept)
        self._path = path
        self._is_live = is_live

    def read(self, open_keys: set[bytes], before: "_SegmentReading | None") -> None:
        """Read it all, behind the segment `before` it if that is still there."""
        for item in scan_segment(self._path):
            if isinstance(item, Damage):
                self._add_damage(item)
                continue
            last = self.report.last_sequence
            if header := parse_header(item):
                self.report.carried = header.carried
                if before is not None and header.after > (before.report.last_sequence or header.after):
                    self._add_missing(item, before.report.last_sequence, header.after, explained=before.is_explained)
            elif last is not None and item.sequence != last + 1:
                self._add_missing(item, last, item.sequence - 1, explained=False)
            self._count(item, open_keys)

    def _count(self, record: Record, open_keys: set[bytes]) -> None:
        report = self.report
        report.first_sequence = report.first_sequence or record.sequence
        report.last_sequence = record.sequence
        if record.kind == HEADER or (key := event_key(record)) is None:
            return
        if record.kind == OPEN:
            report.opens += 1
            open_keys.add(key)
        elif record.kind == FINAL:
            report.finals += 1
            open_keys.discard(key)
        event_id = event_id_of(key)
        if event_id is not None and event_id.version == 7:
            at = started_at(event_id)
            report.first_at = min(report.first_at or at, at)
            report.last_at = max(report.last_at or at, at)

    def _add_damage(self, damage: Damage) -> None:
        self.is_explained = True
        is_torn = damage.harm is Harm.TORN
        if is_torn and self._is_live:
            return  # the writer is in the middle of the line
        self.report.damages += not is_torn
        self.places.append(
            Place(
                segment=self._path.name,
                offset=damage.offset,
                bytes=len(damage.data),
                harm=damage.harm,
                is_damage=not is_torn,
                meaning=MEANINGS[damage.harm],
            )
        )

    def _add_missing(self, record: Record, last: int | None, until: int, *, explained: bool) -> None:
        explained = explained or self.is_explained
        self.report.damages += not explained
        self.places.append(
            Place(
                segment=self._path.name,
                offset=record.offset,
                bytes=0,
                harm="missing",
                is_damage=not explained,
                meaning=f"records {(last or 0) + 1} to {until} are not here",
            )
        )


def _is_in_use(directory: Path) -> bool:
    try:
        os.close(lock_directory(directory))
    except SpoolLocked:
        return True
    return False
