"""`metering sidecar` as a process, its upstream in a thread, and what its spools hold."""

import asyncio
import http.client
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.sidecar.rig import CHAT, Script, Upstream, json_answer, serve

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
        return [int(child) for child in children if b"metering.sidecar.worker" in _command(int(child))]


def _command(pid: int) -> bytes:
    """How a process was started; nothing if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@contextmanager
def upstream_thread(script: Script | None = None) -> Iterator[int]:
    """An upstream that answers in a thread of its own; its port."""
    loop = asyncio.new_event_loop()
    upstream = Upstream(script or serve(json_answer()))
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
def running(
    folder: Path, upstream_port: int, sidecar: str = "", drain_seconds: int = 3
) -> Iterator[tuple[Sidecar, int, int]]:
    """A sidecar that serves: itself, its port, its admin port."""
    config = folder / "sidecar.toml"
    config.write_text(
        f'[sidecar]\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\ndrain_seconds = {drain_seconds}\n{sidecar}\n'
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


def finals(folder: Path, spool: str = "worker-*") -> int:
    paths = sorted((folder / "state" / "spool").glob(f"{spool}/*.seg"))
    return sum(line.split(b" ")[2] == b"F" for path in paths for line in path.read_bytes().splitlines())


def opens(folder: Path) -> int:
    paths = sorted((folder / "state" / "spool").glob("worker-*/*.seg"))
    return sum(line.split(b" ")[2] == b"O" for path in paths for line in path.read_bytes().splitlines())
