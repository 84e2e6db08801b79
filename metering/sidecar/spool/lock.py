"""One writer and one shipper per spool: locks that end with the process that holds them."""

import errno
import fcntl
import os
import time
from pathlib import Path

from metering.errors import SpoolError, SpoolLocked
from metering.sidecar.spool.disk import DISK, Disk, make_directory
from metering.sidecar.spool.segment import spool_error

SHIP_LOCK = "ship.lock"
SIDECAR_LOCK = "sidecar.lock"
# `metering spool inspect` takes the lock for a moment to see whether it is free: that must refuse no writer.
LOOKS = 3
LOOK_SECONDS = 0.01


def lock_directory(directory: Path, disk: Disk = DISK) -> int:
    """Create `directory` and lock it for writing; the lock lasts as long as the returned descriptor.

    `SpoolLocked` if another process holds it, `SpoolError` if it can't be used.
    """
    try:
        make_directory(disk, directory)
        fd = disk.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise spool_error("open spool", directory, error) from None
    return _lock(fd, directory, f"another process writes {directory}: stop it, or give this one another spool")


def lock_for_shipping(directory: Path) -> int:
    """Lock a spool against a second shipper; the lock lasts as long as the returned descriptor.

    `SpoolLocked` if another process holds it, `SpoolError` if it can't be used.
    """
    path = directory / SHIP_LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise spool_error("open", path, error) from None
    return _lock(fd, directory, f"another shipper ships {directory}: stop one of them")


def lock_sidecar(directory: Path) -> int:
    """One sidecar per `[spool] dir`; the lock lasts as long as the returned descriptor.

    `SpoolLocked` if another process holds it, `SpoolError` if the folder can't be used.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        fd = os.open(directory / SIDECAR_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SpoolError(f"can't write to {directory} ({error.strerror}): name another [spool] dir") from None
    taken = f"another sidecar runs on {directory}: stop it, or give this one another [spool] dir"
    return _lock(fd, directory, taken)


def _lock(fd: int, directory: Path, taken: str) -> int:
    for attempt in range(LOOKS + 1):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            is_taken = error.errno in (errno.EWOULDBLOCK, errno.EACCES)
            if is_taken and attempt < LOOKS:
                time.sleep(LOOK_SECONDS)
                continue
            os.close(fd)
            if is_taken:
                raise SpoolLocked(taken) from None
            raise spool_error("lock", directory, error) from None
        break
    return fd
