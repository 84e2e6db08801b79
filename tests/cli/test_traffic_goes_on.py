"""What goes wrong around a running sidecar: each is said in one sentence, and traffic goes on where it can."""

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from metering.lab.programs import free_port
from tests.cli.conftest import CHAT, StartSidecar


def _metering(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metering", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)


def test_odd_calls_pass_and_strangers_are_told_why_they_do_not(
    start_sidecar: StartSidecar, command_environ: dict[str, str], database_url: str, engine: Engine
) -> None:
    sidecar = start_sidecar()
    malformed = sidecar.call(b'{"model": "gpt-4o-mini", "messages": [')
    unpriced = sidecar.call({**CHAT, "model": "acme-7b"})
    stranger = sidecar.call(secret="mk_test_nobody")
    lost = sidecar.client.post(f"http://127.0.0.1:{sidecar.port}/opnai/v1/chat/completions", json=CHAT)
    assert malformed.status_code == 400
    assert "error" in malformed.json()  # the model's own words, in its own dialect
    assert unpriced.status_code == 200
    for refused, status in ((stranger, 401), (lost, 404)):
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"]
    assert sidecar.stop() == 0
    environ = {**command_environ, "METERING_DATABASE_URL": database_url}
    assert _metering(environ, "ship", "--config", str(sidecar.config), "--once").returncode == 0
    assert _metering(environ, "prices", "import").returncode == 0
    assert _metering(environ, "count").returncode == 0
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT team, request_model, outcome, usage_source FROM usage_event")).all()
    assert sorted(map(tuple, rows), key=str) == [
        ("search", "acme-7b", "completed", "reported"),
        ("search", "gpt-4o-mini", "failed", "none"),  # the model is read as far as the body goes
    ]
    period = _metering(environ, "report", "--period", _this_month(engine))
    assert "search (unpriced)" in period.stdout
    assert "metering: no price for" in period.stderr
    assert "openai/acme-7b" in period.stderr


def _this_month(engine: Engine) -> str:
    with engine.connect() as connection:
        at = connection.execute(text("SELECT min(started_at) FROM usage_event")).scalar_one()
    return f"{at:%Y-%m}"


def test_a_ledger_that_is_away_stops_nothing_and_gets_everything_later(
    start_sidecar: StartSidecar, command_environ: dict[str, str], database_url: str, engine: Engine
) -> None:
    closed = f"postgresql://meter:hunter2@127.0.0.1:{free_port()}/metering"
    sidecar = start_sidecar({"METERING_DATABASE_URL": closed})
    assert [sidecar.call().status_code for _ in range(5)] == [200] * 5
    sidecar.wait_until(lambda: "Postgres can't be reached" in sidecar.said(), what="said that the ledger is away")
    assert sidecar.call().status_code == 200
    assert sidecar.client.get(f"http://127.0.0.1:{sidecar.admin_port}/readyz").status_code == 200
    report = _metering({**command_environ, "METERING_DATABASE_URL": closed}, "report", "--period", "2026-10")
    assert (report.returncode, report.stdout) == (3, "")
    assert report.stderr.startswith("metering: Postgres can't be reached")
    assert len(report.stderr.splitlines()) == 1
    assert sidecar.stop() == 0
    assert "hunter2" not in sidecar.said() + report.stderr
    assert "Traceback" not in sidecar.said()
    environ = {**command_environ, "METERING_DATABASE_URL": database_url}
    assert _metering(environ, "ship", "--config", str(sidecar.config), "--once").returncode == 0
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM usage_event")).scalar_one() == 6


@pytest.mark.parametrize("on_full", ["open", "refuse"])
def test_a_full_disk(
    start_sidecar: StartSidecar, command_environ: dict[str, str], tmp_path: Path, on_full: str
) -> None:
    spool = tmp_path / "spool"
    mount = f'mount -t tmpfs -o size=12m tmpfs "{spool}" && exec "$@"'
    small_disk = ["unshare", "-m", "sh", "-c", mount, "sh"]
    spool.mkdir()
    if (
        not shutil.which("unshare")
        or subprocess.run([*small_disk, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("a small file system can't be mounted here: it needs root and mount namespaces")
    sidecar = start_sidecar(spool=f'on_full = "{on_full}"', prefix=small_disk)
    inside = Path(f"/proc/{sidecar.child.pid}/root{spool}")  # the sidecar's own view of its folder
    assert sidecar.call().status_code == 200
    _fill_up(inside / "filler")
    if on_full == "open":
        sidecar.wait_until(
            lambda: sidecar.call().status_code == 200 and sidecar.counter("metering_unmetered_calls_total"),
            what="counted calls it could not record",
        )
    else:
        sidecar.wait_until(lambda: sidecar.call().status_code == 503, what="refused a call")
        refused = sidecar.call()
        assert refused.headers["content-type"] == "application/problem+json"
        assert "spool" in refused.json()["detail"]
    assert "full" in sidecar.said()
    (inside / "filler").unlink()
    recorded = _recorded(command_environ, inside)
    sidecar.wait_until(
        lambda: sidecar.call().status_code == 200 and _recorded(command_environ, inside) > recorded,
        what="recorded calls again",
    )
    verified = _metering(command_environ, "spool", "verify", str(inside))
    assert verified.returncode == 0, verified.stderr
    assert "Traceback" not in sidecar.said()


def _fill_up(filler: Path) -> None:
    """Leave no byte free on `filler`'s file system."""
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 12, 1):
            with suppress(OSError):  # no space left
                while True:
                    file.write(bytes(piece))


def _recorded(environ: dict[str, str], spool: Path) -> int:
    """Calls that the spool holds."""
    told = json.loads(_metering(environ, "spool", "inspect", str(spool), "--output", "json").stdout)
    return sum(segment["finals"] for report in told for segment in report["segments"])
