"""`metering sidecar` as a process: workers, restarts, the operator's listener, stopping."""

import asyncio
import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from metering.sidecar.exposition import render
from metering.sidecar.tally import Tally
from tests.sidecar.rig import ANSWER, CHAT, Upstream, json_answer, post, serve

WAIT_SECONDS = 20


class Sidecar:
    """A running `metering sidecar` and what it said."""

    def __init__(self, folder: Path, config: Path) -> None:
        environ = {**os.environ, "METERING_STATE_DIR": str(folder / "state")}
        environ.pop("METERING_DATABASE_URL", None)
        command = [sys.executable, "-m", "metering", "sidecar", "--config", str(config)]
        self.process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, happening: str) -> dict[str, Any]:
        """The next line of that kind."""
        while True:
            line = self._lines.get(timeout=WAIT_SECONDS)
            assert line is not None, f"it ended without {happening}: {self.said}"
            self.said.append(line)
            if line.startswith("{") and json.loads(line)["happening"] == happening:
                found: dict[str, Any] = json.loads(line)
                return found

    def end(self) -> int:
        """Its exit code, all it said read (its workers hold the same pipe)."""
        code = self.process.wait(WAIT_SECONDS)
        while (line := self._lines.get(timeout=WAIT_SECONDS)) is not None:
            self.said.append(line)
        return code

    def workers(self) -> list[int]:
        """Its worker processes."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


@contextmanager
def upstream_thread() -> Iterator[int]:
    """An upstream that answers in a thread of its own; its port."""
    loop = asyncio.new_event_loop()
    upstream = Upstream(serve(json_answer()))
    loop.run_until_complete(upstream.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield upstream.port
    finally:
        asyncio.run_coroutine_threadsafe(upstream.stop(), loop).result(WAIT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def running(folder: Path, upstream_port: int, sidecar: str = "") -> Iterator[tuple[Sidecar, int, int]]:
    """A sidecar that serves: itself, its port, its admin port."""
    config = folder / "sidecar.toml"
    config.write_text(
        f'[sidecar]\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\ndrain_seconds = 3\n{sidecar}\n'
        f'[[route]]\npath = "/openai"\nupstream = "http://127.0.0.1:{upstream_port}"\nprovider = "openai"\n'
    )
    process = Sidecar(folder, config)
    try:
        started = process.wait_for("sidecar_started")
        admin_port = int(started["admin"].rpartition(":")[2])
        until(lambda: fetch(admin_port, "/readyz")[0] == 200)
        yield process, started["port"], admin_port
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.end()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def call(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request("POST", "/openai/v1/chat/completions", CHAT)
    answer = connection.getresponse().read()
    connection.close()
    return answer


def finals(folder: Path) -> int:
    paths = sorted((folder / "state" / "spool").glob("worker-*/*.seg"))
    return sum(line.split(b" ")[2] == b"F" for path in paths for line in path.read_bytes().splitlines())


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
        status, metrics = fetch(admin_port, "/metrics")
        assert status == 200
        assert 'metering_calls_total{worker="0",outcome="completed"} 1\n' in metrics
        assert 'metering_unmetered_calls_total{worker="0"} 0\n' in metrics
        assert 'metering_calls_in_flight{worker="0"} 0\n' in metrics
        assert fetch(admin_port, "/other")[0] == 404
        assert fetch(admin_port, "/healthz", "POST")[0] == 405


def test_every_counter_is_shown() -> None:
    shown = render({0: Tally()})
    for field in set(Tally.__struct_fields__) - {"calls"}:
        assert f"metering_{field}" in shown


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


def opens(folder: Path) -> int:
    paths = sorted((folder / "state" / "spool").glob("worker-*/*.seg"))
    return sum(line.split(b" ")[2] == b"O" for path in paths for line in path.read_bytes().splitlines())


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
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port, "workers = 2") as (_, port, admin_port):
        connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(30)]
        for connection in connections:
            connection.connect()
            connection.sock.sendall(post())
        for connection in connections:
            assert connection.sock.recv(10) == b"HTTP/1.1 2"
            connection.close()
        _, metrics = fetch(admin_port, "/metrics")
        counted = [line for line in metrics.splitlines() if 'outcome="completed"' in line]
        assert len(counted) == 2
        assert not [line for line in counted if line.endswith(" 0")]
