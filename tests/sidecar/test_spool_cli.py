"""`metering spool`: what the person on call sees, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metering.sidecar.spool.segment import FINAL, list_segments
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import ROOT, finals, finished, numbers, opened, records


def metering_spool(*arguments: str | Path, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "metering", "spool", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Forty finished calls in several segments and one that is still open."""
    writer = SpoolWriter.open(tmp_path / "worker-0", segment_bytes=4096)
    writer.append_open(opened(99))
    for number in range(40):
        writer.append_open(opened(number))
        writer.append_final(finished(number))
    writer.close()
    return tmp_path


def damage(spool: Path) -> int:
    """Overwrite the second final; the offset of its line."""
    target = [record for record in records(spool / "worker-0") if record.kind == FINAL][1]
    segment = list_segments(spool / "worker-0")[0]
    data = bytearray(segment.read_bytes())
    data[target.offset + 20 : target.offset + 40] = bytes(20)
    segment.write_bytes(data)
    return target.offset


def test_inspect_tells_what_is_there(spool: Path, command_environ: dict[str, str]) -> None:
    run = metering_spool("inspect", spool, "--output", "json", environ=command_environ)
    assert (run.returncode, run.stderr) == (0, "")
    told: list[dict[str, Any]] = json.loads(run.stdout)
    assert len(told) == 1
    assert told[0]["open_calls"] == 1
    assert told[0]["in_use"] is False
    segments = told[0]["segments"]
    assert [segment["segment"] for segment in segments] == [p.name for p in list_segments(spool / "worker-0")]
    assert sum(segment["finals"] for segment in segments) == 40
    assert segments[0]["first_sequence"] == 1
    assert segments[0]["first_at"].startswith("2026-09-21T")
    assert told[0]["bytes"] == sum(segment["bytes"] for segment in segments)
    table = metering_spool("inspect", spool / "worker-0", environ=command_environ).stdout
    assert "1 open calls" in table
    assert segments[-1]["segment"] in table


def test_verify_finds_nothing_in_a_whole_spool(spool: Path, command_environ: dict[str, str]) -> None:
    run = metering_spool("verify", spool, environ=command_environ)
    assert (run.returncode, run.stdout) == (0, "")
    assert "as they were written" in run.stderr
    assert run.stderr.startswith(str(len([r for r in records(spool / "worker-0") if r.kind != b"H"])))


def test_verify_names_the_damage_and_repair_mends_it(spool: Path, command_environ: dict[str, str]) -> None:
    offset = damage(spool)
    run = metering_spool("verify", spool, "--output", "json", environ=command_environ)
    assert run.returncode == 4
    assert "metering spool repair" in run.stderr
    told = json.loads(run.stdout)
    assert told["damages"] == 1
    assert (told["places"][0]["offset"], told["places"][0]["harm"]) == (offset, "lost")
    assert "missing" in [place["harm"] for place in told["places"]]

    repaired = metering_spool("repair", spool, "--output", "json", environ=command_environ)
    assert repaired.returncode == 0
    assert json.loads(repaired.stdout)[0] == {
        "directory": str(spool / "worker-0"),
        "segments_rewritten": 1,
        "damages_quarantined": 1,
        "calls_interrupted": 1,
    }
    assert metering_spool("verify", spool, environ=command_environ).returncode == 0
    assert sorted(numbers(finals(spool / "worker-0"))) == [0, *range(2, 40), 99]


def test_verify_misses_a_segment_that_is_gone(spool: Path, command_environ: dict[str, str]) -> None:
    list_segments(spool / "worker-0")[1].unlink()
    run = metering_spool("verify", spool, environ=command_environ)
    assert run.returncode == 4
    assert "are not here" in run.stdout


def test_a_shipped_beginning_and_a_torn_end_are_no_damage(spool: Path, command_environ: dict[str, str]) -> None:
    first, *_, last = list_segments(spool / "worker-0")
    first.unlink()
    last.write_bytes(last.read_bytes()[:-30])
    run = metering_spool("verify", spool, "--output", "json", environ=command_environ)
    assert run.returncode == 0
    assert [(place["harm"], place["is_damage"]) for place in json.loads(run.stdout)["places"]] == [("torn", False)]


def test_repair_is_refused_while_the_spool_is_in_use(spool: Path, command_environ: dict[str, str]) -> None:
    writer = SpoolWriter.open(spool / "worker-0")
    damage(spool)
    run = metering_spool("repair", spool, environ=command_environ)
    assert run.returncode == 4
    assert "another process writes" in run.stderr
    told = metering_spool("inspect", spool, "--output", "json", environ=command_environ).stdout
    assert json.loads(told)[0]["in_use"] is True
    writer.close()


def test_a_folder_without_spool_is_told(tmp_path: Path, command_environ: dict[str, str]) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        run = metering_spool("verify", folder, environ=command_environ)
        assert run.returncode == 4
        assert run.stderr.startswith("metering: there is no spool in")
