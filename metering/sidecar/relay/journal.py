"""Between the relay and the spool: what a spool that can't be written means for traffic.

`open` (default): calls go on and are counted as unmetered. `refuse`: new calls get 503 until there is space.
A final that can't be written never stops a call that is already running.
"""

import time
from collections.abc import Callable

from metering.core.event import UsageEvent
from metering.errors import SpoolError
from metering.sidecar.config import SpoolConfig
from metering.sidecar.logline import log
from metering.sidecar.spool.writer import SpoolWriter
from metering.sidecar.tally import Tally

COMPLAIN_SECONDS = 60.0


class Journal:
    """Writes a call's open and final record."""

    def __init__(self, spool: SpoolWriter, config: SpoolConfig, tally: Tally) -> None:
        self._spool = spool
        self.refuses = config.on_full == "refuse"
        self.waits_for_disk = config.durability == "power"
        self._tally = tally
        self._complain_at = 0.0

    def open(self, event: UsageEvent) -> bool:
        """Record that a call is about to be forwarded; whether the record is in the spool."""
        try:
            self._spool.append_open(event)
        except (SpoolError, OSError) as error:
            self._complain(error)
            return False
        return True

    def final(self, event: UsageEvent, *, opened: bool) -> int | None:
        """Record how a call ended: the record's sequence, or None if it isn't in the spool now."""
        try:
            return self._spool.append_final(event)
        except (SpoolError, OSError) as error:
            # With an open record in the spool the call has a row whatever comes; without one it has none.
            if opened:
                self._tally.late_finals += 1
            else:
                self._tally.unmetered_calls += 1
            self._complain(error)
            return None

    def when_on_disk(self, sequence: int, callback: Callable[[], None]) -> None:
        """Call back once the record outlives a power loss."""
        self._spool.on_synced(sequence, callback)

    def _complain(self, error: Exception) -> None:
        """Say it once a minute: a full disk meets every call."""
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAIN_SECONDS
            log("spool_failed", error=str(error), policy="refuse" if self.refuses else "open",
                unmetered_calls=self._tally.unmetered_calls)  # fmt: skip
