"""The one file a writer appends to."""

import os
from pathlib import Path

from metering.sidecar.spool.segment import segment_path


class SegmentFile:
    """The segment being written. A half line never precedes a good one."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.size = 0
        self.broken = False  # ends in a half line that couldn't be cut: nothing may follow it

    @classmethod
    def create(cls, directory: Path, first_sequence: int) -> "SegmentFile":
        """A new empty segment; `OSError` if it can't be made or exists."""
        path = segment_path(directory, first_sequence)
        return cls(path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))

    def append(self, data: bytes) -> None:
        """Write all of `data` or, as far as the disk allows, nothing; `OSError` says it wasn't written."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self.fd, data[written:])
        except OSError:
            self._cut_back()
            raise
        self.size += len(data)

    def append_lines(self, data: bytes) -> int:
        """Write whole lines, as many as the disk takes now; their bytes. The half line behind them is cut off."""
        try:
            written = os.write(self.fd, data)
        except OSError:
            written = 0
        if written != len(data):
            written = data.rfind(b"\n", 0, written) + 1
            self.size += written
            self._cut_back()
        else:
            self.size += written
        return written

    def discard(self) -> None:
        """Give up a segment that couldn't be begun."""
        os.close(self.fd)
        self.path.unlink(missing_ok=True)

    def _cut_back(self) -> None:
        """Cut off what a failed write left behind the last whole line."""
        try:
            os.ftruncate(self.fd, self.size)
        except OSError:
            self.broken = True
