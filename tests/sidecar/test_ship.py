"""The shipper against a real Postgres: every final once, whatever comes in between."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import Engine, text

from metering.core.event import Outcome, started_at
from metering.errors import LedgerError, SpoolError, SpoolLocked
from metering.ledger.checks import run_checks
from metering.ledger.partitions import partition_name
from metering.sidecar.ship.pause import RETRY_SECONDS_MAX, Backoff, Stop, Trouble
from metering.sidecar.ship.retire import SHIPPED
from metering.sidecar.ship.shipper import run_shipper
from metering.sidecar.ship.status import read_status
from metering.sidecar.spool.lock import lock_for_shipping
from metering.sidecar.spool.quarantine import QUARANTINE
from metering.sidecar.spool.segment import FINAL, encode_line, list_segments
from metering.sidecar.spool.source_id import read_source_id
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import finished, opened, records, start_python

SHIP = """
import sys
from pathlib import Path
from metering.sidecar.ship import shipper
print("up", flush=True)
print(shipper.run_shipper(Path(sys.argv[1]), sys.argv[2]))
"""


def write_calls(spool: Path, first: int, last: int, segment_bytes: int = 1 << 20) -> None:
    writer = SpoolWriter.open(spool, segment_bytes=segment_bytes)
    for number in range(first, last):
        writer.append_open(opened(number))
        writer.append_final(finished(number))
    writer.close()


def shipped(engine: Engine) -> tuple[int, int]:
    """Rows, and the sum of their input tokens."""
    with engine.connect() as connection:
        row = connection.execute(text("SELECT count(*), coalesce(sum(input_tokens), 0) FROM usage_event")).one()
    return int(row[0]), int(row[1])


def test_everything_is_shipped_once(tmp_path: Path, database_url: str, engine: Engine) -> None:
    write_calls(tmp_path / "worker-0", 0, 300, segment_bytes=20_000)
    write_calls(tmp_path / "worker-1", 300, 400)
    segments = len(list_segments(tmp_path / "worker-0"))
    totals = run_shipper(tmp_path, database_url, once=True)
    assert (totals.records, totals.inserted, totals.batches) == (400, 400, 2)
    assert totals.segments_retired == segments - 1 > 3
    assert shipped(engine) == (400, sum(range(400)))
    assert run_shipper(tmp_path, database_url, once=True).records == 0
    write_calls(tmp_path / "worker-0", 400, 500)
    assert run_shipper(tmp_path, database_url, once=True).inserted == 100
    assert shipped(engine) == (500, sum(range(500)))


def test_shipping_behind_a_live_writer(tmp_path: Path, database_url: str, engine: Engine) -> None:
    stop = Stop()
    shipper = threading.Thread(target=run_shipper, args=(tmp_path, database_url), kwargs={"stop": stop})
    shipper.start()
    writer = SpoolWriter.open(tmp_path / "worker-3", segment_bytes=20_000)
    for number in range(600):
        writer.append_open(opened(number))
        writer.append_final(finished(number))
        if number % 200 == 199:
            while shipped(engine)[0] <= number:
                stop.wait(0.02)
    stop.request()
    shipper.join()
    writer.close()
    stop.close()
    assert shipped(engine) == (600, sum(range(600)))
    status = read_status(tmp_path / "worker-3")
    assert status is not None
    assert status.totals.inserted == 600


def test_a_half_line_of_a_live_segment_is_waited_for(tmp_path: Path, database_url: str, engine: Engine) -> None:
    spool = tmp_path / "worker-0"
    writer = SpoolWriter.open(spool)
    sequence = writer.append_final(finished(1))
    line = encode_line(sequence + 1, FINAL, msgspec.json.encode(finished(2)))
    (segment,) = list_segments(spool)
    with segment.open("ab") as file:
        file.write(line[:100])
    totals = run_shipper(tmp_path, database_url, once=True)
    assert (totals.inserted, totals.corrupt) == (1, 0)
    with segment.open("ab") as file:
        file.write(line[100:])
    assert run_shipper(tmp_path, database_url, once=True).inserted == 1
    assert shipped(engine) == (2, 3)
    writer.close()


def test_damage_is_quarantined_and_the_rest_ships(tmp_path: Path, database_url: str, engine: Engine) -> None:
    spool = tmp_path / "worker-0"
    write_calls(spool, 0, 100, segment_bytes=20_000)
    first = list_segments(spool)[0]
    target = [record for record in records(spool) if record.kind == FINAL][10]
    data = bytearray(first.read_bytes())
    data[target.offset + 30 : target.offset + 60] = b"x" * 30
    first.write_bytes(data)
    totals = run_shipper(tmp_path, database_url, once=True)
    assert (totals.inserted, totals.corrupt, totals.interrupted) == (100, 1, 1)
    kept = spool / QUARANTINE / f"{first.stem}-{target.offset}.lost"
    assert kept.read_bytes() == bytes(data[target.offset : target.end])
    with engine.connect() as connection:
        interrupted = connection.execute(text("SELECT event_id FROM usage_event WHERE outcome = 'interrupted'")).all()
    assert [row[0] for row in interrupted] == [finished(10).event_id]
    assert shipped(engine) == (100, sum(range(100)) - 10)


def test_what_is_delivered_again_is_known(tmp_path: Path, database_url: str, engine: Engine) -> None:
    write_calls(tmp_path / "worker-0", 0, 200)
    run_shipper(tmp_path, database_url, once=True)
    (tmp_path / "worker-0" / "source.id").write_text(f"{uuid4()}\n")  # a ledger that knows the calls, not the source
    totals = run_shipper(tmp_path, database_url, once=True)
    assert (totals.records, totals.duplicates, totals.inserted) == (200, 200, 0)
    assert shipped(engine) == (200, sum(range(200)))


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE spool_source SET position = 0"],  # an operator's mistake
        ["DELETE FROM usage_event", "DELETE FROM shipped_batch", "UPDATE spool_source SET position = 0"],  # a backup
    ],
    ids=["position", "ledger"],
)
def test_what_is_set_back_under_a_shipper_is_mended(
    tmp_path: Path, database_url: str, engine: Engine, statements: list[str]
) -> None:
    write_calls(tmp_path / "worker-0", 0, 200)
    stop = Stop()
    shipping = threading.Thread(target=run_shipper, args=(tmp_path, database_url), kwargs={"stop": stop})
    shipping.start()
    while shipped(engine)[0] < 200:
        threading.Event().wait(0.02)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    write_calls(tmp_path / "worker-0", 200, 300)
    while shipped(engine)[0] < 300:
        threading.Event().wait(0.02)
    stop.request()
    shipping.join()
    stop.close()
    assert shipped(engine) == (300, sum(range(300)))
    assert [check.check for check in run_checks(engine) if not check.holds] == []


def test_a_partition_dropped_under_a_shipper_is_made_again(tmp_path: Path, database_url: str, engine: Engine) -> None:
    write_calls(tmp_path / "worker-0", 0, 100)
    stop = Stop()
    shipping = threading.Thread(target=run_shipper, args=(tmp_path, database_url), kwargs={"stop": stop})
    shipping.start()
    while shipped(engine)[0] < 100:
        threading.Event().wait(0.02)
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {partition_name(started_at(finished(0).event_id).date())}"))
    write_calls(tmp_path / "worker-0", 100, 200)
    while shipped(engine)[0] < 100:
        threading.Event().wait(0.02)
    stop.request()
    shipping.join()
    stop.close()
    assert shipped(engine) == (100, sum(range(100, 200)))


def test_a_poison_row_does_not_stop_the_rest(tmp_path: Path, database_url: str, engine: Engine) -> None:
    writer = SpoolWriter.open(tmp_path / "worker-0")
    for number in range(50):
        writer.append_final(finished(number))
    poison = msgspec.structs.replace(finished(50), request_model="\x00", status=1 << 80)
    writer.append_final(poison)
    writer.append_final(msgspec.structs.replace(finished(7), outcome=Outcome.ABORTED))  # a second truth
    for number in range(51, 100):
        writer.append_final(finished(number))
    writer.close()
    totals = run_shipper(tmp_path, database_url, once=True)
    assert (totals.records, totals.inserted, totals.refused, totals.conflicts) == (101, 99, 1, 1)
    assert shipped(engine) == (99, sum(range(100)) - 50)


def test_a_record_of_no_event_is_quarantined(tmp_path: Path, database_url: str, engine: Engine) -> None:
    spool = tmp_path / "worker-0"
    writer = SpoolWriter.open(spool)
    sequence = writer.append_final(finished(1))
    with list_segments(spool)[0].open("ab") as file:
        file.write(encode_line(sequence + 1, FINAL, b'{"event_id":"not one"}'))
        file.write(encode_line(sequence + 2, FINAL, msgspec.json.encode(finished(2))))
    totals = run_shipper(tmp_path, database_url, once=True)
    assert (totals.inserted, totals.unreadable) == (2, 1)
    assert [path.read_bytes() for path in (spool / QUARANTINE).iterdir()] == [b'{"event_id":"not one"}']
    assert shipped(engine)[0] == 2
    writer.close()


def test_shipped_segments_are_kept_as_long_as_asked(tmp_path: Path, database_url: str, engine: Engine) -> None:
    spool = tmp_path / "worker-0"
    write_calls(spool, 0, 200, segment_bytes=20_000)
    segments = list_segments(spool)
    run_shipper(tmp_path, database_url, once=True, retain_seconds=3600)
    assert [path.name for path in list_segments(spool / SHIPPED)] == [path.name for path in segments[:-1]]
    assert list_segments(spool) == segments[-1:]
    for segment in list_segments(spool / SHIPPED):
        shutil.move(segment, spool)  # the ledger went back: ship them again
    (spool / "source.id").write_text(f"{uuid4()}\n")
    assert run_shipper(tmp_path, database_url, once=True, retain_seconds=3600).duplicates == 200
    run_shipper(tmp_path, database_url, once=True, retain_seconds=0.001)
    assert list_segments(spool / SHIPPED) == []


def test_a_second_shipper_is_refused(tmp_path: Path, database_url: str) -> None:
    write_calls(tmp_path / "worker-0", 0, 1)
    lock = lock_for_shipping(tmp_path / "worker-0")
    with pytest.raises(SpoolLocked, match="another shipper ships"):
        run_shipper(tmp_path, database_url, once=True)
    os.close(lock)
    assert run_shipper(tmp_path, database_url, once=True).inserted == 1


def test_a_copied_spool_is_refused_loudly(
    tmp_path: Path, database_url: str, engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "worker-0"
    write_calls(spool, 0, 10)
    stop = Stop()
    shipper = threading.Thread(target=run_shipper, args=(tmp_path, database_url), kwargs={"stop": stop})
    shipper.start()
    while shipped(engine)[0] < 10:
        stop.wait(0.02)
    with engine.begin() as connection:  # the shipper of a copy moves the position on
        connection.execute(text("UPDATE spool_source SET position = position + 1000000"))
    write_calls(spool, 10, 20)
    stop.wait(1)
    stop.request()
    shipper.join()
    stop.close()
    assert shipped(engine)[0] == 10
    assert capfd.readouterr().err.count("another shipper ships a copy") == 1


def test_a_ledger_without_tables_is_told(tmp_path: Path, empty_database_url: str) -> None:
    write_calls(tmp_path / "worker-0", 0, 1)
    with pytest.raises(LedgerError, match="metering migrate"):
        run_shipper(tmp_path, empty_database_url, once=True)


def test_sigterm_ends_it_well(tmp_path: Path, database_url: str, engine: Engine) -> None:
    write_calls(tmp_path / "worker-0", 0, 100)
    process = start_python(SHIP, str(tmp_path), database_url)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    while shipped(engine)[0] < 100:
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGTERM)
    out, complaints = process.communicate()
    assert (process.returncode, complaints) == (0, "")
    assert "inserted=100" in out


def test_a_stopping_shipper_takes_what_was_written_last(tmp_path: Path, database_url: str, engine: Engine) -> None:
    write_calls(tmp_path / "worker-0", 0, 1)
    stop = Stop()
    shipping = threading.Thread(target=run_shipper, args=(tmp_path, database_url), kwargs={"stop": stop})
    shipping.start()
    while shipped(engine)[0] < 1:
        threading.Event().wait(0.02)
    write_calls(tmp_path / "worker-0", 1, 200)
    stop.request()
    shipping.join()
    stop.close()
    assert shipped(engine) == (200, sum(range(200)))


def test_pauses_grow_differ_and_are_bounded() -> None:
    backoff = Backoff()
    pauses = [backoff.next_seconds() for _ in range(40)]
    assert pauses[0] <= 0.1
    assert max(pauses) <= RETRY_SECONDS_MAX
    assert min(pauses[12:]) >= RETRY_SECONDS_MAX / 2
    assert len(set(pauses[12:])) > 20
    backoff.reset()
    assert backoff.next_seconds() <= 0.1


def test_trouble_is_told_once_per_change(capfd: pytest.CaptureFixture[str]) -> None:
    trouble = Trouble("x")
    trouble.over()
    for _ in range(5):
        trouble.met(SpoolError("a"))
    trouble.met(SpoolError("b"))
    assert trouble.left() > 0
    trouble.over()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(line["happening"], line.get("reason")) for line in lines] == [
        ("shipping_waits", "a"),
        ("shipping_waits", "b"),
        ("shipping_goes_on", None),
    ]
    assert trouble.left() == 0


def test_an_unbegun_spool_is_left_alone(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "worker-0").mkdir()
    assert run_shipper(tmp_path, database_url, once=True).records == 0
    assert read_source_id(tmp_path / "worker-0") is None
