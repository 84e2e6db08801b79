"""A spool on a simulated disk, its writer and its shipper, through crashes; and what must be true of it all."""

import contextlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from metering.core.event import Outcome, UsageEvent
from metering.errors import LedgerUnavailable, MeteringError, SpoolError, StalePosition
from metering.ledger.events import ShipResult
from metering.sidecar.ship.retire import Retention
from metering.sidecar.ship.shipper import _Spool
from metering.sidecar.spool.group_sync import run_job
from metering.sidecar.spool.report import report_spool
from metering.sidecar.spool.segment import FINAL, OPEN
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.simulated_disk import Crashed, SimulatedDisk
from tests.sidecar.spool_calls import finished, numbers, opened, records

SEGMENT_BYTES = 1500


class MemoryBooks:
    """What the ledger does with batches, without Postgres: positions by compare-and-set, one row an id."""

    def __init__(self, dice: random.Random) -> None:
        self.positions: dict[UUID, int] = {}
        self.rows: dict[int, UsageEvent] = {}  # number of the call → its row
        self.late_truths: list[int] = []  # calls whose final came after a row that said `interrupted`
        self.late_doubts: list[int] = []  # and the other way round
        self.away = 0.0  # how often an answer doesn't come
        self._dice = dice

    def position(self, source_id: UUID, name: str) -> int:  # noqa: ARG002 - nobody reads the name here
        return self.positions.setdefault(source_id, 0)

    def ship(
        self, source_id: UUID, position: int, new_position: int, records: Sequence[tuple[UsageEvent, bytes]]
    ) -> ShipResult:
        self._answer()
        if self.positions[source_id] != position:
            raise StalePosition("not there")
        self.positions[source_id] = new_position
        for event, _ in records:
            (number,) = numbers([event])
            row = self.rows.setdefault(number, event)
            if row != event:
                (self.late_truths if row.outcome is Outcome.INTERRUPTED else self.late_doubts).append(number)
        self._answer()
        return ShipResult(len(records), 0, 0)

    def _answer(self) -> None:
        if self._dice.random() < self.away:
            raise LedgerUnavailable("the ledger is away")


class Call(msgspec.Struct):
    """One call: what was told of it, and what must outlive a power loss."""

    number: int
    open_sequence: int | None = None
    final_sequence: int | None = None
    is_open: bool = True  # no final was tried yet
    open_kept: bool = False
    final_kept: bool = False


class World:
    """One seed's story. Each broken promise raises `AssertionError`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.disk = SimulatedDisk(folder, self.dice)
        self.loses_power = self.dice.random() < 0.75
        self.faulty = self.dice.random() < 0.35
        self.books = MemoryBooks(self.dice)
        self.books.away = self.dice.choice([0.0, 0.2])
        self.calls: list[Call] = []
        self.lost_power = False
        self.now = 0.0
        self.first_sequence = 0  # of this life
        self.retention = Retention(self.dice.choice([0.0, 3600.0]), self.disk.disk)
        self.shipper: _Spool | None = None

    @property
    def directory(self) -> Path:
        return self.disk.folder / "worker-0"

    def run(self) -> None:
        for _ in range(self.dice.randint(2, 6)):
            self.disk.fault_rate = 0.03 if self.faulty and self.dice.random() < 0.7 else 0.0
            self.disk.crash_after = self.dice.choice([15, 60, 300]) * self.dice.randint(1, 100) // 100
            self.disk.interlude = self.ship if self.dice.random() < 0.5 else None
            with contextlib.suppress(Crashed):
                self.live()
            self.crash()
        self.drain()

    # ── one life ──────────────────────────────────────────────────────────────────────────────────────

    def live(self) -> None:
        try:
            writer = self.open()
        except SpoolError:
            assert self.faulty
            return
        for _ in range(self.dice.randint(5, 60)):
            self.step(writer)
            self.note_synced(writer)
        if self.dice.random() < 0.3:
            writer.close()

    def open(self) -> SpoolWriter:
        self.now += self.dice.choice([1, 1, 10, 1000])
        writer = SpoolWriter.open(
            self.directory,
            segment_bytes=SEGMENT_BYTES,
            max_bytes=1 << 20,
            clock=lambda: self.now,
            wall_clock=lambda: 1_790_000_000 + self.now,
            disk=self.disk.disk,
        )
        self.first_sequence = writer._log.last + 1
        if not writer.degraded:
            for call in self.calls:
                call.open_kept = call.open_kept or call.open_sequence is not None
                call.final_kept = call.final_kept or call.final_sequence is not None
        return writer

    def step(self, writer: SpoolWriter) -> None:
        self.now += 1
        running = [call for call in self.calls if call.is_open]
        acts: list[tuple[float, Callable[[], object]]] = [
            (8, lambda: self.begin(writer)),
            (1, lambda: self.finish(writer, self.new_call())),
            (4, lambda: self.turn(writer, running)),
            (3, writer.sync),
            (2, lambda: self.sync_slowly(writer)),
            (4, self.ship),
            (0.5, self.stop_shipper),
        ]
        if running:
            call = self.dice.choice(running)
            acts += [(2, lambda: self.amend(writer, call)), (8, lambda: self.finish(writer, call))]
        ((_, act),) = self.dice.choices(acts, [weight for weight, _ in acts])
        try:
            act()
        except SpoolError:
            assert self.faulty

    def new_call(self) -> Call:
        self.calls.append(Call(len(self.calls)))
        return self.calls[-1]

    def begin(self, writer: SpoolWriter) -> None:
        call = self.new_call()
        call.is_open = False  # until it is told to be written
        call.open_sequence = self.append(writer, writer.append_open, opened(call.number))
        call.is_open = True

    def amend(self, writer: SpoolWriter, call: Call) -> None:
        self.append(writer, writer.append_open, opened(call.number, model="amended"))

    def finish(self, writer: SpoolWriter, call: Call) -> None:
        call.is_open = False
        call.final_sequence = self.append(writer, writer.append_final, finished(call.number))
        if self.dice.random() < 0.5:
            writer.on_synced(call.final_sequence, lambda: self.release(writer, call))

    def turn(self, writer: SpoolWriter, running: list[Call]) -> None:
        """What the calls of one turn of the loop have to say, in one write."""
        begun, ended = [self.new_call(), self.new_call()], running[:2]
        for call in (*begun, *ended):
            call.is_open = False
        events = [opened(call.number) for call in begun] + [finished(call.number) for call in ended]
        written = writer.append_turn(events, len(begun))
        first = writer.last_sequence - written + 1
        for at, call in enumerate((*begun, *ended)[:written]):
            if call in begun:
                call.open_sequence, call.is_open = first + at, True
            else:
                call.final_sequence = first + at
        for call in ended[max(0, written - len(begun)) :]:
            self.finish(writer, call)

    def release(self, writer: SpoolWriter, call: Call) -> None:
        """The last byte of its answer leaves: with `durability = power` its count must be on the disk."""
        if writer._sync_failures <= 1:
            call.final_kept = True

    def append(self, writer: SpoolWriter, append: Callable[[UsageEvent], int], event: UsageEvent) -> int:
        shipped = self.books.positions.get(writer.source_id, 0)
        sequence = append(event)
        assert sequence > shipped, "a sequence is used that was shipped before"
        return sequence

    def sync_slowly(self, writer: SpoolWriter) -> None:
        """As the thread does it: appends go on while it runs."""
        job = writer._take_job()
        with contextlib.suppress(SpoolError):
            self.begin(writer)
        error = run_job(job)
        with contextlib.suppress(SpoolError):
            self.begin(writer)
        writer._take_back(job, error)

    def note_synced(self, writer: SpoolWriter) -> None:
        first, last = self.first_sequence, writer._log.synced
        for call in self.calls:
            call.open_kept = call.open_kept or first <= (call.open_sequence or 0) <= last
            call.final_kept = call.final_kept or first <= (call.final_sequence or 0) <= last

    def ship(self) -> None:
        if self.shipper is None:
            if not self.directory.is_dir():
                return
            self.shipper = _Spool(self.directory, self.retention)
        try:
            self.shipper.ship(self.books)
        except LedgerUnavailable:
            pass
        except MeteringError:
            assert self.faulty

    def stop_shipper(self) -> None:
        if self.shipper is not None:
            self.shipper.close()
            self.shipper = None

    # ── the end of a life ─────────────────────────────────────────────────────────────────────────────

    def crash(self) -> None:
        for call in self.calls:
            call.is_open = False
        if not self.loses_power or self.dice.random() < 0.3:
            self.disk.kill()
            if self.dice.random() < 0.5:
                self.stop_shipper()
            return
        self.stop_shipper()
        self.disk.lose_power()
        self.lost_power = True
        left = self.left()
        for call in self.calls:
            row = self.books.rows.get(call.number)
            is_known = row is not None or call.number in left
            is_finished = (row is not None and row.outcome is Outcome.COMPLETED) or left.get(call.number, False)
            assert is_finished or not call.final_kept, f"the final of {call.number} is lost"
            assert is_known or not call.open_kept, f"call {call.number} is lost"
            call.final_sequence = 0 if is_finished else None
            call.open_sequence = 0 if is_known else None

    def left(self) -> dict[int, bool]:
        """The calls that can be read from the disk: number → whether the truth about them can."""
        found: dict[int, bool] = {}
        if self.directory.is_dir():
            for record in records(self.directory):
                if record.kind in (OPEN, FINAL):
                    event = msgspec.json.decode(record.payload, type=UsageEvent)
                    (number,) = numbers([event])
                    found[number] = found.get(number, False) or event.outcome is Outcome.COMPLETED
        return found

    def drain(self) -> None:
        self.disk.fault_rate, self.disk.interlude, self.books.away = 0.0, None, 0.0
        writer = self.open()
        self.finish(writer, self.new_call())
        writer.close()
        self.stop_shipper()
        for _ in range(3):
            self.ship()
        rows = dict(self.books.rows)
        again = self.open()
        assert again.measure().interrupted == 0, "the first recovery left calls open"
        again.close()
        self.ship()
        self.stop_shipper()
        report_spool(self.directory)
        self.check(rows)

    def check(self, rows: dict[int, UsageEvent]) -> None:
        assert self.books.rows == rows, "a second start made rows"
        assert self.books.late_truths == [], "a row said interrupted before the truth came"
        assert self.lost_power or self.books.late_doubts == [], "a second row for a finished call"
        for call in self.calls:
            row = rows.get(call.number)
            if call.final_sequence is not None:
                assert row == finished(call.number), f"the final of {call.number} is not in the books"
            elif call.open_sequence is not None:
                assert row is not None, f"call {call.number} is not in the books"
        assert set(rows) <= {call.number for call in self.calls}
