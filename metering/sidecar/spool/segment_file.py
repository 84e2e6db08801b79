"""The one file a writer appends to."""

import os
from pathlib import Path

from metering.sidecar.spool.disk import Disk
from metering.sidecar.spool.segment import segment_path

UNNAMED = ".new"


class SegmentFile:
    """The segment being written. A half line never precedes a good one."""

    def __init__(self, disk: Disk, path: Path, fd: int) -> None:
        self._disk = disk
        self.path = path
        self.fd = fd
        self.size = 0
        self.broken = False  # ends in a half line that couldn't be cut: nothing may follow it

    @classmethod
    def create(cls, disk: Disk, directory: Path, first_sequence: int, data: bytes) -> "SegmentFile":
        """A new segment that begins with `data`; `OSError` if it can't be made.

        It gets its name last: a reader that saw one come and go again would be done with the segment before it,
        which is still written to.
        """
        path = segment_path(directory, first_sequence)
        unnamed = path.with_suffix(UNNAMED)
        segment = cls(disk, path, disk.open(unnamed, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC))
        try:
            segment.append(data)
            disk.rename(unnamed, path)
        except OSError:
            disk.close(segment.fd)
            disk.unlink(unnamed)
            raise
        return segment

    def append(self, data: bytes) -> None:
        """Write all of `data` or, as far as the disk allows, nothing; `OSError` says it wasn't written."""
        written = 0
        try:
            while written < len(data):
                written += self._disk.write(self.fd, data[written:])
        except OSError:
            self._cut_back()
            raise
        self.size += len(data)

    def append_lines(self, data: bytes) -> int:
        """Write whole lines, as many as the disk takes now; their bytes. The half line behind them is cut off."""
        try:
            written = self._disk.write(self.fd, data)
        except OSError:
            written = 0
        if written != len(data):
            written = data.rfind(b"\n", 0, written) + 1
            self.size += written
            self._cut_back()
        else:
            self.size += written
        return written

    def _cut_back(self) -> None:
        """Cut off what a failed write left behind the last whole line."""
        try:
            self._disk.ftruncate(self.fd, self.size)
        except OSError:
            self.broken = True
