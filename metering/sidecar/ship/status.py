"""What the shipper has done, where other processes can read it: `ship.json` in each spool."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

STATUS = "ship.json"


class ShipTotals(msgspec.Struct, kw_only=True):
    """What one shipper did since it started."""

    batches: int = 0
    records: int = 0  # finals sent; each became one of the next five
    inserted: int = 0
    duplicates: int = 0  # the ledger had them already
    conflicts: int = 0  # the ledger had another record of the same id: set aside there
    refused: int = 0  # no row can hold them: set aside in the ledger
    confirmed: int = 0  # committed, but the answer was lost: the source's position told
    interrupted: int = 0  # among the records: open ones whose final was destroyed on the disk
    corrupt: int = 0  # damaged places met; quarantined
    unreadable: int = 0  # whole records that are no event of this version; quarantined
    segments_retired: int = 0
    failures: int = 0  # attempts that ended in trouble

    def add(self, other: "ShipTotals") -> None:
        """Count `other` in."""
        for field in _FIELDS:
            setattr(self, field, getattr(self, field) + getattr(other, field))


_FIELDS = ShipTotals.__struct_fields__


class Shipped:
    """What all shippers did as far as their reports were seen: never less than before, whenever a new one starts."""

    def __init__(self) -> None:
        self._ended = ShipTotals()
        self._last: dict[str, ShipTotals] = {}

    def look(self, reports: Mapping[str, ShipTotals]) -> None:
        """Take the newest reports, by the name of their spool."""
        for name, totals in reports.items():
            last = self._last.get(name)
            if last is not None and any(getattr(totals, field) < getattr(last, field) for field in _FIELDS):
                self._ended.add(last)
            self._last[name] = totals

    def sum(self) -> ShipTotals:
        """All together."""
        total = ShipTotals()
        for totals in (self._ended, *self._last.values()):
            total.add(totals)
        return total


class ShipStatus(msgspec.Struct, kw_only=True):
    """How far one spool is shipped. Times are seconds since 1970."""

    position: int  # last sequence the ledger has
    shipped_at: float  # when the last batch was committed, 0.0 if none was
    looked_at: float  # when the shipper last found nothing (more) to ship, or shipped
    totals: ShipTotals


def write_status(directory: Path, status: ShipStatus) -> None:
    """Replace the status. It is a report, not a record: never synced, and a disk that refuses it is no error."""
    path = directory / STATUS
    temporary = directory / f".{STATUS}.{os.getpid()}"
    try:
        temporary.write_bytes(msgspec.json.encode(status))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def read_status(directory: Path) -> ShipStatus | None:
    """The last status; None if no shipper ever wrote one."""
    try:
        return msgspec.json.decode((directory / STATUS).read_bytes(), type=ShipStatus)
    except (OSError, msgspec.DecodeError):
        return None
