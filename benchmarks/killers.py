"""SIGKILL for each of a path's programs, and what an operator's system would do next: start it again."""

import os
import random
import signal
import time
from pathlib import Path

from benchmarks.workshop import Workshop
from metering.errors import MeteringError

FIND_SECONDS = 20.0


class Killer:
    """Kills programs of one workshop, found by their parent, never by name alone."""

    KINDS = ("worker", "supervisor", "shipper", "postgres")

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self.counts = dict.fromkeys(self.KINDS, 0)

    def kill(self, kind: str, dice: random.Random) -> None:
        """Kill one program of this kind; returns when what we must restart ourselves runs again."""
        {"worker": self._worker, "supervisor": self._supervisor, "shipper": self._shipper, "postgres": self._postgres}[
            kind
        ](dice)
        self.counts[kind] += 1

    def _worker(self, dice: random.Random) -> None:
        _end(dice.choice(self._children("metering.sidecar.worker")))

    def _shipper(self, dice: random.Random) -> None:
        _end(dice.choice(self._children("ship")))

    def _supervisor(self, _dice: random.Random) -> None:
        sidecar = self._workshop.stack.sidecar
        assert sidecar is not None
        _end(sidecar.pid)
        sidecar.reap()
        self._workshop.stack.start_sidecar()

    def _postgres(self, _dice: random.Random) -> None:
        for pid_file in self._workshop.folder.glob("postgres/**/postmaster.pid"):
            _end(int(pid_file.read_text().split()[0]))
        deadline = time.monotonic() + FIND_SECONDS
        while True:
            try:
                self._workshop.postgres.start()
                return
            except MeteringError:
                if time.monotonic() > deadline:  # its orphans may take a moment to notice
                    raise
                time.sleep(0.2)

    def _children(self, word: str) -> list[int]:
        """The supervisor's children whose command line has `word`; waits for one."""
        sidecar = self._workshop.stack.sidecar
        assert sidecar is not None
        deadline = time.monotonic() + FIND_SECONDS
        while True:
            found = [pid for pid in _child_pids(sidecar.pid) if word in _words(pid)]
            if found:
                return found
            if time.monotonic() > deadline:
                raise MeteringError(f"the sidecar has no child {word!r}: see {self._workshop.stack.folder}/sidecar.log")
            time.sleep(0.05)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it died of something else a moment ago: as good


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
