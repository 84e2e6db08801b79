"""Who a spool is to the ledger: the `source.id` file, a UUID that the ledger keeps a position for."""

import uuid
from pathlib import Path
from uuid import UUID

from metering.sidecar.spool.disk import Disk
from metering.sidecar.spool.quarantine import write_whole

SOURCE_ID = "source.id"


def read_source_id(directory: Path) -> UUID | None:
    """The spool's identity; None where the file is missing or damaged (the writer mends it at its start)."""
    try:
        return UUID((directory / SOURCE_ID).read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError):
        return None


def settle_source_id(disk: Disk, directory: Path, from_header: UUID | None, *, emptied: bool) -> UUID:
    """Read or create the identity; `OSError` if it can't be written.

    A damaged file is restored from a segment's header. A spool whose file was deleted is a new source: that is how
    a copied spool gets a name of its own. So is one `emptied` by hand: it counts from 1 again, and under its old
    name the ledger would take its first records for shipped ones.
    """
    known = read_source_id(directory)
    if known is not None and not emptied:
        return known
    is_damaged = (directory / SOURCE_ID).exists() and not emptied
    source_id = from_header if is_damaged and from_header else uuid.uuid4()
    write_whole(disk, directory / SOURCE_ID, f"{source_id}\n".encode())
    return source_id
