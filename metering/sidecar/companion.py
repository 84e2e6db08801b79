"""A program beside the workers that is started again whenever it ends: the shipper, the estimator."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from metering.sidecar.children import Child, wait_for_child
from metering.sidecar.workers import Backoff


class Companion:
    """One of them. `text` gives the configuration that is in force."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], text: Callable[[], str]) -> None:
        self.name = name
        self._command, self._environ, self._text = (*command, "--parent", str(os.getpid())), environ, text
        self._child: Child | None = None
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._begins_anew = False  # it was told to end, to be started with another configuration

    @property
    def pid(self) -> int | None:
        """While it runs."""
        return self._child.pid if self._child else None

    def start(self, former_pid: int | None = None, *, wanted: bool = True) -> None:
        """End what the program before had started, then run it, if it is `wanted`."""
        self._running = asyncio.ensure_future(self._run(former_pid, wanted=wanted))

    def want(self, *, wanted: bool) -> None:
        """The configuration changed: start it, or end it, or have it begin anew."""
        if self._running is not None and not self._running.done():
            if wanted:
                self._stopping.clear()
            else:
                self._stopping.set()
            self._begins_anew = wanted
            if self._child is not None:
                self._child.terminate()
        elif wanted:
            self._stopping = asyncio.Event()
            self.start()

    async def stop(self, seconds: float) -> None:
        """Let it end; kill it after that time."""
        self._stopping.set()
        if self._running is None:
            return
        if self._child is not None:
            self._child.terminate()
        _, late = await asyncio.wait([self._running], timeout=seconds)
        if late and self._child is not None:
            self._child.kill()
            await self._running

    def kill(self) -> None:
        """End it now."""
        if self._child is not None:
            self._child.kill()

    async def _run(self, former_pid: int | None, *, wanted: bool) -> None:
        if former_pid is not None:
            os.kill(former_pid, signal.SIGTERM)
            await wait_for_child(former_pid)
        pauses, stopping = Backoff(), self._stopping
        while wanted and not stopping.is_set():
            self._child = child = Child(self.name, self._command, self._environ, self._text())
            began = time.monotonic()
            code = await child.run()
            if self._begins_anew:
                self._begins_anew = False
            elif stopping.is_set() or not await pauses.wait(child, code, time.monotonic() - began, stopping):
                return
