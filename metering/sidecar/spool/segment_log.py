"""An endless log of records over segments: sequences, rotation with carry, and what a failed sync costs.

It raises `OSError` as the disk does; what that means for a call is the writer's matter (`spool.py`).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import UUID
from zlib import crc32

from metering.errors import SpoolError
from metering.sidecar.spool.disk import Disk
from metering.sidecar.spool.group_sync import SyncJob
from metering.sidecar.spool.scan import scan_segment
from metering.sidecar.spool.segment import (
    FINAL,
    LINE_BYTES_MAX,
    LINE_ROOM,
    OPEN,
    Header,
    Record,
    encode_header,
    encode_line,
    first_sequence_of,
    list_segments,
)
from metering.sidecar.spool.segment_file import SegmentFile

# Finals kept in memory until a sync is begun that covers them, and as many again until it ends: at 1 kB each,
# 32 MB. Past that a failed sync reads them back.
UNSYNCED_FINALS_MAX = 16_384


class SegmentLog:
    """Appends records, each under the next sequence. `carry` gives the JSON of all calls open now."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        directory_fd: int,
        segment_bytes: int,
        carry: Callable[[], Iterable[bytes]],
    ) -> None:
        self.last = 0  # sequence of the last record written
        self.synced = 0  # sequence up to which all records are on the disk
        self.bytes = 0  # written since it was made
        self.rotations = 0
        self.dirty = False  # something was written since the last job was taken
        self.wake: Callable[[], None] | None = None  # called when it becomes dirty
        self._disk = disk
        self._directory = directory
        self._directory_fd = directory_fd
        self._segment_bytes = segment_bytes
        self._carry = carry
        self._source_id = self._boot_id = UUID(int=0)
        self._next = 1
        self._counted_from = 1  # the sequences since then are records or `_copies`
        self._copies = 0
        self._active: SegmentFile | None = None
        self._limit = 0  # size at which the active segment is full
        self._sealed: list[int] = []  # descriptors of full segments that no sync covers yet
        self._names_changed = False
        self._finals: list[bytes] = []  # JSON of finals since the last job was taken; the job has those before
        self._finals_dropped = False
        self.must_rewrite = False  # `_finals` are to begin the next segment: those of a failed sync, or of a start

    def begin(self, next_sequence: int, last: int, source_id: UUID, boot_id: UUID, finals: list[bytes]) -> None:
        """Go on after what an earlier writer left; the first segment begins with `finals` (JSON)."""
        self._next, self.last, self.synced = next_sequence, last, next_sequence - 1
        self._counted_from = next_sequence
        self._source_id, self._boot_id = source_id, boot_id
        self._finals, self.must_rewrite = finals, bool(finals)

    def write(self, kind: bytes, payload: bytes) -> int:
        """Append one record; its sequence. `OSError`, or `SpoolError` if no reader would take a line so long for a
        record: it was not written.
        """
        sequence = self._next
        line = encode_line(sequence, kind, payload)
        active = self._active
        if active is None or active.size + len(line) > self._limit or len(line) > LINE_BYTES_MAX:
            return self._write_elsewhere(kind, payload)
        active.append(line)
        self._account(1, len(line), [payload] if kind == FINAL else [])
        return sequence

    def write_turn(self, payloads: list[bytes], opened: int) -> int:
        """Append the records of many calls in one write, the first `opened` of them open records; how many are written:
        none if the segment has no room for them, and as many as the disk takes if that is fewer.
        """
        # `encode_line` says the same line. The relay comes here with cold caches, where each call in Python counts.
        sequence = self._next
        lines: list[bytes] = []
        for payload in payloads:
            body = (b"%d O %b" if len(lines) < opened else b"%d F %b") % (sequence, payload)
            lines.append(b"%08x %b\n" % (crc32(body), body))
            sequence += 1
        data = b"".join(lines)
        active, written = self._active, len(lines)
        if active is None or active.size + len(data) > self._limit or max(map(len, lines)) > LINE_BYTES_MAX:
            return 0
        size = active.append_lines(data)
        if size != len(data):
            written = data.count(b"\n", 0, size)
            self.seal_broken()
        if written:
            self._account(written, size, payloads[opened:written])
        return written

    def _account(self, records: int, size: int, finals: list[bytes]) -> None:
        self.bytes += size
        self._next += records
        self.last = self._next - 1
        self._finals += finals
        if len(self._finals) > UNSYNCED_FINALS_MAX:
            self._finals.clear()
            self._finals_dropped = True
        if not self.dirty:
            self._mark_dirty()

    @property
    def records(self) -> int:
        """How many were written, without headers and copies."""
        return self._next - self._counted_from - self._copies

    def rotate(self) -> SegmentFile:
        """Begin a new segment with copies of what must not be forgotten; seal the old one.

        If it can't be begun the old segment stays the active one.
        """
        finals = self._read_finals() if self.must_rewrite else []
        opens = list(self._carry())
        first = self._next
        header = Header(
            source_id=self._source_id, boot_id=self._boot_id, after=self.last, carried=len(opens) + len(finals)
        )
        records = [(OPEN, payload) for payload in opens] + [(FINAL, payload) for payload in finals]
        lines = [encode_header(first, header)]
        lines += [encode_line(first + 1 + at, kind, payload) for at, (kind, payload) in enumerate(records)]
        self._next = first + len(lines)
        self._copies += len(lines)
        segment = SegmentFile.create(self._disk, self._directory, first, b"".join(lines))
        self.seal()
        self._active = segment
        # A carry larger than a segment must not make every record rotate.
        self._limit = max(self._segment_bytes, 2 * segment.size)
        self._names_changed = True
        self.last = self._next - 1
        self.bytes += segment.size
        self.rotations += 1
        if self.must_rewrite:
            self._finals = finals
            self.must_rewrite = self._finals_dropped = False
        self._mark_dirty()
        return segment

    def seal(self) -> None:
        """Write no more to the active segment."""
        if self._active is not None:
            self._sealed.append(self._active.fd)
            self._active = None

    def seal_broken(self) -> None:
        """Seal the active segment if it ends in half a line."""
        if self._active is not None and self._active.broken:
            self.seal()

    def take_job(self) -> SyncJob:
        """What a sync must cover now. Sealed descriptors go with the job."""
        sealed, self._sealed = self._sealed, []
        fds = sealed if self._active is None else [*sealed, self._active.fd]
        names_fd = self._directory_fd if self._names_changed else None
        self._names_changed = self.dirty = False
        if self.must_rewrite:  # while finals of a failed sync are not written anew, no later sync covers them
            return SyncJob(self._disk, fds, sealed, names_fd, self.synced)
        job = SyncJob(self._disk, fds, sealed, names_fd, self.last, self._finals, self._finals_dropped)
        self._finals, self._finals_dropped = [], False
        return job

    def take_back(self, job: SyncJob, *, failed: bool) -> None:
        """Account for an ended job. After a failure the active segment is sealed: a file whose sync failed is
        never written or synced again.
        """
        for fd in job.sealed:
            self._disk.close(fd)
        if not failed:
            self.synced = max(self.synced, job.upto)
            return
        self._finals = job.finals + self._finals
        self._finals_dropped = self._finals_dropped or job.finals_dropped
        self._names_changed = self._names_changed or job.directory_fd is not None
        self.must_rewrite = True
        for fd in self._sealed:
            self._disk.close(fd)
        self._sealed = []
        if self._active is not None:
            self._disk.close(self._active.fd)
            self._active = None

    def close(self) -> None:
        """Close all files, synced or not."""
        self.seal()
        for fd in self._sealed:
            self._disk.close(fd)
        self._sealed = []

    def _write_elsewhere(self, kind: bytes, payload: bytes) -> int:
        if len(payload) + LINE_ROOM > LINE_BYTES_MAX:
            raise SpoolError("an event of more than a megabyte is no usage event: report this call's dialect and route")
        active = self.rotate()
        self._limit = max(self._limit, active.size + len(payload) + LINE_ROOM)  # one record always fits
        return self.write(kind, payload)

    def _mark_dirty(self) -> None:
        self.dirty = True
        if self.wake is not None:
            self.wake()

    def _read_finals(self) -> list[bytes]:
        """The finals that may not have reached the disk: from memory, or back from the files if too many."""
        if not self._finals_dropped:
            return self._finals
        payloads: list[bytes] = []
        segments = list_segments(self._directory)
        for segment, later in zip(segments, [*segments[1:], None], strict=True):
            if later is not None and first_sequence_of(later) <= self.synced:
                continue
            records = [item for item in scan_segment(segment) if isinstance(item, Record) and item.kind == FINAL]
            payloads += [record.payload for record in records if record.sequence > self.synced]
        return payloads
