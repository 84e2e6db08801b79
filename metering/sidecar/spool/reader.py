"""Reading a spool behind its writer: batches of finals after a position, in constant memory.

The writer may append, cut back half a line or die at any time; the reader goes by what is on the disk now and
moves on only when told that a batch is settled (`accept`).
"""

from itertools import pairwise
from pathlib import Path

import msgspec

from metering.sidecar.spool.quarantine import QUARANTINE
from metering.sidecar.spool.recovery import open_at_end, read_checkpoint, since_checkpoint
from metering.sidecar.spool.scan import Damage, Harm, Scanner
from metering.sidecar.spool.segment import FINAL, Record, first_sequence_of, list_segments, read_chunks

BATCH_RECORDS = 10_000
BATCH_BYTES = 8 * 1024**2


class Batch(msgspec.Struct):
    """What was read in one go. `position` is the last sequence read; it may lie beyond the last final."""

    position: int
    segment: Path | None = None  # where to go on
    offset: int = 0
    finals: list[tuple[Path, Record]] = []
    finals_bytes: int = 0
    interrupted: int = 0  # how many of the finals are open records whose own final was destroyed
    damages: list[tuple[Path, Damage]] = []

    @property
    def is_full(self) -> bool:
        """Whether more may wait behind it."""
        return len(self.finals) >= BATCH_RECORDS or self.finals_bytes >= BATCH_BYTES


class SpoolReader:
    """Reads the spool in `directory` from behind `position`, the last sequence the ledger has."""

    def __init__(self, directory: Path, position: int) -> None:
        self._directory = directory
        self._position = position
        self._segment: Path | None = None
        self._offset = 0

    def read(self) -> Batch:
        """The next batch; the same again until one is accepted. Empty if nothing new is readable."""
        batch = Batch(self._position)
        segment, offset = self._segment, self._offset
        while True:
            # Listed before reading: once a later segment is there, this one is never written to again.
            segments = list_segments(self._directory)
            segment = segment or self._first(segments)
            if segment is None:
                return batch
            later = [path for path in segments if path > segment]
            offset, ended = _read_segment(segment, offset, batch, sealed=bool(later))
            if not (ended and later):
                break
            _finish_segment([path for path in segments if path <= segment], later, batch)
            segment, offset = later[0], 0
        batch.segment, batch.offset = segment, offset
        return batch

    def accept(self, batch: Batch) -> None:
        """Go on behind `batch`: all its finals are in the ledger."""
        self._position, self._segment, self._offset = batch.position, batch.segment, batch.offset

    def finished_segments(self) -> list[Path]:
        """Segments of which everything is in the ledger and nothing will ever be appended to; none that a writer's
        start or `read` needs to know which calls were open.
        """
        if self._segment is None:
            return []
        segments = [path for path in list_segments(self._directory) if path <= self._segment]
        return segments[: -len(since_checkpoint(segments))] if len(segments) > 1 else []

    def _first(self, segments: list[Path]) -> Path | None:
        """The segment that holds what follows the position."""
        if not segments:
            return None
        for segment, following in pairwise(segments):
            if first_sequence_of(following) > self._position:
                return segment
        return segments[-1]


def _read_segment(segment: Path, offset: int, batch: Batch, *, sealed: bool) -> tuple[int, bool]:
    """Add what stands behind `offset` to the batch; where to go on, and whether that is the file's end."""
    scanner = Scanner(offset)
    try:
        for chunk in read_chunks(segment, offset):
            items = scanner.feed(chunk)
            if not sealed and (changed := _changed_damage(segment, items)) is not None:
                return changed, False
            _take(items, segment, batch)
            if batch.is_full:
                return scanner.offset, False
    except FileNotFoundError:
        return offset, sealed  # removed by hand
    if sealed:
        _take(scanner.finish(), segment, batch)
    return scanner.offset, True


def _changed_damage(segment: Path, items: list[Record | Damage]) -> int | None:
    """Where damage begins that is gone on a second look: the writer cut half a line back as we read it."""
    for item in items:
        if isinstance(item, Damage):
            with segment.open("rb") as file:
                file.seek(item.offset)
                if file.read(len(item.data)) != item.data:
                    # What was read before it comes again; the ledger's position makes that harmless.
                    return items[0].offset
    return None


def _take(items: list[Record | Damage], segment: Path, batch: Batch) -> None:
    mended = False
    for item in items:
        if isinstance(item, Damage):
            batch.damages.append((segment, item))
            mended = item.harm is Harm.BIT
            continue
        if item.sequence > batch.position:
            if item.kind == FINAL:
                batch.finals.append((segment, item))
                batch.finals_bytes += len(item.payload)
            # A mended sequence moves the position only where it fits: a wrong one would hide what follows.
            if not mended or item.sequence == batch.position + 1:
                batch.position = item.sequence
        mended = False


def _finish_segment(segments: list[Path], later: list[Path], batch: Batch) -> None:
    """Give a row to calls whose final was destroyed: they are open at the end of `segments`, yet not carried on.

    Their open record is the row that is true if nobody says more. Later segments are asked too: finals whose
    sync failed are written again there.
    """
    following = read_checkpoint(later[0])
    if following is None:
        return  # nobody can tell which of the open calls are still running: the next segment may
    try:
        needed = since_checkpoint(segments)
        # A power loss may also have taken the end of a segment, or a whole one, and left no trace.
        is_whole = len(needed) == 1 and following.header.after <= batch.position
        if is_whole and not any(_is_damaged(segment, batch) for segment in needed):
            return
        open_payloads = open_at_end(needed)
    except FileNotFoundError:
        return
    for checkpoint in [following, *map(read_checkpoint, later[1:])]:
        for key in checkpoint.carried if checkpoint else ():
            open_payloads.pop(key, None)
    for payload in open_payloads.values():
        batch.finals.append((needed[-1], Record(0, FINAL, payload, 0, 0)))
        batch.finals_bytes += len(payload)
    batch.interrupted += len(open_payloads)


def _is_damaged(segment: Path, batch: Batch) -> bool:
    return any(path == segment for path, _ in batch.damages) or any(
        (segment.parent / QUARANTINE).glob(f"{segment.stem}-*")
    )
