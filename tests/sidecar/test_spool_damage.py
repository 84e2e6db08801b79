"""Cut anywhere, flipped anywhere, overwritten, emptied: a start succeeds and what was not touched is there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from metering.core.event import Outcome
from metering.sidecar.spool.quarantine import QUARANTINE
from metering.sidecar.spool.reader import Batch, SpoolReader
from metering.sidecar.spool.recovery import read_checkpoint
from metering.sidecar.spool.repair import repair_spool
from metering.sidecar.spool.report import report_spool
from metering.sidecar.spool.scan import Damage, Harm, Scanner, scan_segment
from metering.sidecar.spool.segment import OPEN, Record, encode_line, list_segments
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import damages, finals, finished, numbers, opened, records

SMALL = 2048


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """A folder in memory where there is one: these tests start thousands of writers, each of which syncs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def write_spool(directory: Path, calls: int) -> None:
    """Call 0 stays open; the others are finished, each after the next one has begun."""
    writer = SpoolWriter.open(directory, segment_bytes=SMALL)
    writer.append_open(opened(0))
    for number in range(1, calls):
        writer.append_open(opened(number))
        if number > 1:
            writer.append_final(finished(number - 1))
    writer.close()


def read_all(directory: Path) -> Batch:
    """What a shipper would ship from the beginning."""
    return SpoolReader(directory, 0).read()


def shipped_numbers(directory: Path) -> list[int]:
    batch = read_all(directory)
    lines = b"".join(encode_line(1, record.kind, record.payload) for _, record in batch.finals)
    (directory / "00000000000000000000.seg").write_bytes(lines)
    events = finals(directory)[: len(batch.finals)]
    (directory / "00000000000000000000.seg").unlink()
    return numbers(events)


def test_cut_at_every_offset_leaves_the_longest_valid_prefix(ram_path: Path) -> None:
    write_spool(ram_path / "whole", 3)
    (segment,) = list_segments(ram_path / "whole")
    data = segment.read_bytes()
    whole = [item for item in Scanner().feed(data) if isinstance(item, Record)]
    for cut in range(len(data)):
        directory = ram_path / "cut"
        directory.mkdir()
        shutil.copy(ram_path / "whole" / "source.id", directory)
        (directory / segment.name).write_bytes(data[:cut])
        SpoolWriter.open(directory).close()
        # A line that lacks nothing but its newline is whole.
        kept = [record for record in whole if record.end - 1 <= cut]
        found = records(directory)
        assert [record.sequence for record in found if record.sequence < 1 << 32] == [r.sequence for r in kept]
        forwarded = {record.payload[:60] for record in kept if record.kind == OPEN}
        assert len(numbers(finals(directory))) == len(set(numbers(finals(directory)))) == len(forwarded), cut
        assert damages(directory) == []
        torn = list((directory / QUARANTINE).glob("*.torn"))
        assert sum(path.stat().st_size for path in torn) == cut - min(cut, max([r.end for r in kept], default=0))
        shutil.rmtree(directory)


def test_any_flipped_bit_of_a_two_segment_spool_costs_no_record(tmp_path: Path) -> None:
    write_spool(tmp_path, 7)
    segments = list_segments(tmp_path)
    assert len(segments) == 2
    for segment in segments:
        data = bytearray(segment.read_bytes())
        whole = [(record.sequence, record.payload) for record in scan_segment(segment) if isinstance(record, Record)]
        for offset, bit in product(range(len(data)), [1 << shift for shift in range(8)]):
            data[offset] ^= bit
            scanner = Scanner()
            items = scanner.feed(bytes(data)) + scanner.finish()
            data[offset] ^= bit
            assert [(item.sequence, item.payload) for item in items if isinstance(item, Record)] == whole, offset
            lacks_last_newline = segment.stat().st_size == offset + 1
            assert lacks_last_newline or any(isinstance(item, Damage) for item in items), offset


def test_a_spool_with_a_flipped_bit_starts_and_ships_every_call(ram_path: Path) -> None:
    write_spool(ram_path / "whole", 9)
    for segment in list_segments(ram_path / "whole"):
        data = segment.read_bytes()
        for offset in range(0, len(data), 29):
            directory = ram_path / "flipped"
            shutil.copytree(ram_path / "whole", directory)
            flipped = bytearray(data)
            flipped[offset] ^= 1 << offset % 8
            (directory / segment.name).write_bytes(flipped)
            SpoolWriter.open(directory).close()
            assert sorted(shipped_numbers(directory)) == list(range(9)), (segment.name, offset)
            shutil.rmtree(directory)


def test_a_flipped_bit_is_told_by_verify_and_mended_by_repair(ram_path: Path) -> None:
    write_spool(ram_path / "whole", 7)
    assert report_spool(ram_path / "whole").places == []
    for segment in list_segments(ram_path / "whole"):
        data = segment.read_bytes()
        for offset in range(7, len(data) - 1, 97):
            directory = ram_path / "flipped"
            shutil.copytree(ram_path / "whole", directory)
            flipped = bytearray(data)
            flipped[offset] ^= 1 << offset % 8
            (directory / segment.name).write_bytes(flipped)
            assert [place.is_damage for place in report_spool(directory).places] == [True], offset
            report = repair_spool(directory)
            assert (report.segments_rewritten, report.damages_quarantined) == (1, 1)
            assert [place for place in report_spool(directory).places if place.is_damage] == []
            assert sorted(numbers(finals(directory))) == list(range(7)), offset
            shutil.rmtree(directory)


def test_a_mended_record_is_the_one_that_was_written() -> None:
    line = encode_line(7, b"F", b'{"event_id":"x"}')
    for bit in range(8 * len(line)):
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        scanner = Scanner()
        items = scanner.feed(bytes(flipped) + encode_line(8, b"F", b"{}")) + scanner.finish()
        found = [item for item in items if isinstance(item, Record)]
        assert [(record.sequence, record.payload) for record in found] == [(7, b'{"event_id":"x"}'), (8, b"{}")], bit
        assert any(isinstance(item, Damage) for item in items)


def test_two_flipped_bits_are_quarantined_not_guessed(tmp_path: Path) -> None:
    write_spool(tmp_path, 9)
    first, second, *_ = list_segments(tmp_path)
    data = bytearray(first.read_bytes())
    target = next(record for record in records(tmp_path) if record.kind == b"F")
    data[target.offset + 40] ^= 1
    data[target.offset + 50] ^= 1
    first.write_bytes(data)
    batch = read_all(tmp_path)
    assert [(damage.offset, damage.harm) for _, damage in batch.damages] == [(target.offset, Harm.LOST)]
    assert second.exists()


def test_a_destroyed_final_of_an_old_segment_leaves_an_interrupted_row(tmp_path: Path) -> None:
    write_spool(tmp_path, 9)
    first = list_segments(tmp_path)[0]
    target = next(record for record in records(tmp_path) if record.kind == b"F")
    data = bytearray(first.read_bytes())
    data[target.offset : target.end - 1] = b"#" * (target.end - 1 - target.offset)
    first.write_bytes(data)
    batch = read_all(tmp_path)
    assert batch.interrupted == 1
    interrupted = [record for _, record in batch.finals if b'"outcome":"interrupted"' in record.payload]
    assert len(interrupted) == 1
    assert Outcome.INTERRUPTED in interrupted[0].payload.decode()


@pytest.mark.parametrize(
    "harm",
    ["empty", "zeros", "garbage", "header", "missing", "directory"],
)
def test_the_newest_segment_may_be_anything(tmp_path: Path, harm: str) -> None:
    write_spool(tmp_path, 9)
    newest = list_segments(tmp_path)[-1]
    data = newest.read_bytes()
    if harm == "missing":
        newest.unlink()
    elif harm == "directory":
        newest.with_name(f"{int(newest.stem) + 50:020d}.seg").mkdir()
    else:
        spoiled = {"empty": b"", "zeros": bytes(5000), "garbage": b"\xff\n" * 900, "header": b"#" * 80 + data[80:]}
        newest.write_bytes(spoiled[harm])
    writer = SpoolWriter.open(tmp_path, segment_bytes=SMALL)
    writer.append_open(opened(100))
    writer.append_final(finished(100))
    writer.close()
    shipped = shipped_numbers(tmp_path)
    assert len(shipped) == len(set(shipped))
    assert 0 in shipped  # it was open from the first segment on
    assert 100 in shipped
    if harm == "header":
        assert sorted(shipped) == [*range(9), 100]


def test_a_lost_middle_segment_is_survived(tmp_path: Path) -> None:
    write_spool(tmp_path, 12)
    segments = list_segments(tmp_path)
    lost = set(numbers(finals(tmp_path)))
    segments[1].unlink()
    SpoolWriter.open(tmp_path).close()
    shipped = shipped_numbers(tmp_path)
    assert set(shipped) < lost | {0, 11}
    assert {0, 11} < set(shipped)


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    write_spool(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("hands off")
    (tmp_path / "12.seg").write_text("not ours")
    SpoolWriter.open(tmp_path).close()
    assert (tmp_path / "notes.txt").read_text() == "hands off"
    assert (tmp_path / "12.seg").read_text() == "not ours"


def test_a_broken_beginning_makes_recovery_read_the_segment_before(tmp_path: Path) -> None:
    write_spool(tmp_path, 12)
    segments = list_segments(tmp_path)
    newest = segments[-1]
    assert read_checkpoint(newest) is not None
    newest.write_bytes(newest.read_bytes()[:300])  # the carry was never written to its end
    assert read_checkpoint(newest) is None
    SpoolWriter.open(tmp_path).close()
    assert 0 in numbers(finals(tmp_path))


def test_carriage_returns_and_blank_lines_are_no_lines_of_their_own() -> None:
    good = encode_line(3, b"F", b"{}")
    scanner = Scanner()
    items = scanner.feed(b"\r\n\n\x0b\x0c\r" + b"\n" + good) + scanner.finish()
    assert [item for item in items if isinstance(item, Record)] == [Record(3, b"F", b"{}", 7, 7 + len(good))]
    assert [item.data for item in items if isinstance(item, Damage)] == [b"\r\n\n\x0b\x0c\r\n"]
