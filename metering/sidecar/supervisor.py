"""`metering sidecar`: workers that share a port, the shipper beside them, and the operator's listener.

The listening sockets belong to the supervisor and are handed to workers, so connections that wait in the
kernel's queue survive a worker that dies and are taken by its successor.

SIGTERM and SIGINT drain and end it, a second one cuts the drain short. SIGHUP reads the file again and replaces
the workers. SIGUSR2 replaces the whole program, in this process: see `handover`.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from metering.errors import MeteringError
from metering.sidecar.admin import HEAD_BYTES_MAX, Admin, Readiness
from metering.sidecar.adoption import adopt_forever
from metering.sidecar.companion import Companion
from metering.sidecar.config_file import ConfigFile, read_config
from metering.sidecar.exposition import Facts, render
from metering.sidecar.handover import Handover, hand_over_workers, own_command
from metering.sidecar.listen import bind, bind_all, name_of
from metering.sidecar.logline import log
from metering.sidecar.ship.status import Shipped
from metering.sidecar.spool.backlog import measure_backlog
from metering.sidecar.spool.lock import lock_sidecar
from metering.sidecar.workers import Workers

POLL_SECONDS = 1.0  # how old the counts of a worker that is killed may be
SHIPPER_STOP_SECONDS = 15.0  # more than the shipper allows itself for what the workers wrote last
SHIPPER_HURRY_SECONDS = 2.0
ESTIMATOR_STOP_SECONDS = 3.0  # nobody waits for it any more
CHECK_SECONDS = 60.0  # what a new program gets to say that it can take over
LEDGER_VARIABLE = "METERING_DATABASE_URL"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


class Supervisor:
    """Runs one sidecar until it is told to stop."""

    def __init__(
        self,
        file: ConfigFile,
        state_dir: Path,
        *,
        ships: bool,
        environ: Mapping[str, str],
        inherited: Handover | None = None,
    ) -> None:
        """`ConfigError` when an address can't be bound, `SpoolLocked` when another sidecar runs on this spool.

        `inherited` is what the program before this one left.
        """
        self._file, self._state_dir, self._environ, self._ships = file, state_dir, environ, ships
        self._inherited = inherited
        if inherited is None:
            self._lock_fd = lock_sidecar(file.config.spool.dir)
            self._listeners = bind_all(file.config)
            self._admin_socket = bind(file.config.admin) if file.config.admin else None
        else:
            inherited.pass_on(whether=False)
            self._lock_fd = inherited.lock_fd
            self._listeners = inherited.take_listeners()
            self._admin_socket = inherited.take_admin()
        # Only the shipper may know the ledger.
        worker_environ = {name: value for name, value in environ.items() if name != LEDGER_VARIABLE}
        command = ("metering.sidecar.worker", "--state-dir", str(state_dir))
        self._workers = Workers(
            self._listeners, command, worker_environ, file.text, file.config.drain_seconds, self._give_up
        )
        ship = ("metering", "ship")
        self._shipper = Companion("shipper", ship, environ, lambda: self._file.text)
        estimate = ("metering.sidecar.estimate", "--state-dir", str(state_dir))
        self._estimator = Companion("estimator", estimate, worker_environ, lambda: self._file.text)
        self._stop = asyncio.Event()
        self._exit_code = 0
        self._changing = asyncio.Lock()  # one change at a time
        self._wanted: list[Callable[[], Awaitable[None]]] = []  # changes whose turn has not come
        self._tasks: set[asyncio.Task[None]] = set()
        self._shipped = Shipped()
        self._facts = Facts(started_at=time.time(), loaded_at=time.time(), digest=file.digest)

    async def run(self) -> int:
        """Serve; the exit code."""
        former = self._inherited
        if former is not None:
            self._workers.totals.keep(former.counted)
            self._facts.reloads, self._facts.reloads_failed = former.reloads, former.reloads_failed
        self._start(self._workers.start(former.take_workers(self._listeners) if former else ()))
        self._listen_to_signals()
        admin = await self._serve_admin()
        self._start(adopt_forever(self._file.config.spool, lambda: self._workers.ready, self._workers.died))
        self._start(self._poll_forever())
        self._shipper.start(former.shipper_pid if former else None, wanted=self._ships)
        wanted = self._file.config.estimates
        self._estimator.start(former.estimator_pid if former else None, wanted=wanted)
        host, port = self._listeners[0].getsockname()[:2]
        log("sidecar_started", host=host, port=port, workers=len(self._listeners), admin=name_of(self._admin_socket))
        await self._stop.wait()
        os.close(self._lock_fd)  # a successor may start while this one drains
        for task in self._tasks:
            task.cancel()
        await self._workers.stop()
        # After the workers: the shipper makes a last pass. What isn't shipped in time stays spooled.
        await asyncio.gather(self._estimator.stop(ESTIMATOR_STOP_SECONDS), self._shipper.stop(SHIPPER_STOP_SECONDS))
        if admin is not None:
            admin.close()
        log("sidecar_stopped", exit_code=self._exit_code)
        return self._exit_code

    def _start(self, work: Awaitable[None]) -> None:
        """Do it beside everything else, until the sidecar stops."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _give_up(self, code: int) -> None:
        self._exit_code = code
        self._stop.set()

    # ── signals ───────────────────────────────────────────────────────────────────────────────────────

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._change, self._reload)
        loop.add_signal_handler(signal.SIGUSR2, self._change, self._replace_program)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # a program that replaced another one began with them held

    def _end(self) -> None:
        if self._stop.is_set():
            log("sidecar_hurries")
            self._workers.hurry()
            # What the shipper hasn't shipped stays spooled.
            asyncio.get_running_loop().call_later(SHIPPER_HURRY_SECONDS, self._shipper.kill)
        self._stop.set()

    def _change(self, change: Callable[[], Awaitable[None]]) -> None:
        if change not in self._wanted:
            self._wanted.append(change)
            self._start(self._in_turn(change))

    async def _in_turn(self, change: Callable[[], Awaitable[None]]) -> None:
        async with self._changing:
            self._wanted.remove(change)
            await change()

    async def _reload(self) -> None:
        """Put the file in force as it is now, with new workers for all; or go on as before, and say why."""
        try:
            file = read_config(self._file.path, self._state_dir, self._file.fixed)
        except MeteringError as error:
            self._refuse_config(str(error))
            return
        if not await self._workers.replace(file.text, file.config.drain_seconds):
            self._refuse_config(f"{file.path}: workers did not start with it")
            return
        former, self._file = self._file.config, file
        if (former.estimate, former.routes) != (file.config.estimate, file.config.routes):
            self._estimator.want(wanted=file.config.estimates)
        self._facts.reloads += 1
        self._facts.loaded_at, self._facts.digest = time.time(), file.digest
        log("config_in_force", digest=file.digest, routes=len(file.config.routes), keys=len(file.config.keys))

    def _refuse_config(self, error: str) -> None:
        self._facts.reloads_failed += 1
        log("config_refused", error=error, kept=self._file.digest)

    async def _replace_program(self) -> None:
        """Have the installed version take over, once it has said that it can; else go on, and say why."""
        fd = self._hand_over().write()
        check = await asyncio.create_subprocess_exec(
            *own_command(fd), "--check", pass_fds=(fd,), stderr=asyncio.subprocess.PIPE
        )
        os.close(fd)
        said = b"it took too long"
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                _, said = await check.communicate()
        except TimeoutError:
            check.kill()
            await check.wait()
        if check.returncode != 0:
            log("program_not_replaced", error=said.decode(errors="replace").strip().rpartition("\n")[2])
            return
        handover = self._hand_over()
        handover.pass_on(whether=True)
        command = own_command(handover.write())
        log("program_replaced", command=" ".join(command))
        # Signals that come while nobody listens wait for the next program.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted

    def _hand_over(self) -> Handover:
        return Handover(
            fixed=self._file.fixed,
            lock_fd=self._lock_fd,
            listen_fds=[listener.fileno() for listener in self._listeners],
            admin_fd=self._admin_socket.fileno() if self._admin_socket else None,
            shipper_pid=self._shipper.pid,
            estimator_pid=self._estimator.pid,
            workers=hand_over_workers(self._workers.running),
            counted=self._workers.totals.ended,
            reloads=self._facts.reloads,
            reloads_failed=self._facts.reloads_failed,
        )

    # ── the operator ──────────────────────────────────────────────────────────────────────────────────

    async def _serve_admin(self) -> asyncio.Server | None:
        if self._admin_socket is None:
            return None
        serve = Admin(self._readiness, self._metrics).serve
        return await asyncio.start_server(serve, sock=self._admin_socket, limit=HEAD_BYTES_MAX)

    async def _readiness(self) -> Readiness:
        """Whether calls can be taken. A spool that is full stops them only if the configuration says so."""
        tally = await self._workers.count()
        ready = Readiness()
        if self._stop.is_set():
            ready.reasons.append("the sidecar is stopping")
        elif not self._workers.served:
            ready.reasons.append("not every worker listens yet")
        refuses = self._file.config.spool.on_full == "refuse"
        if tally.spool_full:
            (ready.reasons if refuses else ready.warnings).append("the spool is full: new calls are not recorded")
        if tally.spool_degraded:
            ready.warnings.append("the disk refuses to sync or to write: a power loss now may cost certainty")
        return ready

    async def _metrics(self) -> str:
        tally = await self._workers.count()
        backlog = await asyncio.to_thread(measure_backlog, self._file.config.spool.dir)
        self._shipped.look(backlog.totals)
        self._facts.shipped, self._facts.retiring = self._shipped.sum(), self._workers.retiring
        return render(tally, backlog, self._facts)

    async def _poll_forever(self) -> None:
        """Know the workers' counts in case they are killed."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._workers.ask()
