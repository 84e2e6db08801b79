"""How much the spool may take: its bound, and the disk space held back for calls already forwarded."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from metering.sidecar.spool.segment import segments_bytes

RESERVE = "reserve"
RESERVE_BYTES = 4 * 1024**2
FINAL_BYTES = 2048  # kept free for each open call's final record
LOOK_SECONDS = 0.1  # how often a full spool looks whether space came back

FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Reserve:
    """Disk space held back, so that calls already forwarded can be recorded when the disk is full."""

    def __init__(self, directory: Path, size: int) -> None:
        self.path = directory / RESERVE
        self.size = size
        self.held = False

    def hold(self) -> bool:
        """Take the space if there is any; True if it is ours now."""
        if self.held:
            return True
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.posix_fallocate(fd, 0, self.size)
            finally:
                os.close(fd)
            self.held = True
        except OSError:
            self._remove()
        return self.held

    def release(self) -> bool:
        """Give the space back to the disk; True if there was some."""
        held, self.held = self.held, False
        self._remove()
        return held

    def _remove(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            return  # a disk that refuses even this refuses the write that follows, and that one is reported


class Room:
    """Keeps a spool within `max_bytes`. The shipper retires segments in another process, so room is looked for
    when it seems used up; `clock` gives seconds.
    """

    def __init__(self, directory: Path, max_bytes: int, clock: Callable[[], float]) -> None:
        self.max_bytes = max_bytes
        self.limit = -1  # below it no look is needed: what the log may write in all; -1 while no reserve is held
        self._reserve = Reserve(directory, min(RESERVE_BYTES, max_bytes // 16))
        self._directory = directory
        self._clock = clock
        self._looked_at = 0.0
        self._seen = 0  # bytes of all segments when last looked
        self._log_bytes = 0  # what the log had written by then

    def look(self, log_bytes: int) -> None:
        """See what the segments take now that the log has written `log_bytes` in all."""
        self._looked_at = self._clock()
        self._seen, self._log_bytes = segments_bytes(self._directory), log_bytes
        self._set_limit()

    def used(self, log_bytes: int) -> int:
        """What the segments take, as far as known without looking."""
        return self._seen + log_bytes - self._log_bytes

    def find(self, needed: int, log_bytes: int) -> bool:
        """Whether there is room, on a second look, where `log_bytes + needed` goes beyond the limit."""
        if self._clock() - self._looked_at < LOOK_SECONDS:
            return False
        self.look(log_bytes)
        return self.used(log_bytes) + needed <= self.max_bytes and self.hold()

    def hold(self) -> bool:
        """Take the reserve if the disk gives it; True if it is held now."""
        held = self._reserve.hold()
        self._set_limit()
        return held

    def release(self) -> bool:
        """Give the reserve back to the disk; True if there was one. No new call fits until it is held again."""
        held = self._reserve.release()
        self._set_limit()
        return held

    def _set_limit(self) -> None:
        self.limit = self.max_bytes - self._seen + self._log_bytes if self._reserve.held else -1
