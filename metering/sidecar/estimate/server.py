"""The estimator's socket: jobs in, estimates out, counted in two threads.

tiktoken lets other threads run, and a job that waits for a model's own server must not stop all others.
"""

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from metering.sidecar.estimate.estimator import Estimator
from metering.sidecar.estimate.jobs import SOCKET_NAME, Job, Messages, decode_job, encode
from metering.sidecar.estimate.socket_path import socket_path

THREADS = 2
FINISH_SECONDS = 2.0


class EstimateServer:
    """Listens while it is started."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="count")
        self._server: asyncio.AbstractServer | None = None
        self.jobs: set[asyncio.Task[None]] = set()

    async def start(self, spool_dir: Path) -> None:
        """Take the place of whoever listened there before; those connected to him stay so."""
        path, fresh = socket_path(spool_dir, SOCKET_NAME), socket_path(spool_dir, f"{SOCKET_NAME}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)  # noqa: PTH108 - by way of a descriptor
        before = os.umask(0o177)  # for this account only, from its first moment
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Worker(self), fresh)
        finally:
            os.umask(before)
        os.replace(fresh, path)  # noqa: PTH105

    async def stop(self) -> None:
        """Finish what was taken."""
        if self._server is not None:
            self._server.close()
        if self.jobs:
            await asyncio.wait(self.jobs, timeout=FINISH_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def count(self, job: Job, transport: asyncio.Transport) -> None:
        """Count one, and answer."""
        estimate = await asyncio.get_running_loop().run_in_executor(self._threads, self._estimator.estimate, job)
        if not transport.is_closing():
            transport.write(encode(estimate))


class _Worker(asyncio.Protocol):
    """A connected worker."""

    def __init__(self, server: EstimateServer) -> None:
        self._server = server
        self._messages = Messages()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Jobs. A worker has few of them out at once, so they need no bound here."""
        for message in self._messages.feed(data):
            task = asyncio.ensure_future(self._server.count(decode_job(message), self._transport))
            self._server.jobs.add(task)
            task.add_done_callback(self._server.jobs.discard)
