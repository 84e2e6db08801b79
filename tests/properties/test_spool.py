"""Whatever order calls are opened, amended and finished in, and whatever dies: one final for each forwarded call."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.errors import SpoolError
from metering.sidecar.spool.scan import Damage, Harm, Scanner
from metering.sidecar.spool.segment import OPEN, Record, encode_line, list_segments
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import damages, finals, finished, numbers, opened

CALLS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["open", "amend", "final", "bare final"]), CALLS),
    st.tuples(st.sampled_from(["rotate", "sync", "failed sync", "close", "crash", "torn crash"]), st.just(0)),
)
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class World:
    """A spool, and what must be true of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0
        self.directory = folder / "0"
        self.writer = SpoolWriter.open(self.directory, segment_bytes=1500)
        self.next_call = 0
        self.open: dict[int, int] = {}  # slot → call
        self.forwarded: dict[int, str] = {}  # call → the model its row must show
        self.completed: set[int] = set()
        self.rewritten = False

    def take(self, step: str, slot: int) -> None:
        if step == "open":
            self.next_call += 1
            self.open[slot] = self.next_call
            self.writer.append_open(opened(self.next_call))
            self.forwarded[self.next_call] = "gpt-4o"
        elif step == "amend" and slot in self.open:
            self.writer.append_open(opened(self.open[slot], model="amended"))
            self.forwarded[self.open[slot]] = "amended"
        elif step == "final" and slot in self.open:
            call = self.open.pop(slot)
            self.writer.append_final(finished(call, model=self.forwarded[call]))
            self.completed.add(call)
        elif step == "bare final":
            self.next_call += 1
            self.writer.append_final(finished(self.next_call))
            self.forwarded[self.next_call] = "gpt-4o"
            self.completed.add(self.next_call)
        elif step == "rotate":
            self.writer._log.rotate()
        elif step == "sync":
            self.writer.sync()
        elif step == "failed sync":
            self.fail_sync()
        elif step == "close":
            self.writer.close()
            self.writer = SpoolWriter.open(self.directory, segment_bytes=1500)
            self.open.clear()
        elif step in ("crash", "torn crash"):
            self.crash(torn=step == "torn crash")

    def fail_sync(self) -> None:
        """The kernel refuses to sync what is no file: the segment's descriptor becomes a pipe's for the moment."""
        active = self.writer._log._active
        assert active is not None
        reader, writer = os.pipe()
        os.dup2(writer, active.fd)
        with pytest.raises(SpoolError, match="can't sync"):
            self.writer.sync()
        os.close(reader)
        os.close(writer)
        self.rewritten = True

    def crash(self, *, torn: bool) -> None:
        """Go on with a copy of the files as they are now, as after kill -9; a line may have been half written."""
        self.lives += 1
        old, self.directory = self.directory, self.folder / str(self.lives)
        shutil.copytree(old, self.directory)
        self.writer.close()
        if torn:
            line = encode_line(1 << 60, OPEN, b'{"event_id":"x"}')
            with list_segments(self.directory)[-1].open("ab") as file:
                file.write(line[: len(line) // 2])
        self.writer = SpoolWriter.open(self.directory, segment_bytes=1500)
        self.open.clear()


@settings(max_examples=80)
@given(st.lists(STEPS, max_size=40))
def test_each_forwarded_call_has_exactly_one_final(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = World(Path(folder))
        for step, slot in steps:
            if not (step == "open" and slot in world.open):
                world.take(step, slot)
        world.take("crash", 0)
        world.writer.close()
        rows = finals(world.directory)
        assert damages(world.directory) == []
        assert set(numbers(rows)) == set(world.forwarded)  # none lost, none unexpected
        told = dict(zip(numbers(rows), rows, strict=True))
        # After a failed sync a final may be there twice, byte for byte: the ledger takes it once.
        assert all(told[number] == row for number, row in zip(numbers(rows), rows, strict=True))
        assert world.rewritten or len(rows) == len(world.forwarded)
        assert {number for number, row in told.items() if row.outcome == "completed"} == world.completed
        assert {number: row.request_model for number, row in told.items()} == world.forwarded


LINES = st.lists(st.binary(max_size=30).map(lambda data: b"{" + data.replace(b"\n", b"") + b"}"), max_size=12)


@given(LINES, st.lists(st.integers(1, 40), max_size=20))
def test_a_scan_does_not_depend_on_how_the_bytes_arrive(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(encode_line(number, OPEN, payload) for number, payload in enumerate(payloads, 1))
    scanner, items, at = Scanner(), list[Record | Damage](), 0
    for cut in cuts:
        items += scanner.feed(data[at : at + cut])
        at += cut
    items += scanner.feed(data[at:]) + scanner.finish()
    assert [item.payload for item in items if isinstance(item, Record)] == payloads
    assert scanner.offset == len(data)


@given(LINES, st.binary(min_size=1, max_size=200), st.integers(0, 1000))
def test_garbage_between_records_is_told_byte_for_byte(payloads: list[bytes], garbage: bytes, where: int) -> None:
    lines = [encode_line(number, OPEN, payload) for number, payload in enumerate(payloads, 1)]
    at = where % (len(lines) + 1)
    data = b"".join([*lines[:at], garbage + b"\n", *lines[at:]])
    scanner = Scanner()
    items = scanner.feed(data) + scanner.finish()
    assert [item.payload for item in items if isinstance(item, Record)] == payloads
    assert b"".join(item.data for item in items if isinstance(item, Damage)) == garbage + b"\n"
    assert {item.harm for item in items if isinstance(item, Damage)} <= {Harm.LOST, Harm.TORN}
