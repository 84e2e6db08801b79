"""Waiting, for the shipper: until something may have changed, or until it is told to stop."""

import os
import random
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from metering.errors import MeteringError
from metering.sidecar.logline import log

RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 30.0


class Backoff:
    """Growing, jittered pauses between attempts that fail."""

    def __init__(self) -> None:
        self._failures = 0

    def next_seconds(self) -> float:
        """How long to wait after one more failure: quick first, never above `RETRY_SECONDS_MAX`."""
        longest: float = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2 ** min(self._failures, 16))
        self._failures += 1
        return longest * (0.5 + random.random() / 2)  # noqa: S311 - spreads shippers in time, hides nothing

    def reset(self) -> None:
        """An attempt went well."""
        self._failures = 0


class Stop:
    """A request to stop that a signal handler may make. (An `Event` may deadlock there: its lock isn't re-entrant.)"""

    def __init__(self) -> None:
        self.requested = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def request(self) -> None:
        """Stop as soon as the batch under way is done."""
        self.requested = True
        try:
            os.write(self._writer, b".")
        except OSError:
            return  # the pipe is full or closed: nobody needs to be woken

    def wait(self, seconds: float) -> bool:
        """Pause; True at once if a stop was requested."""
        if not self.requested:
            select.select([self._reader], [], [], seconds)
        return self.requested

    def close(self) -> None:
        """Free the pipe."""
        os.close(self._reader)
        os.close(self._writer)


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """A `Stop` that SIGTERM and SIGINT request while the block runs (in a process's main thread)."""
    stop = Stop()

    def request(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        stop.request()

    is_main = threading.current_thread() is threading.main_thread()
    former = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)} if is_main else {}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        stop.close()


class Trouble:
    """What keeps something from going on: told once per change, tried again after growing pauses."""

    def __init__(self, about: str) -> None:
        self._about = about
        self._backoff = Backoff()
        self._said: str | None = None
        self._until = 0.0

    def met(self, error: Exception) -> float:
        """It failed (again); how many seconds to wait."""
        said = str(error) if isinstance(error, MeteringError) else f"{type(error).__name__}: {error}"
        if said != self._said:
            log("shipping_waits", about=self._about, reason=said)
        self._said = said
        pause = self._backoff.next_seconds()
        self._until = time.monotonic() + pause
        return pause

    def over(self) -> None:
        """It went well."""
        if self._said is not None:
            log("shipping_goes_on", about=self._about)
            self._said = None
            self._backoff.reset()

    def left(self) -> float:
        """Seconds to wait still, 0 if none."""
        return max(0.0, self._until - time.monotonic()) if self._said is not None else 0.0
