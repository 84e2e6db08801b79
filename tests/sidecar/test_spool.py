"""The writer: what it appends is there, once, in order; rotation, syncing, locking."""

import asyncio
import errno
import os
from functools import partial
from pathlib import Path

import msgspec
import pytest

from metering.core.event import Outcome, UsageEvent
from metering.core.usage import UsageSource
from metering.errors import SpoolError, SpoolFull, SpoolLocked
from metering.sidecar.spool.disk import DISK
from metering.sidecar.spool.recovery import read_checkpoint
from metering.sidecar.spool.segment import (
    BOOT_EPOCH,
    BOOT_SEQUENCES,
    BOOTS_MAX,
    HEADER,
    OPEN,
    first_sequence_of,
    list_segments,
)
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import finals, finished, numbers, opened, records, start_python

SMALL = 4096  # bytes of a segment: some ten records


def test_records_are_in_the_file_when_append_returns(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    sequences = [writer.append_open(opened(1)), writer.append_open(opened(2)), writer.append_final(finished(1))]
    written = records(tmp_path)
    assert [record.sequence for record in written[1:]] == sequences == [2, 3, 4]
    assert [record.kind for record in written] == [HEADER, OPEN, OPEN, b"F"]
    assert finals(tmp_path) == [finished(1)]
    writer.close()


def test_a_call_without_final_becomes_interrupted_at_the_next_start(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    for number in range(3):
        writer.append_open(opened(number))
    writer.append_open(opened(1, model="amended"))
    writer.append_final(finished(0))
    writer.close()

    again = SpoolWriter.open(tmp_path)
    assert again.measure().interrupted == 2
    assert again.measure().open_calls == 0
    again.close()
    rows = {event.event_id: event for event in finals(tmp_path)}
    assert sorted(numbers(list(rows.values()))) == [0, 1, 2] == sorted(numbers(finals(tmp_path)))
    assert rows[opened(1).event_id] == opened(1, model="amended")
    assert rows[opened(2).event_id].outcome is Outcome.INTERRUPTED
    assert rows[opened(2).event_id].usage_source is UsageSource.UNKNOWN


def test_sequences_never_go_back_over_restarts(tmp_path: Path) -> None:
    now = BOOT_EPOCH + 1000.0
    last, boots = 0, []
    for start, step in enumerate([0, 60, -3600, 0, 1e12, 1e12, -2e12, 1]):  # the clock may be set to anything
        now += step
        writer = SpoolWriter.open(tmp_path, segment_bytes=SMALL, wall_clock=partial(float, now))
        sequence = writer.append_final(finished(start))
        # A power loss may have cost records that were shipped: their sequences must not come again.
        boots.append(sequence // BOOT_SEQUENCES)
        assert last < sequence < 1 << 63  # what Postgres holds
        last = sequence
        writer.close()
    assert boots == [0, 1060, 1061, 1062, BOOTS_MAX, BOOTS_MAX + 1, BOOTS_MAX + 2, BOOTS_MAX + 3]
    ordered = [record.sequence for record in records(tmp_path)]
    assert ordered == sorted(set(ordered))


def test_rotation_carries_the_open_calls(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path, segment_bytes=SMALL)
    writer.append_open(opened(0))
    for number in range(1, 50):
        writer.append_open(opened(number))
        writer.append_final(finished(number))
    segments = list_segments(tmp_path)
    assert len(segments) > 3
    assert all(segment.stat().st_size <= SMALL for segment in segments)
    for segment in segments[1:]:
        checkpoint = read_checkpoint(segment)
        assert checkpoint is not None
        assert str(opened(0).event_id).encode() in checkpoint.carried
    writer.close()
    for segment in list_segments(tmp_path)[:-1]:
        segment.unlink()  # recovery needs only the last one
    SpoolWriter.open(tmp_path).close()
    assert numbers(finals(tmp_path))[-1] == 0


def test_memory_is_bounded_by_the_calls_in_flight(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path, segment_bytes=SMALL)
    for number in range(500):
        writer.append_open(opened(number))
        writer.append_final(finished(number))
    stats = writer.measure()
    assert (stats.open_calls, stats.records) == (0, 1000)
    assert stats.bytes == sum(segment.stat().st_size for segment in list_segments(tmp_path))
    writer.close()


def test_more_open_calls_than_a_segment_holds(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path, segment_bytes=SMALL)
    for number in range(200):
        writer.append_open(opened(number))
    for number in range(200):
        writer.append_final(finished(number))
    writer.close()
    assert numbers(finals(tmp_path)) == list(range(200))
    # Each rotation copies all open calls; it must not become every append's business.
    assert len(list_segments(tmp_path)) < 50


@pytest.mark.parametrize("restart", [False, True])
def test_a_second_writer_is_refused(tmp_path: Path, restart: bool) -> None:
    writer = SpoolWriter.open(tmp_path)
    with pytest.raises(SpoolLocked, match="another process writes"):
        SpoolWriter.open(tmp_path)
    program = "import sys; from pathlib import Path; from metering.sidecar.spool.writer import SpoolWriter\n"
    program += "SpoolWriter.open(Path(sys.argv[1]))"
    other = start_python(program, str(tmp_path))
    _, complaint = other.communicate()
    assert other.returncode != 0
    assert "SpoolLocked" in complaint
    writer.append_final(finished(1))  # the first one takes no notice
    assert numbers(finals(tmp_path)) == [1]
    writer.close()
    if restart:
        SpoolWriter.open(tmp_path).close()


def test_group_sync_tells_who_waits(tmp_path: Path) -> None:
    async def append() -> list[int]:
        loop = asyncio.get_running_loop()
        writer = SpoolWriter.open(tmp_path, segment_bytes=SMALL)
        writer.start_syncing(loop)
        told: list[int] = []
        sequence = 0
        done = loop.create_future()
        for number in range(100):
            sequence = writer.append_final(finished(number))
            writer.on_synced(sequence, lambda number=number: told.append(number))  # type: ignore[misc]
        assert told == []  # never from inside on_synced
        writer.on_synced(sequence, lambda: done.set_result(None))
        await done
        stats = writer.measure()
        assert stats.unsynced == 0
        assert 1 <= stats.syncs < 100
        writer.on_synced(sequence, lambda: told.append(-1))
        assert told[-1] == 99
        await asyncio.sleep(0)
        writer.close()
        return told

    assert asyncio.run(append()) == [*range(100), -1]


def test_appends_are_synced_without_anyone_waiting(tmp_path: Path) -> None:
    async def append() -> int:
        writer = SpoolWriter.open(tmp_path)
        writer.start_syncing(asyncio.get_running_loop())
        writer.append_open(opened(1))
        while writer.measure().unsynced:  # noqa: ASYNC110 - nobody waits: that is the point
            await asyncio.sleep(0.005)
        writer.append_final(finished(1))
        unsynced = writer.measure().unsynced
        writer.close()
        return unsynced

    assert asyncio.run(append()) == 1


def test_what_is_appended_during_a_sync_gets_one_of_its_own(tmp_path: Path) -> None:
    async def append() -> None:
        writer = SpoolWriter.open(tmp_path)
        writer.start_syncing(asyncio.get_running_loop())
        sequence = writer.append_open(opened(1))
        writer.on_synced(sequence, lambda: None)  # begins a sync at once
        writer.append_final(finished(1))
        while writer.measure().unsynced:  # noqa: ASYNC110 - nobody waits: that is the point
            await asyncio.sleep(0.005)
        writer.close()

    asyncio.run(asyncio.wait_for(append(), 20))


def test_an_unusable_directory_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"can't open spool .*file.*check the disk"):
        SpoolWriter.open(tmp_path / "file")


def test_an_oversized_event_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    huge = msgspec.structs.replace(finished(1), raw_usage={"text": "x" * 2_000_000})
    with pytest.raises(SpoolError, match="more than a megabyte"):
        writer.append_final(huge)
    writer.append_final(finished(2))
    writer.close()
    assert numbers(finals(tmp_path)) == [2]


def test_an_oversized_final_of_an_open_call_holds_nothing_up(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    writer.append_open(opened(1))
    with pytest.raises(SpoolError, match="more than a megabyte"):
        writer.append_final(msgspec.structs.replace(finished(1), raw_usage={"text": "x" * 2_000_000}))
    writer.append_final(finished(2))
    stats = writer.measure()
    assert (stats.open_calls, stats.deferred, stats.degraded) == (1, 0, False)
    writer.close()
    SpoolWriter.open(tmp_path).close()
    rows = finals(tmp_path)
    assert numbers(rows) == [2, 1]
    assert rows[1].outcome is Outcome.INTERRUPTED


def test_a_record_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path, segment_bytes=SMALL)
    large = msgspec.structs.replace(finished(1), raw_usage={"text": "x" * 3 * SMALL})
    writer.append_open(opened(1))
    writer.append_final(large)
    writer.append_final(finished(2))
    writer.close()
    assert finals(tmp_path) == [large, finished(2)]
    assert len(list_segments(tmp_path)) == 3


def test_new_calls_are_refused_at_the_bound_and_taken_again_once_segments_are_shipped(tmp_path: Path) -> None:
    most, now = 100_000, [0.0]
    writer = SpoolWriter.open(tmp_path, segment_bytes=SMALL, max_bytes=most, clock=lambda: now[0])
    taken = 0
    while taken < 1000:
        try:
            writer.append_open(opened(taken))
            taken += 1
        except SpoolFull:
            break
    for number in range(taken):
        writer.append_final(finished(number))  # what is open was promised its final
    assert 10 < taken < 1000
    assert writer.measure().bytes <= most
    for number in range(1000, 2000):
        try:
            writer.append_final(finished(number))
        except SpoolFull:
            break
    assert writer.measure().bytes <= most
    for segment in list_segments(tmp_path)[:-1]:
        segment.unlink()
    with pytest.raises(SpoolFull):
        writer.append_open(opened(3000))  # it looked a moment ago, and doesn't look for every call
    now[0] += 1
    writer.append_open(opened(3000))
    assert writer.measure().open_calls == 1
    writer.close()


def test_an_emptied_spool_is_a_new_source(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    first = writer.source_id
    writer.close()
    again = SpoolWriter.open(tmp_path)
    assert again.source_id == first
    again.close()
    for segment in list_segments(tmp_path):
        segment.unlink()
    # It counts from 1 again: under its old name the ledger would skip what it writes.
    emptied = SpoolWriter.open(tmp_path)
    assert emptied.source_id != first
    emptied.close()


def test_a_damaged_source_id_is_read_from_the_segments_a_deleted_one_is_new(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    first = writer.source_id
    writer.close()
    (tmp_path / "source.id").write_text("not a uuid")
    again = SpoolWriter.open(tmp_path)
    assert again.source_id == first
    again.close()
    (tmp_path / "source.id").unlink()  # what the operator of a copied spool is told to do
    copied = SpoolWriter.open(tmp_path)
    assert copied.source_id != first
    copied.close()


def test_finals_without_open_are_taken(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    writer.append_final(finished(5))
    writer.close()
    assert finals(tmp_path) == [finished(5)]
    assert isinstance(finals(tmp_path)[0], UsageEvent)


def test_close_is_idempotent_and_unlocks(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    writer.close()
    writer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 2  # the segment and the lock
    assert first_sequence_of(list_segments(tmp_path)[0]) == 1


@pytest.mark.parametrize("taken", [0, 1, 250, 500, 700])
def test_a_turn_that_the_disk_takes_in_part_loses_and_doubles_nothing(tmp_path: Path, taken: int) -> None:
    room = [-1]  # bytes the disk takes; -1: any number

    def write(fd: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "no space")
        part = data if room[0] < 0 else data[: room[0]]
        room[0] -= len(part) if room[0] > 0 else 0
        return os.write(fd, part)

    writer = SpoolWriter.open(tmp_path, disk=msgspec.structs.replace(DISK, write=write))
    for number in range(3):
        writer.append_open(opened(number))
    events = [opened(3), *(finished(number) for number in range(3))]
    room[0] = taken
    written = writer.append_turn(events, 1)
    room[0] = -1
    (segment,) = list_segments(tmp_path)
    lines = segment.read_bytes().splitlines(keepends=True)
    assert lines[-1].endswith(b"\n")
    assert len(lines) == 1 + 3 + written  # a header, what was there before, and whole lines only
    assert written < len(events)
    for event in events[written:1]:
        writer.append_open(event)
    for event in events[max(1, written) :]:
        writer.append_final(event)
    writer.append_final(finished(3))
    writer.close()
    sequences = [record.sequence for record in records(tmp_path)]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert sorted(numbers(finals(tmp_path))) == [0, 1, 2, 3]
