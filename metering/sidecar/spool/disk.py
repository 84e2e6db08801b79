"""The file operations that change a spool, in one place: what a test of power losses stands in for.

What only reads goes its usual way, since a crash changes nothing about it.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o640)


def _mkdir(path: Path) -> None:
    path.mkdir(0o750)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


class Disk(msgspec.Struct, frozen=True):
    """The operating system's own functions, so that a call through here costs what they cost. Each raises `OSError`."""

    open: Callable[[Path, int], int] = _open  # path, flags
    close: Callable[[int], None] = os.close
    write: Callable[[int, bytes], int] = os.write  # how many bytes went
    ftruncate: Callable[[int, int], None] = os.ftruncate
    fdatasync: Callable[[int], None] = os.fdatasync
    fsync: Callable[[int], None] = os.fsync  # of a directory: makes its names durable
    rename: Callable[[Path, Path], None] = os.replace
    unlink: Callable[[Path], None] = _unlink  # if it is there
    mkdir: Callable[[Path], None] = _mkdir  # one level


DISK = Disk()


def write_all(disk: Disk, fd: int, data: bytes) -> None:
    """Write all of `data`, however many writes the disk makes of it."""
    written = 0
    while written < len(data):
        written += disk.write(fd, data[written:])


def sync_directory(disk: Disk, directory: Path) -> None:
    """Make created, renamed and removed names durable."""
    fd = disk.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.fsync(fd)
    finally:
        disk.close(fd)


def sync_file(disk: Disk, path: Path) -> None:
    """Make what is in a file durable, whoever wrote it."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        disk.fdatasync(fd)
    finally:
        disk.close(fd)


def make_directory(disk: Disk, directory: Path) -> None:
    """Create `directory`, and those it lies in, so that a power loss leaves no durable file without its way to it."""
    if not directory.is_dir():
        if not directory.parent.exists():
            make_directory(disk, directory.parent)
        try:
            disk.mkdir(directory)
        except FileExistsError:
            if not directory.is_dir():
                raise
    with suppress(PermissionError):  # one may enter a folder that one may not read
        sync_directory(disk, directory.parent)  # in any case: who made it may have died before this
