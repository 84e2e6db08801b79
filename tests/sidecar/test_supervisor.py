"""`metering sidecar` as a process: workers, restarts, the operator's listener, stopping."""

import http.client
import os
import signal
from pathlib import Path

import pytest

from tests.sidecar.programs import Sidecar, call, fetch, finals, opens, running, until, upstream_thread
from tests.sidecar.rig import ANSWER, post


def test_workers_share_the_port_die_and_come_back(tmp_path: Path) -> None:
    with (
        upstream_thread() as upstream_port,
        running(tmp_path, upstream_port, "workers = 2") as (sidecar, port, admin_port),
    ):
        assert all(call(port) == ANSWER for _ in range(20))
        first = sidecar.workers()
        assert len(first) == 2
        for worker in first:
            os.kill(worker, signal.SIGKILL)
            sidecar.wait_for("child_died")
            assert all(call(port) == ANSWER for _ in range(3))  # a queued connection waits for the successor
        until(lambda: len(sidecar.workers()) == 2 and fetch(admin_port, "/readyz")[0] == 200)
        assert all(call(port) == ANSWER for _ in range(20))
        sidecar.process.send_signal(signal.SIGTERM)
        assert sidecar.end() == 0
        assert finals(tmp_path) == 46


def test_admin_listener(tmp_path: Path) -> None:
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port) as (_, port, admin_port):
        call(port)
        assert fetch(admin_port, "/healthz") == (200, "ok\n")
        assert fetch(admin_port, "/readyz") == (200, '{"ready":true,"reasons":[],"warnings":[]}\n')
        status, metrics = fetch(admin_port, "/metrics")
        assert status == 200
        assert "metering_unmetered_calls_total 0\n" in metrics
        assert "metering_calls_in_flight 0\n" in metrics
        assert fetch(admin_port, "/other")[0] == 404
        assert fetch(admin_port, "/healthz", "POST")[0] == 405


def test_a_worker_outlives_its_supervisor_only_to_drain(tmp_path: Path) -> None:
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port) as (sidecar, port, _):
        assert call(port) == ANSWER
        workers = sidecar.workers()
        sidecar.process.kill()
        sidecar.process.wait()
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        with running(tmp_path, upstream_port) as (successor, new_port, _):
            assert call(new_port) == ANSWER
            successor.process.send_signal(signal.SIGTERM)
            assert successor.end() == 0
        assert finals(tmp_path) == 2


def test_two_sidecars_on_one_spool(tmp_path: Path) -> None:
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port):
        second = Sidecar(tmp_path, tmp_path / "sidecar.toml")
        assert second.end() == 4
        assert "another sidecar runs on" in second.said[-1]


def test_spools_of_former_workers_are_finished(tmp_path: Path) -> None:
    """Two workers were killed in the middle of a call each; one worker comes back and looks after both spools."""
    with upstream_thread() as upstream_port:
        with running(tmp_path, upstream_port, "workers = 2") as (sidecar, port, _):
            hanging = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(12)]
            for connection in hanging:
                connection.putrequest("POST", "/openai/v1/chat/completions")
                connection.putheader("Content-Length", "100")
                connection.endheaders(b"{")
            until(lambda: opens(tmp_path) == 12)
            for pid in (sidecar.process.pid, *sidecar.workers()):
                os.kill(pid, signal.SIGKILL)
            sidecar.end()
            for connection in hanging:
                connection.close()
        assert finals(tmp_path) == 0
        with running(tmp_path, upstream_port):
            until(lambda: finals(tmp_path) == 12)


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("", 2, "there is no [[route]]"),
        ('[sidecar]\nlisten = "127.0.0.1:{port}"\n{route}', 2, "choose another address"),
        ('[spool]\ndir = "/proc/nothing"\n{route}', 4, "name another [spool] dir"),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence(tmp_path: Path, text: str, code: int, sentence: str) -> None:
    with upstream_thread() as port:
        config = tmp_path / "sidecar.toml"
        route = f'[[route]]\npath = "/a"\nupstream = "http://127.0.0.1:{port}"\nprovider = "a"'
        config.write_text(text.format(port=port, route=route))
        sidecar = Sidecar(tmp_path, config)
        assert sidecar.end() == code
        assert len(sidecar.said) == 1
        assert sentence in sidecar.said[0]


def test_the_port_is_really_shared(tmp_path: Path) -> None:
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port, "workers = 2") as (_, port, _):
        connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(30)]
        for connection in connections:
            connection.connect()
            connection.sock.sendall(post())
        for connection in connections:
            assert connection.sock.recv(10) == b"HTTP/1.1 2"
            connection.close()
    for number in range(2):
        assert finals(tmp_path, f"worker-{number}") > 0
