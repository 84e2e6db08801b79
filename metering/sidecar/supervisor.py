"""`metering sidecar`: workers that share a port, the shipper beside them, and the operator's listener.

The listening sockets belong to the supervisor and are handed to workers, so connections that wait in the
kernel's queue survive a worker that dies and are taken by its successor.
"""

import asyncio
import fcntl
import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from metering.errors import MeteringError, SpoolError, SpoolLocked
from metering.sidecar.admin import HEAD_BYTES_MAX, Admin
from metering.sidecar.children import Child, WorkerChild
from metering.sidecar.config import SidecarConfig
from metering.sidecar.listen import bind
from metering.sidecar.logline import log
from metering.sidecar.spool.writer import SpoolWriter
from metering.sidecar.tally import Tally

LOCK = "sidecar.lock"
BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 0.1, 5.0
HEALTHY_SECONDS = 10.0  # a child that lived so long starts with the shortest pause again
ADOPT_SECONDS = 30.0
SHIPPER_STOP_SECONDS = 15.0  # more than the shipper allows itself for what the workers wrote last
STOP_SECONDS = 5.0  # beyond the drain, before a worker is killed
LEDGER_VARIABLE = "METERING_DATABASE_URL"
FATAL_CODES = (2, 4)  # of a worker that never was ready: its configuration or its spool can't be used


class Supervisor:
    """Runs one sidecar until it is told to stop."""

    def __init__(
        self, config: SidecarConfig, config_path: Path, state_dir: Path, *, ships: bool, environ: Mapping[str, str]
    ) -> None:
        """`ConfigError` when an address can't be bound, `SpoolLocked` when another sidecar runs on this spool."""
        self._config = config
        self._lock_fd = _lock(config.spool.dir)
        self._stop = asyncio.Event()
        self._exit_code = 0
        # Only the shipper may know the ledger.
        worker_environ = {name: value for name, value in environ.items() if name != LEDGER_VARIABLE}
        self._listeners = _bind_all(config)
        self._admin_socket = bind(config.admin) if config.admin else None
        command = ("metering.sidecar.worker", "--config", str(config_path), "--state-dir", str(state_dir))
        self._workers = [
            WorkerChild(number, (*command, "--number", str(number)), worker_environ, listener)
            for number, listener in enumerate(self._listeners)
        ]
        ship = ("metering", "ship", "--config", str(config_path), "--parent", str(os.getpid()))
        self._shipper = Child("shipper", ship, environ) if ships else None

    async def run(self) -> int:
        """Serve; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        admin = await self._serve_admin()
        adopting = loop.create_task(self._adopt_forever())
        workers = [loop.create_task(self._keep(worker)) for worker in self._workers]
        shipping = loop.create_task(self._keep(self._shipper)) if self._shipper else None
        host, port = self._listeners[0].getsockname()[:2]
        log("sidecar_started", host=host, port=port, workers=len(workers), admin=_name(self._admin_socket))
        await self._stop.wait()
        os.close(self._lock_fd)  # a successor may start while this one drains
        adopting.cancel()
        await self._stop_workers(workers)
        await self._stop_shipper(shipping)
        if admin is not None:
            admin.close()
        log("sidecar_stopped", exit_code=self._exit_code)
        return self._exit_code

    # ── children ──────────────────────────────────────────────────────────────────────────────────────

    async def _keep(self, child: Child) -> None:
        """Start `child` again whenever it ends, after growing pauses."""
        pause = BACKOFF_SECONDS_MIN
        while not self._stop.is_set():
            began = time.monotonic()
            code = await child.run()
            if self._stop.is_set():
                return
            if code in FATAL_CODES and child is not self._shipper and not child.was_ready:
                self._exit_code = code
                self._stop.set()
                return
            pause = BACKOFF_SECONDS_MIN if time.monotonic() - began > HEALTHY_SECONDS else pause
            log("child_died", child=child.name, code=code, starts_again_in_seconds=pause)
            await self._pause(pause)
            pause = min(2 * pause, BACKOFF_SECONDS_MAX)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    async def _stop_workers(self, tasks: list[asyncio.Task[None]]) -> None:
        for worker in self._workers:
            worker.terminate()
        for listener in self._listeners:
            listener.close()
        _, late = await asyncio.wait(tasks, timeout=self._config.drain_seconds + STOP_SECONDS)
        if late:
            for worker in self._workers:
                worker.kill()
            await asyncio.wait(late)

    async def _stop_shipper(self, task: asyncio.Task[None] | None) -> None:
        """After the workers: the shipper makes a last pass. What isn't shipped in time stays spooled."""
        if task is None or self._shipper is None:
            return
        self._shipper.terminate()
        _, late = await asyncio.wait([task], timeout=SHIPPER_STOP_SECONDS)
        if late:
            self._shipper.kill()
            await task

    # ── the operator ──────────────────────────────────────────────────────────────────────────────────

    async def _serve_admin(self) -> asyncio.Server | None:
        if self._admin_socket is None:
            return None
        serve = Admin(self._is_ready, self._ask_workers).serve
        return await asyncio.start_server(serve, sock=self._admin_socket, limit=HEAD_BYTES_MAX)

    def _is_ready(self) -> bool:
        return not self._stop.is_set() and all(worker.ready for worker in self._workers)

    async def _ask_workers(self) -> dict[int, Tally]:
        answers = await asyncio.gather(*(worker.ask() for worker in self._workers))
        return {worker.number: tally for worker, tally in zip(self._workers, answers, strict=True) if tally is not None}

    # ── spools nobody writes ──────────────────────────────────────────────────────────────────────────

    async def _adopt_forever(self) -> None:
        """Finish the calls in spools of workers that are gone, once their locks are free."""
        finished: set[Path] = set()
        while True:
            if self._is_ready():  # first our own workers take theirs
                for directory in sorted(self._config.spool.dir.glob("worker-*")):
                    if directory not in finished and await asyncio.to_thread(_adopt, directory, self._config):
                        finished.add(directory)
                await asyncio.sleep(ADOPT_SECONDS)
            else:
                await asyncio.sleep(BACKOFF_SECONDS_MIN)


def _adopt(directory: Path, config: SidecarConfig) -> bool:
    """Recover a spool; False if it is in use."""
    try:
        SpoolWriter.open(directory, max_bytes=config.spool.max_bytes).close()
    except SpoolLocked:
        return False
    except MeteringError as error:
        log("spool_not_recovered", directory=str(directory), error=str(error))
        return False
    return True


def _lock(directory: Path) -> int:
    """One sidecar per spool directory; the lock lasts until the descriptor is closed."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SpoolError(f"can't write to {directory} ({error.strerror}): name another [spool] dir") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise SpoolLocked(
            f"another sidecar runs on {directory}: stop it, or give this one another [spool] dir"
        ) from None
    return fd


def _bind_all(config: SidecarConfig) -> list[socket.socket]:
    first = bind(config.listen)
    address = type(config.listen)(config.listen.host, first.getsockname()[1])  # port 0: all share the one found
    return [first, *(bind(address) for _ in range(config.workers - 1))]


def _name(sock: socket.socket | None) -> str | None:
    return None if sock is None else "{}:{}".format(*sock.getsockname()[:2])
