"""SIGKILL for each of a path's programs, and what an operator's system would do next: start it again."""

import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.faults.blame import Kill
from benchmarks.workshop import Workshop
from metering.errors import MeteringError

FIND_SECONDS = 30.0
POLL_SECONDS = 0.01


class Killer:
    """Kills programs of one workshop, found by their parent, never by name alone."""

    KINDS = ("worker", "supervisor", "shipper", "postgres")

    def __init__(self, workshop: Workshop, keeper: "PostgresKeeper") -> None:
        self._workshop = workshop
        self._keeper = keeper

    def kill(self, kind: str, dice: random.Random, after_calls: int) -> Kill:
        """Kill one program of this kind; returns when the sidecar, if it was killed, takes calls again."""
        ports: frozenset[int] = frozenset()
        at = time.monotonic()
        if kind == "worker":
            at, ports = self._worker(dice)
        elif kind == "supervisor":
            self._supervisor()
        elif kind == "shipper":
            _end(self._child("ship", dice))
        else:
            self._keeper.kill(dice)
        return Kill(kind=kind, after_calls=after_calls, at=at, until=time.monotonic(), ports=ports)

    def _worker(self, dice: random.Random) -> tuple[float, frozenset[int]]:
        """Stopped, looked at, killed: so it is known for certain which connections were its own."""
        pid = self._child("metering.sidecar.worker", dice)
        try:
            os.kill(pid, signal.SIGSTOP)
            _wait_until_stopped(pid)
            ports = _client_ports(pid, self._workshop.stack.port)
        except OSError:
            ports = frozenset()  # it died of something else a moment ago
        at = time.monotonic()
        _end(pid)
        return at, ports

    def _supervisor(self) -> None:
        stack = self._workshop.stack
        assert stack.sidecar is not None
        _end(stack.sidecar.pid)
        stack.sidecar.reap()
        stack.start_sidecar()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when all workers say they are."""
        deadline = time.monotonic() + FIND_SECONDS
        while not _is_ready(self._workshop.stack.admin_port):
            if time.monotonic() > deadline:
                raise MeteringError(f"the sidecar is not ready: see {self._workshop.stack.folder}/sidecar.log")
            time.sleep(POLL_SECONDS)

    def _child(self, word: str, dice: random.Random) -> int:
        """One of the supervisor's children whose command line has `word`; waits for one."""
        sidecar = self._workshop.stack.sidecar
        assert sidecar is not None
        deadline = time.monotonic() + FIND_SECONDS
        while True:
            found = [pid for pid in _child_pids(sidecar.pid) if word in _words(pid)]
            if found:
                return dice.choice(found)
            if time.monotonic() > deadline:
                raise MeteringError(f"the sidecar has no child {word!r}: see {self._workshop.stack.folder}/sidecar.log")
            time.sleep(POLL_SECONDS)


class PostgresKeeper:
    """Starts a workshop's Postgres again whenever it was killed, as a service manager would, in a thread."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._killed = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def kill(self, dice: random.Random, *, comes_back: bool = True) -> None:
        """Kill the postmaster, or it and all its children at once; also while it recovers from the last kill."""
        deadline = time.monotonic() + FIND_SECONDS
        while (pid := self._postmaster()) is None:
            if time.monotonic() > deadline:
                raise MeteringError(f"no Postgres to kill: see {self._workshop.folder}/postgres/postgres.log")
            time.sleep(POLL_SECONDS)
        children = _child_pids(pid) if dice.random() < 0.5 else []
        for victim in (pid, *children):
            _end(victim)
        if comes_back:
            self._killed.set()

    def stop(self) -> None:
        """Return when Postgres runs and is watched no more."""
        self._over = True
        self._killed.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._over:
            self._killed.wait()
            self._killed.clear()
            self.start()

    def start(self) -> None:
        """Start it until it runs."""
        deadline = time.monotonic() + FIND_SECONDS
        while True:
            try:
                self._workshop.postgres.start()
                return
            except MeteringError:  # killed while it started, or a killed one's children still there
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _postmaster(self) -> int | None:
        data = self._workshop.folder / "postgres" / "data"
        try:
            pid = int((data / "postmaster.pid").read_text().split()[0])
            # A number that is left from a killed one may be another program's by now.
            return pid if Path(f"/proc/{pid}/cwd").readlink() == data.resolve() else None
        except (OSError, ValueError, IndexError):
            return None


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it died of something else a moment ago: as good


def _wait_until_stopped(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZX":
        time.sleep(0.0002)


def _client_ports(pid: int, port: int) -> frozenset[int]:
    """The remote ports of a process's connections that were accepted on `port`."""
    links = [entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return frozenset(
        int(row[2].partition(":")[2], 16)
        for row in rows
        if row[9] in inodes and int(row[1].partition(":")[2], 16) == port
    )


def _is_ready(admin_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _child_pids(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
