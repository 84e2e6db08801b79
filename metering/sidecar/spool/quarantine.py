"""Bytes of a spool that no record could be read from, or that the ledger refused: kept, never deleted.

A file is named after where its bytes came from, so whoever meets the same damage again keeps it once.
"""

import os
from pathlib import Path

from metering.sidecar.spool.disk import Disk, make_directory, sync_directory, write_all

QUARANTINE = "quarantine"


def set_aside(disk: Disk, segment: Path, offset: int, reason: str, data: bytes) -> bool:
    """Keep `data`, found at `offset` of `segment`; False if it is kept already. `OSError` if it can't be."""
    folder = segment.parent / QUARANTINE
    make_directory(disk, folder)
    path = folder / f"{segment.stem}-{offset}.{reason}"
    if path.exists() and path.stat().st_size == len(data):
        return False
    write_whole(disk, path, data)
    return True


def write_whole(disk: Disk, path: Path, data: bytes) -> None:
    """Write a small file so that after a crash it is there entirely or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(disk, fd, data)
            disk.fdatasync(fd)
        finally:
            disk.close(fd)
        disk.rename(temporary, path)
    except OSError:
        disk.unlink(temporary)
        raise
    sync_directory(disk, path.parent)
