"""What becomes of a segment once everything in it is in the ledger."""

import time
from pathlib import Path

import msgspec

from metering.sidecar.spool.disk import DISK, Disk, make_directory, sync_directory
from metering.sidecar.spool.quarantine import QUARANTINE
from metering.sidecar.spool.segment import list_segments

SHIPPED = "shipped"


class Retention(msgspec.Struct, frozen=True):
    """Keep shipped segments for `seconds` after their last write, in case the ledger is restored to an earlier
    state: moved back into the spool they are shipped again, and what the ledger has it knows. 0 = delete at once.
    """

    seconds: float = 0.0
    disk: Disk = DISK

    def retire(self, directory: Path, segments: list[Path], unkept: set[Path]) -> None:
        """Take `segments` out of the spool; those `unkept` hold damage that is nowhere else, they are never deleted."""
        if not segments:
            return
        # The names of the later segments first: after a power loss the old ones must not be gone and the new not there.
        sync_directory(self.disk, directory)
        for segment in segments:
            if segment in unkept:
                _move(self.disk, segment, directory / QUARANTINE)
            elif self.seconds > 0:
                _move(self.disk, segment, directory / SHIPPED)
            else:
                self.disk.unlink(segment)
        sync_directory(self.disk, directory)

    def prune(self, directory: Path) -> None:
        """Delete kept segments whose time is over."""
        folder = directory / SHIPPED
        if not folder.is_dir():
            return
        for segment in list_segments(folder):
            if segment.stat().st_mtime + self.seconds < time.time():
                segment.unlink(missing_ok=True)


def _move(disk: Disk, segment: Path, folder: Path) -> None:
    make_directory(disk, folder)
    disk.rename(segment, folder / segment.name)
