"""Child processes of the supervisor: a worker with its sockets, the shipper; also those of the program before."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Mapping, Sequence
from typing import BinaryIO, cast

from metering.sidecar.control import ASK, HURRY, READY, RETIRE
from metering.sidecar.tally import Tally, decode_tally

ASK_SECONDS = 1.0
LOOK_SECONDS = 0.05
LINE_BYTES_MAX = 64 * 1024**2  # of a tally


def memory_file(data: bytes) -> BinaryIO:
    """A file without a name that holds `data`: in memory where the system knows that, so no disk is needed."""
    if sys.platform == "linux":
        file: BinaryIO = os.fdopen(os.memfd_create("metering"), "w+b")
    else:
        file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - its reader closes it
    file.write(data)
    file.seek(0)
    return file


class Child:
    """One run of a program. It reads the configuration `text` as its standard input."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], text: str) -> None:
        self.name = name
        self.pid: int | None = None  # while it runs
        self._command = [sys.executable, "-m", *command, "--config", "/dev/stdin"]
        self._environ = dict(environ)
        self._text = text
        self._told: int | None = None  # a signal that came before the process

    async def run(self) -> int:
        """Start it and wait for its end: the exit code, negative for a signal."""
        return await self._wait(await self._spawn())

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Make it end."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.pid is None:
            self._told = number
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def _wait(self, process: asyncio.subprocess.Process) -> int:
        try:
            return await process.wait()
        finally:
            self.pid = None

    async def _spawn(self, *options: str, pass_fds: Sequence[int] = ()) -> asyncio.subprocess.Process:
        with memory_file(self._text.encode()) as file:  # a pipe would have to be kept filled
            process = await asyncio.create_subprocess_exec(
                *self._command, *options, env=self._environ, stdin=file, pass_fds=pass_fds
            )
        self.pid = process.pid
        if self._told is not None:
            self._signal(self._told)
        return process


class Worker(Child):
    """A worker: inherits a listening socket that outlives it, and one end of a control socket."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        environ: Mapping[str, str],
        text: str,
        listener: socket.socket,
    ) -> None:
        super().__init__(f"worker-{number}", command, environ, text)
        self.number = number
        self.ready = self.was_ready = self.retired = False
        self.settled = asyncio.Event()  # it is ready, or has ended
        self.tally = Tally()  # as it last said
        self._listener = listener
        self._writer: asyncio.StreamWriter | None = None
        self._answered = asyncio.Event()

    async def run(self) -> int:
        """As `Child.run`, with a fresh control socket."""
        ours, theirs = socket.socketpair()
        listen_fd = self._listener.fileno()
        with theirs:
            process = await self._spawn(
                *("--listen-fd", str(listen_fd), "--control-fd", str(theirs.fileno())),
                pass_fds=(listen_fd, theirs.fileno()),
            )
        return await self._converse(ours, self._wait(process))

    def retire(self) -> None:
        """A successor serves: end without haste."""
        self.retired = True
        self._say(RETIRE)

    def hurry(self) -> None:
        """End now."""
        self._say(HURRY)

    async def ask(self) -> Tally:
        """Its counters, as old as a second if it can't say now."""
        if self.ready:
            self._answered.clear()
            self._say(ASK)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_SECONDS):
                    await self._answered.wait()
        return self.tally

    @property
    def control(self) -> socket.socket | None:
        """Our end of the control socket, while it runs."""
        return None if self._writer is None else self._writer.get_extra_info("socket")

    async def _converse(self, ours: socket.socket, end: Awaitable[int]) -> int:
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES_MAX)
        reading = asyncio.create_task(self._read(reader))
        try:
            code = await end
            await reading  # its last words
            return code
        finally:
            reading.cancel()
            self._writer.close()
            self._writer = None
            self.ready = False
            self.settled.set()
            self._answered.set()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if line == READY:
                    self.ready = self.was_ready = True
                    self.settled.set()
                elif (tally := decode_tally(line)) is not None:
                    self.tally = tally
                    self._answered.set()

    def _say(self, word: bytes) -> None:
        if self._writer is not None:
            self._writer.write(word)


class InheritedWorker(Worker):
    """A worker that the program before this one had started: see `handover`."""

    def __init__(self, number: int, pid: int, control: socket.socket, listener: socket.socket) -> None:
        super().__init__(number, (), {}, "", listener)
        self.pid = pid
        self.ready = True
        self.settled.set()
        self._control = control

    async def run(self) -> int:
        """Wait for its end."""
        return await self._converse(self._control, self._wait_for_child())

    async def _wait_for_child(self) -> int:
        code = 0 if self.pid is None else await wait_for_child(self.pid)
        self.pid = None
        return code


async def wait_for_child(pid: int) -> int:
    """The exit code, once it ends, of a child that asyncio did not start; 0 if it is no child of ours."""
    while True:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not block
        except ChildProcessError:
            return 0
        if found:
            return os.waitstatus_to_exitcode(status)
        await asyncio.sleep(LOOK_SECONDS)
