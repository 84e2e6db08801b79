"""Who a spool is to the ledger: the `source.id` file, a UUID that the ledger keeps a position for."""

import uuid
from pathlib import Path
from uuid import UUID

from metering.sidecar.quarantine import write_whole

SOURCE_ID = "source.id"


def read_source_id(directory: Path) -> UUID | None:
    """The spool's identity; None where the file is missing or damaged (the writer mends it at its start)."""
    try:
        return UUID((directory / SOURCE_ID).read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError):
        return None


def settle_source_id(directory: Path, from_header: UUID | None, *, emptied: bool) -> UUID:
    """Read or create the identity. A spool `emptied` by hand counts from 1 again, so it is a new source:
    under its old name the ledger would take its first records for shipped ones. `OSError` if it can't be written.
    """
    known = read_source_id(directory)
    if known is not None and not emptied:
        return known
    source_id = from_header or uuid.uuid4()
    write_whole(directory / SOURCE_ID, f"{source_id}\n".encode())
    return source_id
