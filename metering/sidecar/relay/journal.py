"""Between the relay and the spool: the records of one turn of the loop leave in one write.

A record for each call and then its bytes costs a system call each time, and each time the caches are cold: with 32
calls at once the two records of a call took 35 of its 120 µs. So calls queue here, and once the loop has read all
that was there to read, all their records are made and written together; then the bytes go that waited for them.

A call that ended and whose tokens nobody told may be counted by its texts, by another process. It gets a second open
record, the row that is true if nothing else is heard, and lets its last bytes go; its final record is written when the
count comes, or does not.

What a spool that can't be written means for traffic: `open` (default): calls go on and are counted as unmetered.
`refuse`: new calls get 503 until there is space. A final that can't be written never stops a call that is running.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from metering.core.event import UsageEvent
from metering.core.usage import UsageSource
from metering.errors import SpoolError
from metering.sidecar.config import SpoolConfig
from metering.sidecar.estimate.jobs import Estimate
from metering.sidecar.logline import log
from metering.sidecar.relay.estimates import Estimates
from metering.sidecar.spool.writer import SpoolWriter
from metering.sidecar.tally import Tally

if TYPE_CHECKING:
    from metering.sidecar.relay.exchange import Exchange

COMPLAIN_SECONDS = 60.0
# With fewer calls under way there is nothing to gather, and a callback on a loop that just woke up costs 20 µs.
GATHERED_MIN = 3
_NOT_TOLD = (UsageSource.UNKNOWN, UsageSource.PARTIAL)


class Journal:
    """Writes a call's open and final record, and calls `recorded_open` or `recorded_final` of it in the same turn."""

    def __init__(
        self, spool: SpoolWriter, config: SpoolConfig, tally: Tally, estimates: Estimates | None = None
    ) -> None:
        self._spool = spool
        self.refuses = config.on_full == "refuse"
        self.waits_for_disk = config.durability == "power"
        self._tally = tally
        self._estimates = estimates
        self._complain_at = 0.0
        self._opening: list[Exchange] = []
        self._ending: list[Exchange] = []

    def open(self, call: "Exchange") -> None:
        """Record that a call is about to be forwarded: in this turn, or now if no other call is under way."""
        self._opening.append(call)
        if len(self._opening) + len(self._ending) == 1:
            self._begin_turn()

    def end(self, call: "Exchange") -> None:
        """Record how a call ended: in this turn, or now if no other call is under way."""
        self._ending.append(call)
        if len(self._opening) + len(self._ending) == 1:
            self._begin_turn()

    def _begin_turn(self) -> None:
        if self._tally.calls_in_flight < GATHERED_MIN:
            self.flush()
        else:
            asyncio.get_running_loop().call_soon(self.flush)

    def forget(self, call: "Exchange") -> None:
        """Don't record the opening of a call that ended before it was forwarded."""
        if call in self._opening:
            self._opening.remove(call)

    def flush(self) -> None:
        """Write what has queued, and let go what waited for it."""
        opening, ending = self._opening, self._ending
        self._opening, self._ending = [], []
        if not opening and not ending:
            return
        events = [call.record.open_event() for call in opening]
        opened, estimates = len(opening), self._estimates
        finals = []
        for call in ending:
            event = call.record.final_event(call.outcome)
            if estimates is not None and event.usage_source in _NOT_TOLD and self._set_aside(call, event, estimates):
                continue
            events += call.record.parts  # before the call's own: once that is written, nothing tells of them
            finals.append((call, event, len(events)))
            events.append(event)
        if not events:
            return
        written = self._spool.append_turn(events, opened)
        for number, call in enumerate(opening):
            try:
                call.recorded_open(number < written or self._append_open(events[number]))
            except Exception as error:  # noqa: BLE001 - see `_drop`
                _drop(call, error)
        for call, event, number in finals:
            try:
                if number >= written:
                    self._append_late_parts(call, events[max(written, number - len(call.record.parts)) : number])
                    call.recorded_final(event, self._append_final(event, opened=call.opened))
                else:
                    call.recorded_final(event, recorded=True)
            except Exception as error:  # noqa: BLE001 - see `_drop`
                _drop(call, error)

    def _append_late_parts(self, call: "Exchange", parts: list[UsageEvent]) -> None:
        """Those of a turn's records that the disk did not take with the turn."""
        for part in parts:
            self._append_final(part, opened=call.opened)

    def amend(self, call: "Exchange") -> bool:
        """Record what a session has taken so far, in the place of its open record; False if that can't be written."""
        written = [self._append_open(event) for event in call.record.so_far()]
        return written[0]

    def _set_aside(self, call: "Exchange", event: UsageEvent, estimates: Estimates) -> bool:
        """Have a call counted by its texts; False if it is not to be, can't be, or that can't be made safe first."""
        job = call.record.job(event)
        if job is None or not estimates.has_room(job) or not self._append_open(event):
            return False
        for part in call.record.parts:
            self._append_final(part, opened=True)
        try:
            call.recorded_final(event, recorded=True, counts=False)
        except Exception as error:  # noqa: BLE001 - see `_drop`
            _drop(call, error)
        estimates.submit(job, lambda estimate: self._finish(call, event, estimate))
        return True

    def _finish(self, call: "Exchange", event: UsageEvent, estimate: Estimate) -> None:
        """The count came, or there is none."""
        if estimate.usage is not None:
            event = replace(
                event, usage=estimate.usage, usage_source=UsageSource.ESTIMATED, estimator=estimate.estimator
            )
        self._append_final(event, opened=True)
        call.counted(event)

    async def settle(self, seconds: float) -> None:
        """Write the finals of all calls that are being counted, with what their counts say within that time."""
        if self._estimates is not None:
            await self._estimates.settle(seconds)

    def when_on_disk(self, callback: Callable[[], None]) -> None:
        """Call back once all that is written outlives a power loss."""
        self._spool.on_synced(self._spool.last_sequence, callback)

    def _append_open(self, event: UsageEvent) -> bool:
        try:
            self._spool.append_open(event)
        except (SpoolError, OSError) as error:
            self._complain(error)
            return False
        return True

    def _append_final(self, event: UsageEvent, *, opened: bool) -> bool:
        try:
            self._spool.append_final(event)
        except (SpoolError, OSError) as error:
            # With an open record in the spool the call has a row whatever comes; without one it has none.
            if opened:
                self._tally.late_finals += 1
            elif event.part_of is None:
                self._tally.unmetered_calls += 1
            self._complain(error)
            return False
        return True

    def _complain(self, error: Exception) -> None:
        """Say it once a minute: a full disk meets every call."""
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAIN_SECONDS
            log("spool_failed", error=str(error), policy="refuse" if self.refuses else "open",
                unmetered_calls=self._tally.unmetered_calls)  # fmt: skip


def _drop(call: "Exchange", error: Exception) -> None:
    """A mistake of ours in one call must not keep the others of its turn waiting."""
    log("call_failed", error=type(error).__name__)
    call.drop()
