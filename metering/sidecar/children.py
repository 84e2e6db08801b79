"""Child processes of the supervisor: a worker with its sockets, or the shipper."""

import asyncio
import socket
import sys
from collections.abc import Mapping, Sequence

from metering.sidecar.admin import decode_tally
from metering.sidecar.control import ASK, READY
from metering.sidecar.tally import Tally

ASK_SECONDS = 1.0


class Child:
    """A program that is started again whenever it ends."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.name = name
        self._command = [sys.executable, "-m", *command]
        self._environ = dict(environ)
        self._running: asyncio.subprocess.Process | None = None
        self.was_ready = False

    @property
    def ready(self) -> bool:
        """Whether it does its work now."""
        return self._running is not None

    async def run(self) -> int:
        """Start it and wait for its end: the exit code, negative for a signal."""
        self._running = process = await self._spawn()
        try:
            return await process.wait()
        finally:
            self._running = None

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal("terminate")

    def kill(self) -> None:
        """Make it end."""
        self._signal("kill")

    def _signal(self, how: str) -> None:
        if self._running is not None and self._running.returncode is None:
            getattr(self._running, how)()

    async def _spawn(self, *options: str, pass_fds: Sequence[int] = ()) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command, *options, env=self._environ, stdin=asyncio.subprocess.DEVNULL, pass_fds=pass_fds
        )


class WorkerChild(Child):
    """A worker: inherits a listening socket that outlives it, and one end of a control socket."""

    def __init__(
        self, number: int, command: Sequence[str], environ: Mapping[str, str], listener: socket.socket
    ) -> None:
        super().__init__(f"worker-{number}", command, environ)
        self.number = number
        self._listener = listener
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._is_ready = False
        self._asking = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether it said so."""
        return self._is_ready

    async def run(self) -> int:
        """As `Child.run`, with a fresh control socket."""
        ours, theirs = socket.socketpair()
        try:
            self._running = process = await self._spawn(
                *("--listen-fd", str(self._listener.fileno()), "--control-fd", str(theirs.fileno())),
                pass_fds=(self._listener.fileno(), theirs.fileno()),
            )
        finally:
            theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        greeting = asyncio.create_task(self._await_ready(self._reader))
        try:
            return await process.wait()
        finally:
            greeting.cancel()
            self._writer.close()
            self._reader = self._writer = self._running = None
            self._is_ready = False

    async def ask(self) -> Tally | None:
        """Its counters; None if it can't say now."""
        async with self._asking:
            reader, writer = self._reader, self._writer
            if not self._is_ready or reader is None or writer is None:
                return None
            try:
                writer.write(ASK)
                async with asyncio.timeout(ASK_SECONDS):
                    return decode_tally(await reader.readline())
            except (TimeoutError, OSError):
                return None

    async def _await_ready(self, reader: asyncio.StreamReader) -> None:
        self._is_ready = await reader.readline() == READY
        self.was_ready |= self._is_ready
