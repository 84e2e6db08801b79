"""A worker's side of the estimator: a bounded queue, a bounded wait, and no call that waits for it.

A job goes out when the estimator takes it, a few at a time, so that one that is killed takes few with it. What has not
gone out waits for its successor, as long as its time allows.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from metering.sidecar.estimate.jobs import SOCKET_NAME, Estimate, Job, Messages, decode_estimate, encode
from metering.sidecar.estimate.settings import EstimateConfig
from metering.sidecar.estimate.socket_path import socket_path
from metering.sidecar.tally import Tally

ASKED_MAX = 8  # jobs that are out at once
DIAL_AGAIN_SECONDS = 0.25

Done = Callable[[Estimate], None]


class Estimates:
    """Jobs that wait, and those that are out."""

    def __init__(self, config: EstimateConfig, spool_dir: Path, tally: Tally) -> None:
        self._config = config
        self._path = socket_path(spool_dir, SOCKET_NAME)
        self._tally = tally
        self._number = 0
        self._waiting: deque[int] = deque()
        self._jobs: dict[int, tuple[bytes, Done, asyncio.TimerHandle]] = {}  # waiting or out, by number
        self._bytes = 0
        self._connection: _Connection | None = None
        self._dialling: asyncio.Task[None] | None = None

    def has_room(self, job: Job) -> bool:
        """Whether one more may wait."""
        size = sum(len(text.head) + len(text.tail) for text in (job.request, job.answer))
        if len(self._jobs) < self._config.waiting_calls and self._bytes + size <= self._config.waiting_bytes:
            return True
        self._tally.estimates_refused_full += 1
        return False

    def submit(self, job: Job, done: Done) -> None:
        """Have a job done; `done` is called once, and not before this returns."""
        self._number += 1
        number = self._number
        message = encode(replace(job, number=number))
        late = asyncio.get_running_loop().call_later(self._config.wait_seconds, self._give_up, number)
        self._jobs[number] = (message, done, late)
        self._bytes += len(message)
        self._waiting.append(number)
        self._tally.estimates_waiting = len(self._jobs)
        self._send()

    async def settle(self, seconds: float) -> None:
        """Wait for all that is under way, for that long at most; nothing is under way then."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._jobs and loop.time() < until:  # noqa: ASYNC110 - it is the end: nothing is gained by an event
            await asyncio.sleep(0.01)
        for number in tuple(self._jobs):
            self._give_up(number)
        if self._dialling is not None:
            self._dialling.cancel()
        if self._connection is not None:
            self._connection.close()

    def _send(self) -> None:
        connection = self._connection
        if connection is None:
            if self._dialling is None and self._waiting:
                self._dialling = asyncio.get_running_loop().create_task(self._dial())
            return
        while self._waiting and len(connection.asked) < ASKED_MAX:
            number = self._waiting.popleft()
            if number in self._jobs:
                connection.ask(number, self._jobs[number][0])

    async def _dial(self) -> None:
        """Connect, as long as there is something to ask."""
        loop = asyncio.get_running_loop()
        while self._jobs:
            with contextlib.suppress(OSError):
                _, self._connection = await loop.create_unix_connection(lambda: _Connection(self), self._path)
                break
            await asyncio.sleep(DIAL_AGAIN_SECONDS)
        self._dialling = None
        self._send()

    def answered(self, estimate: Estimate) -> None:
        """The estimator has done a job."""
        if estimate.usage is not None:
            self._tally.estimates_made += 1
        else:
            self._tally.estimates_refused_uncountable += 1
        self._conclude(estimate.number, estimate)
        self._send()

    def lost(self, asked: set[int]) -> None:
        """The estimator is gone, with the jobs it had. They are not asked again: one of them may be why."""
        self._connection = None
        for number in asked & self._jobs.keys():
            self._tally.estimates_refused_away += 1
            self._conclude(number, Estimate(number=number))
        self._send()

    def _give_up(self, number: int) -> None:
        self._tally.estimates_refused_late += 1
        self._conclude(number, Estimate(number=number))

    def _conclude(self, number: int, estimate: Estimate) -> None:
        if (job := self._jobs.pop(number, None)) is None:
            return  # it was late
        message, done, late = job
        late.cancel()
        self._bytes -= len(message)
        self._tally.estimates_waiting = len(self._jobs)
        done(estimate)


class _Connection(asyncio.Protocol):
    """To the estimator."""

    def __init__(self, estimates: Estimates) -> None:
        self.asked: set[int] = set()
        self._estimates = estimates
        self._messages = Messages()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses

    def ask(self, number: int, message: bytes) -> None:
        """Send a job."""
        self.asked.add(number)
        if self._transport is not None:
            self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Answers."""
        for message in self._messages.feed(data):
            estimate = decode_estimate(message)
            self.asked.discard(estimate.number)
            self._estimates.answered(estimate)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its end is all that matters
        """It is gone."""
        self._estimates.lost(self.asked)

    def close(self) -> None:
        """Nothing more is asked."""
        if self._transport is not None:
            self._transport.close()
