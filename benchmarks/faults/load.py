"""A closed loop of many client connections: each asks, reads the whole answer, and asks again.

Nothing is sent twice: an attempt that fails stays failed, and is kept with all that tells whose fault it was.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import cast

import httptools
import msgspec

from benchmarks.faults.traffic import Planned
from metering.errors import MeteringError
from metering.lab.replay import AttemptLine
from metering.lab.tally import Ending
from metering.lab.wire import RequestWriter, Target

ANSWER_SECONDS = 30.0  # longer than a worker's successor may take to come
STILL_SECONDS = 90.0  # no answer to anybody for so long: the path is dead
SWEEP_SECONDS = 0.25
REDIAL_SECONDS = 0.02
LEAVE_SECONDS = 0.002


class Failure(msgspec.Struct, frozen=True):
    """An attempt that failed. Times are of the monotonic clock; `port` is the client's end of its connection."""

    call_id: str
    why: str
    port: int
    dialled_at: float
    sent_at: float
    ended_at: float


class Load:
    """The clients of one round; `attempts`, `failures` and `refused_at` (dials) grow as it runs."""

    def __init__(self, target: Target, writer: RequestWriter, traffic: Iterator[Planned], number: int) -> None:
        self._target, self._writer, self._traffic, self._number = target, writer, traffic, number
        self.sent = 0
        self.attempts: list[AttemptLine] = []
        self.failures: list[Failure] = []
        self.refused_at: list[float] = []
        self.longest_seconds = 0.0  # that a client waited for a whole answer
        self.callers: set[Caller] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._enough: Callable[[], bool] = lambda: False

    async def run(self, connections: int, enough: Callable[[], bool]) -> None:
        """Keep `connections` busy until it is `enough` and the last answer came. `MeteringError` if nothing moves."""
        self._enough = enough
        for _ in range(connections):
            self.dial()
        ended, moved_at = 0, time.monotonic()
        while self._dials or self.callers:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            if len(self.attempts) != ended:
                ended, moved_at = len(self.attempts), now
            elif now > moved_at + STILL_SECONDS:
                raise MeteringError(f"no call ended for {STILL_SECONDS:.0f} s, after {ended} calls")
            for caller in list(self.callers):
                caller.sweep(now)

    def take(self) -> tuple[str, Planned, bytes] | None:
        """The next call: its id (32 hex digits), itself, its request; None if it is enough."""
        if self._enough():
            return None
        self.sent += 1
        planned = next(self._traffic)
        call_id = f"{self._number:016x}{self.sent:016x}"
        request = self._writer.render(planned.call, call_id)
        if planned.pace_ms:
            request = request.replace(b"\r\n", b"\r\nx-emulate-pace-ms: %d\r\n" % planned.pace_ms, 1)
        return call_id, planned, request

    def dial(self) -> None:
        """One more connection, however often it is refused."""
        task = asyncio.get_running_loop().create_task(self._dial())
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._enough():
            dialled_at = time.monotonic()
            try:
                await loop.create_connection(lambda: Caller(self, dialled_at), self._target.host, self._target.port)  # noqa: B023 - called at once
                return
            except OSError:
                self.refused_at.append(dialled_at)
                await asyncio.sleep(REDIAL_SECONDS)

    def note(self, call_id: str, planned: Planned, ending: Ending, status: int) -> None:
        """An attempt ended."""
        call = planned.call
        self.attempts.append(
            AttemptLine(
                call_id, len(self.attempts), ending.value, status, call.team, call.project, call.dialect, call.model,
                call.input_tokens, call.output_tokens,
            )
        )  # fmt: skip


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load, dialled_at: float) -> None:
        self._load = load
        self._dialled_at = dialled_at
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._asked: tuple[str, Planned] | None = None
        self._sent_at = 0.0
        self._reads = self._port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self._port = transport.get_extra_info("sockname")[1]
        self._load.callers.add(self)
        self._ask()

    def _ask(self) -> None:
        taken = self._load.take()
        if taken is None:
            self._transport.close()
            return
        call_id, planned, request = taken
        self._asked = call_id, planned
        self._reads = 0
        self._parser = httptools.HttpResponseParser(self)  # nothing of the last answer can leak in
        self._sent_at = time.monotonic()
        self._transport.write(request)
        if planned.leaves_after == 0:
            asyncio.get_running_loop().call_later(LEAVE_SECONDS, self._leave, call_id)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; leave if this client is one that leaves."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("the answer is not HTTP")
            self._transport.abort()
        self._reads += 1
        if self._asked and self._reads == self._asked[1].leaves_after:
            self._leave(self._asked[0])

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._asked is None:
            return
        status, planned = self._parser.get_status_code(), self._asked[1]
        if status < 400:
            self._load.longest_seconds = max(self._load.longest_seconds, time.monotonic() - self._sent_at)
            self._end(Ending.COMPLETED, status)
        else:
            self._fail(f"status {status}")
        if planned.closes or not self._parser.should_keep_alive():
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, _exc: Exception | None) -> None:
        """A call under way has failed; another connection takes this one's place."""
        self._load.callers.discard(self)
        self._fail("the connection was closed before the answer's end")
        self._load.dial()

    def sweep(self, now: float) -> None:
        """Give up on an answer that does not come."""
        if self._asked and self._sent_at + ANSWER_SECONDS < now:
            self._fail(f"no whole answer in {ANSWER_SECONDS:.0f} s")
            self._transport.abort()

    def _leave(self, call_id: str) -> None:
        if self._asked and self._asked[0] == call_id:
            self._end(Ending.ABORTED, 0)
            self._transport.abort()

    def _fail(self, why: str) -> None:
        if self._asked is not None:
            call_id = self._asked[0]
            self._load.failures.append(
                Failure(call_id, why, self._port, self._dialled_at, self._sent_at, time.monotonic())
            )
            self._end(Ending.FAILED, 0)

    def _end(self, ending: Ending, status: int) -> None:
        if self._asked is not None:
            (call_id, planned), self._asked = self._asked, None
            self._load.note(call_id, planned, ending, status)
