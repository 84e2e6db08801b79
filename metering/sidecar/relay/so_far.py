"""What a session has taken so far, written down while it goes on: sessions last for hours, and sidecars get killed."""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from metering.sidecar.relay.journal import Journal

if TYPE_CHECKING:
    from metering.sidecar.relay.exchange import Exchange

TOLD_SECONDS = 1.0  # between two records of one session


class SoFar:
    """Amends a session's open record after it told usage: at once, or when the last time is a second ago."""

    def __init__(self, call: "Exchange", journal: Journal) -> None:
        self._call = call
        self._journal = journal
        self._waits = False
        self._told_at = float("-inf")

    def told(self) -> None:
        """The session told usage."""
        if self._waits:
            return
        wait = self._told_at + TOLD_SECONDS - monotonic()
        if wait <= 0:
            self._write()
        else:
            self._waits = True
            asyncio.get_running_loop().call_later(wait, self._write)

    def _write(self) -> None:
        self._waits = False
        self._told_at = monotonic()
        if not self._call.done:
            self._call.opened = self._journal.amend(self._call) or self._call.opened
