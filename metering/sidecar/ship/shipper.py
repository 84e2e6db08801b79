"""The shipper: finals from every spool to the ledger, each exactly once. A process of its own.

Of the sidecar only this module knows the ledger. A batch and the source's position are committed together, so
whatever dies in between, the next attempt reads the position and goes on from there.
"""

import os
import socket
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from uuid import UUID

import msgspec

from metering.core.event import UsageEvent
from metering.errors import ConfigError, LedgerUnavailable, MeteringError, SpoolError
from metering.ledger.engine import Engine, connect, transaction
from metering.ledger.events import ShipResult, ship_batch, source_position
from metering.sidecar.logline import log
from metering.sidecar.ship.pause import Stop, Trouble, stopped_by_signals
from metering.sidecar.ship.retire import Retention
from metering.sidecar.ship.status import ShipStatus, ShipTotals, write_status
from metering.sidecar.spool.disk import sync_file
from metering.sidecar.spool.lock import lock_for_shipping
from metering.sidecar.spool.quarantine import set_aside
from metering.sidecar.spool.reader import Batch, SpoolReader
from metering.sidecar.spool.segment import list_segments, spool_error
from metering.sidecar.spool.source_id import read_source_id

QUIET_SECONDS = 0.2  # how often a spool without much traffic is looked at
ONCE_SECONDS = 30.0  # how long `once` waits for a ledger that is away
LAST_SECONDS = 10.0  # how long a stopping shipper goes on while there is more
STATUS_SECONDS = 1.0

_decode = msgspec.json.Decoder(UsageEvent).decode


def run_shipper(
    spool_dir: Path,
    database_url: str,
    *,
    once: bool = False,
    retain_seconds: float = 0.0,
    stop: Stop | None = None,
) -> ShipTotals:
    """Ship every `worker-*` spool below `spool_dir`, new ones too, until SIGTERM or `stop`; what was done.

    With `once` it ships what there is and returns, or raises what keeps it from that: `LedgerUnavailable` after
    `ONCE_SECONDS`, `SpoolLocked` if another shipper is at it. Without, trouble is logged, once per change, and
    tried again after growing pauses. Shipped segments are kept for `retain_seconds`, then deleted.
    """
    with stopped_by_signals() as own_stop:
        shipper = _Shipper(spool_dir, database_url, Retention(retain_seconds), stop or own_stop, once=once)
        try:
            shipper.run()
        finally:
            shipper.close()
        return shipper.totals()


class _Shipper:
    """All spools below a directory, by turns."""

    def __init__(self, spool_dir: Path, database_url: str, retention: Retention, stop: Stop, *, once: bool) -> None:
        self._spool_dir = spool_dir
        self._database_url = database_url
        self._retention = retention
        self._stop = stop
        self._once = once
        self._give_up_at = time.monotonic() + ONCE_SECONDS  # `once` only
        self._engine: Engine | None = None
        self._connecting = Trouble("the ledger")
        self._spools: dict[Path, _Spool] = {}
        self._failed = ShipTotals()

    def run(self) -> None:
        while not self._stop.requested:
            engine = self._engine or self._connect()
            if engine is None:
                self._stop.wait(self._connecting.left())
                continue
            pauses = self._ship_all(engine)
            if self._once and all(pause is None for pause in pauses):
                return
            if pause := min((QUIET_SECONDS if pause is None else pause for pause in pauses), default=QUIET_SECONDS):
                self._stop.wait(pause)
        self._ship_the_last()

    def _ship_the_last(self) -> None:
        """Told to stop: what the relay wrote before it ended still goes, as long as nothing is in the way."""
        give_up_at = time.monotonic() + LAST_SECONDS
        while self._engine is not None and time.monotonic() < give_up_at:
            # Nothing more (None) and trouble (a pause) are both reasons to end: the rest stays spooled.
            if 0.0 not in self._ship_all(self._engine):
                return

    def _ship_all(self, engine: Engine) -> list[float | None]:
        """One batch of every spool, new ones too; what `_ship` says of each."""
        for directory in sorted(self._spool_dir.glob("worker-*")):
            if directory not in self._spools and directory.is_dir():
                self._spools[directory] = _Spool(directory, self._retention)
        return [self._ship(engine, spool) for spool in self._spools.values()]

    def totals(self) -> ShipTotals:
        totals = ShipTotals()
        for spool in self._spools.values():
            totals.add(spool.totals)
        return totals

    def close(self) -> None:
        for spool in self._spools.values():
            spool.close()
        if self._engine is not None:
            self._engine.dispose()

    def _connect(self) -> Engine | None:
        try:
            self._engine = connect(self._database_url)
        except ConfigError:
            raise
        except MeteringError as error:
            self._met(self._connecting, error)
            return None
        self._connecting.over()
        return self._engine

    def _ship(self, engine: Engine, spool: "_Spool") -> float | None:
        """One batch of one spool; 0 if more waits, None if nothing does, or the pause after trouble."""
        if (left := spool.trouble.left()) > 0:
            return left
        try:
            more = spool.ship(LedgerBooks(engine))
        except Exception as error:  # noqa: BLE001 - one spool's surprise must not keep the others from being shipped
            return self._met(spool.trouble, error)
        spool.trouble.over()
        self._give_up_at = time.monotonic() + ONCE_SECONDS
        return 0.0 if more else None

    def _met(self, trouble: Trouble, error: Exception) -> float:
        if self._once and not (isinstance(error, LedgerUnavailable) and time.monotonic() < self._give_up_at):
            raise error
        self._failed.failures += 1
        now = time.time()
        # Beside the spools: when the ledger is away no spool of them need have been seen.
        write_status(self._spool_dir, ShipStatus(position=0, shipped_at=0.0, looked_at=now, totals=self._failed))
        return trouble.met(error)


class Books(Protocol):
    """Where a spool's records go. A test of power losses keeps books of its own."""

    def position(self, source_id: UUID, name: str) -> int:
        """The last sequence it has of a source."""

    def ship(
        self, source_id: UUID, position: int, new_position: int, records: Sequence[tuple[UsageEvent, bytes]]
    ) -> ShipResult:
        """Keep records and move the position on, or neither."""


class LedgerBooks(msgspec.Struct, frozen=True):
    """The ledger's."""

    engine: Engine

    def position(self, source_id: UUID, name: str) -> int:
        """`source_position`."""
        with transaction(self.engine) as connection:
            return source_position(connection, source_id, name)

    def ship(
        self, source_id: UUID, position: int, new_position: int, records: Sequence[tuple[UsageEvent, bytes]]
    ) -> ShipResult:
        """`ship_batch`."""
        return ship_batch(self.engine, source_id, position, new_position, records)


class _Spool:
    """One spool on its way to the ledger."""

    def __init__(self, directory: Path, retention: Retention) -> None:
        self.totals = ShipTotals()
        self.trouble = Trouble(str(directory))
        self._directory = directory
        self._retention = retention
        self._lock_fd: int | None = None
        self._source_id: UUID | None = None
        self._position = 0  # where the ledger stood when we last knew
        self._attempt: tuple[int, int] | None = None  # position and size of a batch whose outcome nobody told
        self._reader: SpoolReader | None = None
        self._unkept: set[Path] = set()  # segments with damage that couldn't be copied to quarantine
        self._unsynced: Path | None = None  # a segment whose sync failed
        self._shipped_at = self._status_at = 0.0

    def ship(self, books: Books) -> bool:
        """One batch; True if more waits."""
        try:
            return self._ship(books)
        except OSError as error:
            raise spool_error("read", self._directory, error) from None

    def close(self) -> None:
        if self._lock_fd is not None:
            self._report()
            os.close(self._lock_fd)

    def _ship(self, books: Books) -> bool:
        if self._lock_fd is None:
            self._lock_fd = lock_for_shipping(self._directory)
        source_id = read_source_id(self._directory)
        if source_id is None:
            return False  # its writer has not begun yet, or mends the file at its next start
        if self._reader is None or source_id != self._source_id:
            self._reader = self._seat(books, source_id)
        reader = self._reader
        batch = reader.read()
        self._keep_damages(batch)
        records = self._decode_finals(batch)
        if records and batch.position <= self._position:
            return False  # rows for destroyed finals: they go with the next record's position
        if records:
            self._reader, self._attempt = None, (batch.position, len(records))  # should it fail: ask where we stand
            result = books.ship(source_id, self._position, batch.position, records)
            self._reader, self._attempt, self._position = reader, None, batch.position
            self._shipped_at = time.time()
            self.totals.add(
                ShipTotals(
                    batches=1,
                    records=len(records),
                    inserted=result.inserted,
                    duplicates=result.duplicates,
                    conflicts=result.conflicts,
                    refused=result.refused,
                    interrupted=batch.interrupted,
                )
            )
        reader.accept(batch)
        self._retire(reader.finished_segments())
        if time.time() - self._status_at >= STATUS_SECONDS:
            self._report()
            self._retention.prune(self._directory)
        return batch.is_full

    def _seat(self, books: Books, source_id: UUID) -> SpoolReader:
        """Begin to read where the ledger says this source stands."""
        name = f"{socket.gethostname()}:{self._directory}"
        seen = books.position(source_id, name)
        if source_id == self._source_id:
            attempted, records = self._attempt or (self._position, 0)
            if seen > self._position and seen != attempted:
                raise SpoolError(
                    f"another shipper ships a copy of {self._directory} (source {source_id}): "
                    "stop one of the two sidecars, delete source.id in its spool, and start it again"
                )
            if seen == attempted and records:
                self.totals.add(ShipTotals(batches=1, records=records, confirmed=records))
            elif seen < self._position:
                log("ledger_went_back", source=str(source_id), position=self._position, found=seen)
        self._source_id, self._position, self._attempt = source_id, seen, None
        return SpoolReader(self._directory, seen)

    def _keep_damages(self, batch: Batch) -> None:
        for segment, damage in batch.damages:
            try:
                is_new = set_aside(self._retention.disk, segment, damage.offset, damage.harm, damage.data)
            except OSError:
                # A full disk must not stop shipping, which frees it. The segment is kept instead.
                is_new = segment not in self._unkept
                self._unkept.add(segment)
            if is_new:
                self.totals.corrupt += 1
                log("spool_damage", segment=str(segment), offset=damage.offset, harm=damage.harm)

    def _decode_finals(self, batch: Batch) -> list[tuple[UsageEvent, bytes]]:
        records: list[tuple[UsageEvent, bytes]] = []
        for segment, record in batch.finals:
            try:
                records.append((_decode(record.payload), sha256(record.payload).digest()))
            except msgspec.DecodeError as error:
                if set_aside(self._retention.disk, segment, record.offset, "unreadable", record.payload):
                    self.totals.unreadable += 1
                    log("spool_unreadable", segment=str(segment), offset=record.offset, reason=str(error))
        return records

    def _retire(self, segments: list[Path]) -> None:
        if not segments:
            return
        # The next one says which calls are open: after a power loss the old ones must not be gone and it not there.
        needed = next(path for path in list_segments(self._directory) if path > segments[-1])
        if needed == self._unsynced:
            return  # never synced again: its writer, who has failed as well, begins another
        try:
            sync_file(self._retention.disk, needed)
        except OSError:
            self._unsynced = needed
            raise
        self._retention.retire(self._directory, segments, self._unkept)
        self.totals.segments_retired += len(segments)

    def _report(self) -> None:
        now = self._status_at = time.time()
        status = ShipStatus(position=self._position, shipped_at=self._shipped_at, looked_at=now, totals=self.totals)
        write_status(self._directory, status)
