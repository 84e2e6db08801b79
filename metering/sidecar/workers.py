"""The worker processes of a sidecar: one serves each listening socket, those it replaced finish what they began.

A worker that dies is started again. All are replaced at once: the new ones are ready before the old ones stop
accepting, on the same sockets, so that no connection is ever refused or reset for it.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from metering.sidecar.children import LOOK_SECONDS, Child, Worker
from metering.sidecar.logline import log
from metering.sidecar.tally import Tally, Totals

BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 0.1, 5.0
HEALTHY_SECONDS = 10.0  # a child that lived so long starts with the shortest pause again
START_SECONDS = 30.0  # what new workers get to be ready
STOP_SECONDS = 5.0  # beyond the drain, before a worker is killed
RETIRING_MAX = 8  # per listening socket; each has a spool of its own, of which a worker finds 16
FATAL_CODES = (2, 4)  # of a worker before any was ready: its configuration or its spool can't be used


class Backoff:
    """Growing pauses before a child is started again."""

    def __init__(self) -> None:
        self._pause = BACKOFF_SECONDS_MIN

    async def wait(self, child: Child, code: int, lived_seconds: float, stopping: asyncio.Event) -> bool:
        """`child` died; whether it is to be started again."""
        # Calls wait for a worker that served, however short its life was: they must not wait longer each time.
        if lived_seconds > HEALTHY_SECONDS or (isinstance(child, Worker) and child.was_ready):
            self._pause = BACKOFF_SECONDS_MIN
        log("child_died", child=child.name, code=code, starts_again_in_seconds=self._pause)
        try:
            async with asyncio.timeout(self._pause):
                await stopping.wait()
        except TimeoutError:
            self._pause = min(2 * self._pause, BACKOFF_SECONDS_MAX)
        return not stopping.is_set()


class Workers:
    """All of them."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        command: Sequence[str],
        environ: Mapping[str, str],
        text: str,
        drain_seconds: float,
        give_up: Callable[[int], None],
    ) -> None:
        """`text` is the configuration; `give_up` hears the exit code when none can be started."""
        self.totals = Totals()
        self.died = asyncio.Event()  # one ended otherwise than well: its spool needs somebody
        self.stopping = asyncio.Event()
        self._listeners = listeners
        self._command = command
        self._environ = environ
        self._text = text
        self._drain_seconds = drain_seconds
        self._give_up = give_up
        self._serving: dict[int, Worker] = {}
        self._retiring: set[Worker] = set()
        self._pauses = [Backoff() for _ in listeners]
        self._tasks: set[asyncio.Task[None]] = set()
        self._was_ready = False

    # ── at work ───────────────────────────────────────────────────────────────────────────────────────

    async def start(self, inherited: Iterable[Worker] = ()) -> None:
        """Start one for each socket; `inherited` ones serve until these are ready."""
        for worker in inherited:
            self._retiring.add(worker)
            self._run(worker)
        standing_in = tuple(self._retiring)
        for number in range(len(self._listeners)):
            self._serving[number] = self._run(self._make(number))
        while not self.ready and not self.stopping.is_set():  # noqa: ASYNC110 - one that dies is followed by another
            await asyncio.sleep(LOOK_SECONDS)
        if self.ready:
            log("sidecar_serving", workers=len(self._serving))
        for worker in standing_in:
            self._retire(worker)

    async def replace(self, text: str, drain_seconds: float) -> bool:
        """New workers with the configuration `text` for all; False, and all as before, if they don't become ready."""
        while len(self._retiring) >= RETIRING_MAX * len(self._listeners) and not self.stopping.is_set():
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        former, self._text = self._text, text
        fresh = [self._make(number) for number in range(len(self._listeners))]
        for worker in fresh:
            self._retiring.add(worker)  # until it serves: what becomes of it otherwise is the same
            self._run(worker)
        try:
            async with asyncio.timeout(START_SECONDS):
                for worker in fresh:
                    await worker.settled.wait()
        except TimeoutError:
            pass
        if self.stopping.is_set() or not all(worker.ready for worker in fresh):
            self._text = former
            for worker in fresh:
                worker.terminate()
            return False
        for worker in fresh:
            self._retiring.discard(worker)
            old, self._serving[worker.number] = self._serving[worker.number], worker
            if old.pid is not None:
                self._retiring.add(old)
                self._retire(old)
        self._drain_seconds = drain_seconds
        return True

    @property
    def ready(self) -> bool:
        """Whether every socket is served by its worker."""
        return bool(self._serving) and all(worker.ready for worker in self._serving.values())

    @property
    def served(self) -> bool:
        """Whether every socket is served by somebody, be it by a worker of the program before."""
        taken = {worker.number for worker in self.running if worker.ready and not worker.retired}
        return len(taken) == len(self._listeners)

    @property
    def running(self) -> list[Worker]:
        """Those that serve and those that finish."""
        return [*self._serving.values(), *self._retiring]

    @property
    def retiring(self) -> int:
        """How many finish what they began."""
        return len(self._retiring)

    async def count(self) -> Tally:
        """What all have counted, those that ended too."""
        return self.totals.with_running(await self.ask())

    async def ask(self) -> list[Tally]:
        """What each running one has counted; kept in case it is killed."""
        return await asyncio.gather(*(worker.ask() for worker in self.running))

    # ── stopping ──────────────────────────────────────────────────────────────────────────────────────

    async def stop(self) -> None:
        """Let them finish what is in flight; returns when all have ended."""
        self.stopping.set()
        for worker in self.running:
            worker.terminate()
        for listener in self._listeners:
            listener.close()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self._drain_seconds + STOP_SECONDS)
        if late:
            for worker in self.running:
                worker.kill()
            await asyncio.wait(late)

    def hurry(self) -> None:
        """Have calls in flight interrupted."""
        for worker in self.running:
            worker.hurry()

    # ── one by one ────────────────────────────────────────────────────────────────────────────────────

    def _make(self, number: int) -> Worker:
        command = (*self._command, "--number", str(number))
        return Worker(number, command, self._environ, self._text, self._listeners[number])

    def _retire(self, worker: Worker) -> None:
        worker.retire()
        asyncio.get_running_loop().call_later(self._drain_seconds + STOP_SECONDS, worker.kill)

    def _run(self, worker: Worker) -> Worker:
        task = asyncio.create_task(self._watch(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return worker

    async def _watch(self, worker: Worker) -> None:
        """See one to its end, and start another if it was to serve on."""
        began = time.monotonic()
        code = await worker.run()
        self.totals.keep(worker.tally)
        worker.tally = Tally()  # counted: it may be asked once more
        self._retiring.discard(worker)
        if code:
            self.died.set()
        if self._serving.get(worker.number) is not worker or self.stopping.is_set():
            return
        self._was_ready |= worker.was_ready
        if code in FATAL_CODES and not self._was_ready:
            self._give_up(code)
            return
        starts = await self._pauses[worker.number].wait(worker, code, time.monotonic() - began, self.stopping)
        if starts and self._serving[worker.number] is worker:
            self._serving[worker.number] = self._run(self._make(worker.number))
