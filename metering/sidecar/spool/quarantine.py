"""Bytes of a spool that no record could be read from, or that the ledger refused: kept, never deleted.

A file is named after where its bytes came from, so whoever meets the same damage again keeps it once.
"""

import os
from pathlib import Path

QUARANTINE = "quarantine"


def set_aside(directory: Path, segment: Path, offset: int, reason: str, data: bytes) -> bool:
    """Keep `data`, found at `offset` of `segment`; False if it is kept already. `OSError` if it can't be."""
    folder = directory / QUARANTINE
    folder.mkdir(exist_ok=True)
    path = folder / f"{segment.stem}-{offset}.{reason}"
    if path.exists() and path.stat().st_size == len(data):
        return False
    write_whole(path, data)
    return True


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that after a crash it is there entirely or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make created, renamed and removed names durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
