"""What a sidecar hands to the program that takes its place in the same process, over `exec`.

A new version, or only a new start: process id, listening sockets with the connections that wait in them, the lock
on the spool folder and the workers with the calls they carry all stay; nothing is closed on the way.
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator

import msgspec

from metering.sidecar.children import InheritedWorker, Worker, memory_file
from metering.sidecar.tally import Tally

OPTION = "--inherit"


class WorkerHandover(msgspec.Struct):
    """A worker that runs."""

    number: int
    pid: int
    control_fd: int


class Handover(msgspec.Struct):
    """File descriptors, and what else the next program can't find out."""

    fixed: dict[str, str]  # see `ConfigFile`
    lock_fd: int
    listen_fds: list[int]
    admin_fd: int | None
    shipper_pid: int | None
    workers: list[WorkerHandover]
    counted: Tally  # by workers that ended
    reloads: int
    reloads_failed: int
    estimator_pid: int | None = None  # as a version before it leaves it

    @classmethod
    def read(cls, fd: int) -> "Handover":
        """What a program left in the file `fd`, which is closed."""
        with os.fdopen(fd, "rb") as file:
            file.seek(0)
            return msgspec.json.decode(file.read(), type=cls)

    def write(self) -> int:
        """A file with it, for a program that is started."""
        with memory_file(msgspec.json.encode(self)) as file:
            fd = os.dup(file.fileno())
        os.set_inheritable(fd, True)  # noqa: FBT003 - it takes no keywords
        return fd

    def pass_on(self, *, whether: bool) -> None:
        """Whether a program that is started gets the descriptors."""
        for fd in self._fds():
            os.set_inheritable(fd, whether)

    def take_listeners(self) -> list[socket.socket]:
        """The listening sockets, as ours."""
        return [socket.socket(fileno=fd) for fd in self.listen_fds]

    def take_admin(self) -> socket.socket | None:
        """The operator's listening socket, as ours."""
        return None if self.admin_fd is None else socket.socket(fileno=self.admin_fd)

    def take_workers(self, listeners: list[socket.socket]) -> list[Worker]:
        """The running workers, as ours."""
        return [
            InheritedWorker(found.number, found.pid, socket.socket(fileno=found.control_fd), listeners[found.number])
            for found in self.workers
        ]

    def _fds(self) -> Iterator[int]:
        yield from (self.lock_fd, *self.listen_fds, *(worker.control_fd for worker in self.workers))
        if self.admin_fd is not None:
            yield self.admin_fd


def hand_over_workers(workers: Iterable[Worker]) -> list[WorkerHandover]:
    """Those that run and can be talked to."""
    return [
        WorkerHandover(worker.number, worker.pid, worker.control.fileno())
        for worker in workers
        if worker.pid is not None and worker.control is not None
    ]


def own_command(fd: int) -> list[str]:
    """How this program was started, to be started again with the handover in the file `fd`."""
    words = sys.orig_argv[1:]
    if OPTION in words:
        at = words.index(OPTION)
        del words[at : at + 2]
    return [sys.executable, *words, OPTION, str(fd)]
