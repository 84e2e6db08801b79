"""Send a trace through a running sidecar: many connections, no task per call, every ended call counted.

A call goes out when the trace (compressed by `speed`) says so and a connection is free. Nothing is sent
twice unless `retry` is asked for: then a failed call becomes a new attempt with an id of its own.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import uvloop

from metering.errors import MeteringError
from metering.lab.calls import Call
from metering.lab.client import Connection
from metering.lab.tally import Ending, Tally
from metering.lab.wire import RequestWriter, Target

REDIAL_SECONDS = 0.05
SWEEP_SECONDS = 0.1


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How a trace is sent."""

    speed: float | None = None  # trace seconds per second; None = as fast as it goes
    concurrency: int = 64  # connections, so calls in flight
    retry: bool = False
    call_timeout_seconds: float = 60.0  # an answer that takes longer counts as failed
    patience_seconds: float = 30.0  # nobody accepts a connection for so long: the replay gives up


class Attempt(msgspec.Struct):
    """One try to send a call."""

    call: Call
    index: int
    number: int  # 0 = the first try
    call_id: str
    not_before: float = 0.0


class ReplayOutcome(msgspec.Struct):
    """What came of it."""

    tally: Tally
    attempts: int
    seconds: float


class AttemptLine(msgspec.Struct):
    """One line of the call log: an attempt as the client saw it."""

    call_id: str
    index: int
    ended: str
    status: int
    team: str
    project: str
    dialect: str
    model: str
    input_tokens: int
    output_tokens: int


class Replay:
    """One replay: hands calls to free connections and counts what becomes of them."""

    def __init__(self, target: Target, writer: RequestWriter, calls: Iterator[Call], pace: Pace, log: Path | None):
        self._target, self._writer, self._calls, self._pace = target, writer, calls, pace
        self._log = log.open("ab") if log else None
        self._run = os.urandom(8).hex()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._again: deque[Attempt] = deque()
        self._next: Attempt | None = None
        self._attempts = self._sent = 0
        self._tally = Tally()
        self._dials: set[asyncio.Task[None]] = set()
        self.ended = 0

    async def run(self, on_progress: Callable[[int], None]) -> ReplayOutcome:
        """Send everything. `MeteringError` if nobody listens at the target."""
        loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = loop.create_future()
        self._begun = time.monotonic()
        await self._dial(patience_seconds=0)
        for _ in range(1, self._pace.concurrency):
            self._redial()
        while not self._done.done():
            on_progress(self.ended)
            self._sweep()
            self._pump()
            await asyncio.wait([self._done], timeout=SWEEP_SECONDS)
        seconds = time.monotonic() - self._begun
        self._close()
        self._done.result()
        on_progress(self.ended)
        return ReplayOutcome(self._tally, self._attempts, seconds)

    def free(self, connection: Connection) -> None:
        """`connection` can take a call."""
        self._idle.append(connection)
        self._pump()

    def lost(self, connection: Connection) -> None:
        """`connection` is gone; dial another one."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._redial()

    def end(self, connection: Connection, attempt: Attempt, ending: Ending, status: int) -> None:
        """`attempt` ended."""
        self._busy.discard(connection)
        self._note(attempt, ending, status)
        if ending is Ending.FAILED and self._pace.retry:
            self._again.append(
                self._attempt(attempt.call, attempt.index, attempt.number + 1, time.monotonic() + REDIAL_SECONDS)
            )
            return
        self._tally.count(attempt.call, ending)
        self.ended += 1
        if not self._busy and not self._again and self._peek() is None and not self._done.done():
            self._done.set_result(None)

    def _pump(self) -> None:
        """Give due calls to idle connections."""
        while self._idle and (attempt := self._take()) is not None:
            connection = self._idle.pop()
            self._busy.add(connection)
            self._attempts += 1
            connection.send(attempt, self._writer.render(attempt.call, attempt.call_id))
        if not self._busy and not self._again and self._peek() is None and not self._done.done():
            self._done.set_result(None)  # an empty trace

    def _take(self) -> Attempt | None:
        now = time.monotonic()
        if self._again and self._again[0].not_before <= now:
            return self._again.popleft()
        attempt = self._peek()
        if attempt is None or attempt.not_before > now:
            return None
        self._next = None
        return attempt

    def _peek(self) -> Attempt | None:
        """The trace's next call, not yet sent; None at its end."""
        if self._next is None and (call := next(self._calls, None)) is not None:
            due = self._begun + call.at_ms / 1000 / self._pace.speed if self._pace.speed else 0.0
            self._next = self._attempt(call, self._sent, 0, due)
            self._sent += 1
        return self._next

    def _attempt(self, call: Call, index: int, number: int, not_before: float) -> Attempt:
        return Attempt(call, index, number, f"{self._run}{index:012x}{number:04x}", not_before)

    def _redial(self) -> None:
        if not self._done.done():
            task = asyncio.get_running_loop().create_task(self._dial(self._pace.patience_seconds))
            self._dials.add(task)
            task.add_done_callback(self._dialled)

    def _dialled(self, task: "asyncio.Task[None]") -> None:
        self._dials.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._done.done():
            self._done.set_exception(error)

    async def _dial(self, patience_seconds: float) -> None:
        give_up_at = time.monotonic() + patience_seconds
        while True:
            try:
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: Connection(self), self._target.host, self._target.port)
                return
            except OSError:
                if time.monotonic() >= give_up_at:
                    where = f"{self._target.host}:{self._target.port}"
                    raise MeteringError(f"nobody listens on {where}: start it with `metering sidecar`") from None
                await asyncio.sleep(REDIAL_SECONDS)

    def _sweep(self) -> None:
        if self._log:
            self._log.flush()
        overdue = time.monotonic() - self._pace.call_timeout_seconds
        for connection in [connection for connection in self._busy if connection.sent_at < overdue]:
            connection.abort()

    def _note(self, attempt: Attempt, ending: Ending, status: int) -> None:
        if self._log:
            call = attempt.call
            line = AttemptLine(
                attempt.call_id, attempt.index, ending.value, status, call.team, call.project, call.dialect, call.model,
                call.input_tokens, call.output_tokens,
            )  # fmt: skip
            self._log.write(msgspec.json.encode(line) + b"\n")

    def _close(self) -> None:
        for task in list(self._dials):
            task.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        if self._log:
            self._log.close()


def replay(
    target: Target,
    writer: RequestWriter,
    calls: Iterator[Call],
    pace: Pace,
    *,
    on_progress: Callable[[int], None] = lambda _ended: None,
    log: Path | None = None,
) -> ReplayOutcome:
    """Send `calls` to `target` and return what came of them; `on_progress` gets the number of ended calls."""

    async def run() -> ReplayOutcome:
        return await Replay(target, writer, calls, pace, log).run(on_progress)

    return uvloop.run(run())
