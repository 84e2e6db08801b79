"""The spool's writer: each record is in its file when `append_*` returns, and on the disk 20 ms later.

One writer per directory and per process, used from one thread. A call's *open* record is kept in memory until
its *final* is written, so memory is bounded by the calls in flight. Nothing here waits for a sync.
"""

import time
import uuid
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import msgspec

from metering.core.event import UsageEvent
from metering.errors import SpoolError, SpoolFull
from metering.sidecar.spool.disk import DISK, Disk
from metering.sidecar.spool.group_sync import GroupSync, SyncJob, run_job
from metering.sidecar.spool.lock import lock_directory
from metering.sidecar.spool.recovery import Found, recover
from metering.sidecar.spool.room import FINAL_BYTES, FULL_ERRORS, Room
from metering.sidecar.spool.segment import FINAL, OPEN, SEGMENT_BYTES, spool_error
from metering.sidecar.spool.segment_log import SegmentLog
from metering.sidecar.spool.source_id import settle_source_id

MAX_BYTES = 10 * 1024**3
RETRY_SECONDS = 1.0  # how often what the disk refused is tried again without traffic

_encode = msgspec.json.Encoder().encode


class SpoolStats(msgspec.Struct, kw_only=True):
    """A writer's counters since it was opened, for metrics."""

    records: int  # open and final records written
    bytes: int  # what all segments take
    bytes_max: int
    segments_begun: int
    open_calls: int
    unsynced: int  # records that no sync covers yet
    syncs: int
    syncs_failed: int
    corrupt: int  # damaged places found at the start
    cut_bytes: int  # torn off the end at the start; quarantined
    interrupted: int  # calls of a former run that were given a final record at the start
    refused: int  # records not written for want of space or because the disk refused them
    deferred: int  # finals held in memory until the disk takes them
    degraded: bool
    full: bool  # no new call fits


class SpoolWriter:
    """Appends one worker's records. Made by `open`."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        lock_fd: int,
        segment_bytes: int,
        max_bytes: int,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._lock_fd = lock_fd
        self._source_id = UUID(int=0)
        self._open: dict[int, bytes] = {}  # event id → JSON of its last open record
        self._promised = 0  # bytes: a copy of each open record (rotation carries them), and their finals
        self._log = SegmentLog(disk, directory, lock_fd, segment_bytes, self._open.values)
        self._room = Room(directory, max_bytes, clock)
        self._wall_clock = wall_clock
        self._deferred: dict[int, bytes] = {}  # event id → JSON of a final that the disk refused
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._loop: AbstractEventLoop | None = None
        self._sync: GroupSync | None = None
        self._sync_failures = 0  # in a row
        self._found = Found(1, 0, {}, None, 0, 0)
        self._refused = self._syncs = self._syncs_failed = 0

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        disk: Disk = DISK,
    ) -> "SpoolWriter":
        """Lock and recover the spool in `directory`: afterwards every call of a former run has its final.

        `SpoolLocked` or `SpoolError`, with what to do. On a full disk it opens all the same, and appends raise
        `SpoolFull` until there is space. `clock` gives seconds, `wall_clock` those since 1970.
        """
        writer = cls(disk, directory, lock_directory(directory, disk), segment_bytes, max_bytes, clock, wall_clock)
        try:
            writer._begin()
        except OSError as error:
            writer._release()
            raise spool_error("recover spool", directory, error) from None
        except BaseException:
            writer._release()
            raise
        return writer

    @property
    def source_id(self) -> UUID:
        """Who this spool is to the ledger."""
        return self._source_id

    @property
    def degraded(self) -> bool:
        """Whether the last sync failed or the disk refused a final: a power loss now may cost certainty."""
        return bool(self._sync_failures or self._log.must_rewrite or self._deferred)

    @property
    def last_sequence(self) -> int:
        """Of the last record written."""
        return self._log.last

    def append_turn(self, events: Sequence[UsageEvent], opened: int) -> int:
        """Append records of many calls in one write, the first `opened` of them open records; how many are written.

        Never raises. Fewer than all if anything is unusual: append the rest one by one, which says what it is.
        """
        payloads, size = [], 0
        for event in events:
            payload = _encode(event)
            payloads.append(payload)
            size += len(payload)
        # Each open record is promised a copy, and its final.
        room = 2 * size + FINAL_BYTES * len(events)
        if self._deferred or self._log.bytes + self._promised + room > self._room.limit:
            return 0
        written = self._log.write_turn(payloads, opened)
        for number in range(written):
            key = events[number].event_id.int
            if number < opened:
                self._keep_open(key, payloads[number])
            elif key in self._open:
                self._forget_open(key)
        return written

    def append_open(self, event: UsageEvent) -> int:
        """Record that a call is forwarded, or amend that record; its sequence.

        `SpoolFull`, `SpoolError`: it was not written.
        """
        payload = _encode(event)
        key = event.event_id.int
        self._find_room(payload)  # for an amendment too: a long session's many must not take what finals are promised
        try:
            sequence = self._log.write(OPEN, payload)
        except OSError as error:
            sequence = self._write_again(OPEN, payload, error, use_reserve=False)
        self._keep_open(key, payload)
        if self._deferred:
            self._write_deferred()
        return sequence

    def append_final(self, event: UsageEvent) -> int:
        """Record the truth about a call, opened before or not; its sequence.

        `SpoolFull`, `SpoolError`: it was not written. The final of an open call, or of a part of one, is then kept in
        memory and written as soon as the disk takes it; appending it again replaces it.
        """
        payload = _encode(event)
        key = event.event_id.int
        opened = key in self._open
        promised = opened or (event.part_of is not None and event.part_of.int in self._open)
        if not promised:
            self._find_room(payload)
        try:
            sequence = self._log.write(FINAL, payload)
        except OSError as error:
            try:
                sequence = self._write_again(FINAL, payload, error, use_reserve=promised)
            except SpoolError:
                if promised:
                    self._defer(key, payload)
                raise
        if opened:
            self._forget_open(key)
        if self._deferred:
            self._deferred.pop(key, None)
            self._write_deferred()
        return sequence

    def on_synced(self, sequence: int, callback: Callable[[], None]) -> None:
        """Have `callback` called in the loop's thread once the record is on the disk.

        When the disk fails two syncs in a row it is called all the same, with `degraded` set: a client must not
        wait for a dead disk.
        """
        if sequence <= self._log.synced or self._sync_failures > 1:
            self._call_soon(callback)
            return
        self._waiting.append((sequence, callback))
        if self._sync is not None:
            self._sync.want_now()

    def start_syncing(self, loop: AbstractEventLoop) -> None:
        """From now on sync within 20 ms of an append, in a thread, and report to `loop`."""
        self._loop = loop
        self._sync = GroupSync(loop, self._take_job, self._take_back)
        self._log.wake = self._sync.want
        if self._log.dirty:
            self._sync.want()

    def sync(self) -> None:
        """Sync here and now. `SpoolError` if the disk fails it: what it held is then written to a new segment."""
        job = self._take_job()
        error = run_job(job)
        self._take_back(job, error)
        if error:
            raise spool_error("sync", self._directory, error)

    def measure(self) -> SpoolStats:
        """The counters now; looks at the directory, so not for the hot path."""
        self._room.look(self._log.bytes)
        if not self._deferred:
            self._room.hold()  # space that came back shows without traffic
        return SpoolStats(
            records=self._log.records,
            bytes=self._room.used(self._log.bytes),
            bytes_max=self._room.max_bytes,
            segments_begun=self._log.rotations,
            open_calls=len(self._open),
            unsynced=max(0, self._log.last - self._log.synced),
            syncs=self._syncs,
            syncs_failed=self._syncs_failed,
            corrupt=self._found.corrupt_records,
            cut_bytes=self._found.cut_bytes,
            interrupted=len(self._found.open_payloads),
            refused=self._refused,
            deferred=len(self._deferred),
            degraded=self.degraded,
            full=self._log.bytes + self._promised + 2 * FINAL_BYTES > self._room.limit,  # a call needs about that
        )

    def close(self) -> None:
        """Sync and unlock. Calls still open get their final record at the next `open`."""
        if self._lock_fd < 0:
            return
        if self._sync is not None:
            sync, self._sync = self._sync, None
            self._log.wake = None
            sync.close()
        try:
            self._write_deferred()
            self.sync()
        except SpoolError:
            return  # the kernel may still write it back; if not, the next start finds the calls open
        finally:
            self._release()

    def _keep_open(self, key: int, payload: bytes) -> None:
        if key in self._open:
            self._forget_open(key)
        self._open[key] = payload
        self._promised += len(payload) + FINAL_BYTES

    def _forget_open(self, key: int) -> None:
        self._promised -= len(self._open.pop(key)) + FINAL_BYTES

    def _begin(self) -> None:
        found = self._found = recover(self._directory, self._disk, self._wall_clock())
        self._source_id = settle_source_id(
            self._disk, self._directory, found.source_id, emptied=found.next_sequence == 1
        )
        # An open record is the row that is true if nobody says more: it becomes the final as it is.
        finals = list(found.open_payloads.values())
        self._log.begin(found.next_sequence, found.last_sequence, self._source_id, uuid.uuid4(), finals)
        self._room.release()  # left by a former run, whose finals may need it now
        try:
            self._log.rotate()
        except OSError as error:
            if error.errno not in FULL_ERRORS:
                raise
            self._room.look(self._log.bytes)
            return  # traffic must flow on a full disk too; the first append that finds space begins the segment
        with suppress(SpoolError):  # degraded: what was written was written anew
            self.sync()
        if not found.synced:
            self._sync_failures = max(1, self._sync_failures)  # degraded: a power loss may still cost finals
        self._room.hold()
        self._room.look(self._log.bytes)

    def _release(self) -> None:
        self._log.close()
        self._disk.close(self._lock_fd)
        self._lock_fd = -1

    def _find_room(self, payload: bytes) -> None:
        """See that there is room for the record of a new call, for its copies and for its final; else `SpoolFull`."""
        wanted = self._promised + 2 * len(payload) + FINAL_BYTES
        if self._log.bytes + wanted <= self._room.limit or self._room.find(wanted, self._log.bytes):
            return
        self._refused += 1
        used, most = self._room.used(self._log.bytes), self._room.max_bytes
        raise SpoolFull(
            f"{self._directory} takes {used} of {most} bytes, or its disk is full: "
            "see why it isn't shipped, free space, or raise [spool] max_bytes"
        )

    def _write_again(self, kind: bytes, payload: bytes, error: OSError, *, use_reserve: bool) -> int:
        """Once more after the disk refused: with the reserve's space, or in a new segment."""
        is_full = error.errno in FULL_ERRORS
        if is_full and not (use_reserve and self._room.release()):
            self._log.seal_broken()
            self._refused += 1
            raise SpoolFull(f"no space for a record in {self._directory}: free some; nothing need be restarted")
        if is_full:
            self._log.seal_broken()
        else:
            self._log.seal()
        try:
            return self._log.write(kind, payload)
        except OSError as again:
            self._log.seal_broken()
            self._refused += 1
            if again.errno in FULL_ERRORS:
                raise SpoolFull(f"no space for a record in {self._directory}: free some") from None
            raise spool_error("write to", self._directory, again) from None

    def _defer(self, key: int, payload: bytes) -> None:
        if not self._deferred and self._loop is not None:
            self._loop.call_later(RETRY_SECONDS, self._retry_deferred)
        self._deferred[key] = payload

    def _retry_deferred(self) -> None:
        if self._lock_fd >= 0:
            self._write_deferred()
        if self._deferred and self._loop is not None and self._lock_fd >= 0:
            self._loop.call_later(RETRY_SECONDS, self._retry_deferred)

    def _write_deferred(self) -> None:
        """Write the finals the disk refused before, as far as it takes them now."""
        for key, payload in list(self._deferred.items()):
            try:
                self._log.write(FINAL, payload)
            except OSError as error:
                try:
                    self._write_again(FINAL, payload, error, use_reserve=True)
                except SpoolError:
                    return
            del self._deferred[key]
            if key in self._open:  # a part of a call need not be
                self._forget_open(key)

    def _take_job(self) -> SyncJob:
        if self._log.must_rewrite:
            self._start_over()
        return self._log.take_job()

    def _take_back(self, job: SyncJob, error: OSError | None) -> None:
        self._log.take_back(job, failed=error is not None)
        if error is not None:
            self._syncs_failed += 1
            self._sync_failures += 1
            self._start_over()
            if self._sync is not None:
                self._sync.want()
        elif not self._log.must_rewrite:
            self._syncs += 1
            self._sync_failures = 0
        elif self._loop is not None:
            self._loop.call_later(RETRY_SECONDS, self._retry_sync)
        waiting, self._waiting = self._waiting, []
        for sequence, callback in waiting:
            if sequence <= self._log.synced or self._sync_failures > 1:
                self._call_soon(callback)
            else:
                self._waiting.append((sequence, callback))

    def _retry_sync(self) -> None:
        if self._sync is not None:
            self._sync.want()

    def _start_over(self) -> None:
        """After a failed sync: write what it held to a new segment, for the next sync to cover."""
        try:
            self._log.rotate()
        except OSError:
            return  # the next append or sync tries again

    def _call_soon(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon(callback)
        else:
            callback()
