"""The writer killed, and its disk refusing: what was acknowledged is there, once."""

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from metering.core.event import Outcome
from metering.errors import SpoolError
from metering.sidecar.spool.disk import DISK
from metering.sidecar.spool.scan import Harm
from metering.sidecar.spool.segment import list_segments
from metering.sidecar.spool.segment_log import UNSYNCED_FINALS_MAX
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import ROOT, damages, finals, finished, numbers, opened, start_python

SEED = 20261122


def test_killed_dozens_of_times_nothing_acknowledged_is_lost_or_double(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.sidecar.spool_killing", str(tmp_path), "40", str(SEED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(run.stdout)
    rows = finals(tmp_path)
    found = numbers(rows)
    completed = {number for number, row in zip(found, rows, strict=True) if row.outcome is Outcome.COMPLETED}
    assert len(told["finished"]) > 500, "the writers were killed before they wrote anything"
    assert set(told["opened"]) - set(found) == set(), "lost"
    assert set(told["finished"]) - completed == set(), "lost the truth about"
    assert len(found) == len(set(found)), "duplicated"
    assert set(found) - set(told["attempted"]) == set(), "unexpected"


def test_segments_are_shipped_and_gone_while_a_start_reads(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path, segment_bytes=4000)
    writer.append_open(opened(0))
    for number in range(1, 100):
        writer.append_open(opened(number))
        writer.append_final(finished(number))
    writer.close()
    segments = list_segments(tmp_path)
    assert len(segments) > 4
    retired = segments[:-1]

    def open_late(path: Path, flags: int) -> int:
        while retired and path == segments[-1]:  # as the shipper does, after the names were listed
            retired.pop().unlink()
        return DISK.open(path, flags)

    SpoolWriter.open(tmp_path, disk=msgspec.structs.replace(DISK, open=open_late)).close()
    assert retired == []
    (interrupted,) = [row for row in finals(tmp_path) if row.outcome is Outcome.INTERRUPTED]
    assert numbers([interrupted]) == [0]


def test_a_failed_sync_is_not_retried_on_the_same_file(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    writer.append_open(opened(1))
    writer.append_open(opened(2))
    writer.append_final(finished(1))
    old = writer._log._active
    assert old is not None
    reader, pipe = os.pipe()
    os.dup2(pipe, old.fd)  # the kernel can't sync a pipe: fdatasync says EINVAL
    with pytest.raises(SpoolError, match="can't sync"):
        writer.sync()
    assert writer.measure().degraded
    assert writer.measure().syncs_failed == 1
    new = writer._log._active
    assert new is not None
    assert new.path != old.path
    # Whatever became of the old file: what it held is in the new one.
    old.path.unlink()
    assert finals(tmp_path) == [finished(1)]
    writer.sync()
    assert not writer.measure().degraded
    writer.append_final(finished(2))
    writer.close()
    assert numbers(finals(tmp_path)) == [1, 2]
    for fd in (reader, pipe):
        os.close(fd)


def test_what_a_failed_sync_held_is_not_called_synced_before_it_is_written_again(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    sequence = writer.append_final(finished(1))
    told: list[str] = []
    writer.on_synced(sequence, lambda: told.append("synced"))
    active = writer._log._active
    assert active is not None
    reader, pipe = os.pipe()
    os.dup2(pipe, active.fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))  # no file can be opened: no new segment either
    try:
        with pytest.raises(SpoolError):
            writer.sync()
        writer.sync()  # there is nothing to sync, so this goes well
        assert told == []
        assert writer.degraded
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    writer.sync()
    assert told == ["synced"]
    assert not writer.measure().degraded
    list_segments(tmp_path)[0].unlink()
    assert finals(tmp_path) == [finished(1)]
    writer.close()
    for fd in (reader, pipe):
        os.close(fd)


@pytest.mark.parametrize(("before", "during"), [(2, 3), (UNSYNCED_FINALS_MAX + 2, 3), (2, UNSYNCED_FINALS_MAX + 2)])
def test_finals_appended_before_and_during_a_sync_that_fails_are_written_again(
    tmp_path: Path, before: int, during: int
) -> None:
    writer = SpoolWriter.open(tmp_path)
    log = writer._log
    writer.append_open(opened(1 << 40))
    for number in range(before):
        writer.append_final(finished(number))
    job = log.take_job()
    for number in range(before, before + during):
        writer.append_final(finished(number))
    log.take_back(job, failed=True)
    old = list_segments(tmp_path)[-1]
    writer.sync()
    old.unlink()  # whatever became of it
    writer.append_final(finished(1 << 40))
    assert numbers(finals(tmp_path)) == [*range(before + during), 1 << 40]
    assert writer.measure().records == before + during + 2
    writer.close()


def test_a_sync_that_fails_in_the_thread_is_taken_back_without_anyone_waiting(tmp_path: Path) -> None:
    reader, pipe = os.pipe()

    async def fail() -> None:
        writer = SpoolWriter.open(tmp_path)
        writer.start_syncing(asyncio.get_running_loop())
        writer.append_final(finished(1))
        active = writer._log._active
        assert active is not None
        os.dup2(pipe, active.fd)
        while not writer.measure().degraded:  # noqa: ASYNC110 - nobody waits: that is the point
            await asyncio.sleep(0.005)
        while writer.measure().degraded or writer.measure().unsynced:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert writer.measure().syncs_failed == 1
        writer.close()

    asyncio.run(asyncio.wait_for(fail(), 20))
    assert numbers(finals(tmp_path)) == [1, 1]  # the same row twice, in two segments: the ledger takes it once
    for fd in (reader, pipe):
        os.close(fd)


def test_waiting_clients_are_let_go_when_the_disk_is_dead(tmp_path: Path) -> None:
    writer = SpoolWriter.open(tmp_path)
    told: list[str] = []
    reader, pipe = os.pipe()
    for turn in range(2):
        sequence = writer.append_final(finished(turn))
        writer.on_synced(sequence, lambda: told.append("released"))
        assert told == []
        active = writer._log._active
        assert active is not None
        os.dup2(pipe, active.fd)
        with pytest.raises(SpoolError):
            writer.sync()
    assert told == ["released", "released"]
    assert writer.measure().degraded
    writer.close()
    assert sorted(set(numbers(finals(tmp_path)))) == [0, 1]
    for fd in (reader, pipe):
        os.close(fd)


HALF = """
import resource, sys
from pathlib import Path
from metering.errors import SpoolFull
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import opened, finished
writer = SpoolWriter.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))  # the kernel cuts a write short there
written = []
for number in range(100):
    try:
        writer.append_final(finished(number))
        written.append(number)
    except SpoolFull:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.close()
print(written)
"""


def test_a_write_cut_short_leaves_no_half_line(tmp_path: Path) -> None:
    process = start_python(HALF, str(tmp_path))
    out, complaints = process.communicate()
    assert complaints == ""
    written = json.loads(out)
    assert len(written) == 99
    assert numbers(finals(tmp_path)) == written
    assert damages(tmp_path) == []


def test_a_half_line_that_cannot_be_cut_ends_its_segment(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: it makes chosen system calls fail")
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=ftruncate", "-e", "inject=ftruncate:error=EIO"]
    run = subprocess.run(
        [*strace, sys.executable, "-c", HALF, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "ptrace" in run.stderr:
        pytest.skip("strace may not trace here")
    written = json.loads(run.stdout)
    assert len(written) == 99
    assert numbers(finals(tmp_path)) == written
    # The half line is still there, the last of its segment: nothing stands behind it on its line.
    assert [damage.harm for damage in damages(tmp_path)] == [Harm.TORN]
    assert len(list_segments(tmp_path)) == 2


FULL = """
import json, os, sys, time
from pathlib import Path
from metering.errors import SpoolFull
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import finals, finished, numbers, opened
disk = Path(sys.argv[1])
writer = SpoolWriter.open(disk / "worker-0", segment_bytes=30_000, max_bytes=1 << 20)
in_flight = list(range(10))
for number in in_flight:
    writer.append_open(opened(number))
number, refused = 100, 0
while not refused:
    try:
        writer.append_open(opened(number))
        writer.append_final(finished(number))
    except SpoolFull:
        refused += 1
    if number == 150:  # someone else takes the disk
        with (disk / "other").open("wb", 0) as other:
            while True:
                try:
                    other.write(bytes(4096))
                except OSError:
                    break
    number += 1
last = number
for number in in_flight:
    writer.append_final(finished(number))
try:
    writer.append_open(opened(500))
except SpoolFull:
    refused += 1
(disk / "other").unlink()
recovered = False
while not recovered:
    time.sleep(0.02)
    try:
        writer.append_open(opened(1000))
        recovered = True
    except SpoolFull:
        pass
writer.append_final(finished(1000))
stats = writer.measure()
writer.close()
found = numbers(finals(disk / "worker-0"))
told = {"refused": refused, "last": last, "found": found}
print(json.dumps({**told, "open": stats.open_calls, "deferred": stats.deferred}))
"""


def test_a_full_disk_refuses_opens_writes_finals_and_recovers(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=400k tmpfs "{tmp_path}" && exec "$@"'
    trial = ["unshare", "-m", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*trial, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a file system of limited size can't be mounted here: it needs root and mount namespaces")
    run = subprocess.run(
        [*trial, sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    told = json.loads(run.stdout)
    assert told["refused"] == 2
    assert set(range(10)) < set(told["found"])  # the calls in flight were recorded on the full disk
    assert 1000 in told["found"]
    assert 500 not in told["found"]
    assert len(told["found"]) == len(set(told["found"]))
    assert set(range(100, told["last"] - 1)) < set(told["found"])
    assert (told["open"], told["deferred"]) == (0, 0)
