"""Read which cost centre each team belongs to, and since when, from a CSV (docs/statements.md)."""

import csv
import io
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from metering.core.teams import TeamAssignment, TeamDirectory
from metering.errors import InputError

REQUIRED = frozenset({"team", "cost_center"})
COLUMNS = REQUIRED | {"effective_from", "effective_to"}


def read_team_file(path: Path, zone: ZoneInfo) -> TeamDirectory:
    """The directory in `path`. A date is its midnight in `zone`, the billing zone; the end is exclusive.

    `InputError` naming the row if one can't be used, or both cost centres if a team would be in two.
    """
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        header, rows = frozenset(reader.fieldnames or ()), list(reader)
    except OSError as error:
        raise InputError(f"team file {path} can't be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"team file {path} is not a UTF-8 CSV: {error}") from None
    if not header >= REQUIRED or not header <= COLUMNS:
        raise InputError(f"team file {path}: the header must be team,cost_center,effective_from,effective_to")
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"team file {path}: every row needs as many cells as the header")
    return TeamDirectory(_assignment(row, f"{path.name} row {number}", zone) for number, row in enumerate(rows, 2))


def _assignment(row: dict[str, str], where: str, zone: ZoneInfo) -> TeamAssignment:
    return TeamAssignment(
        team=row["team"].strip(),
        cost_center=row["cost_center"].strip(),
        effective_from=_instant(row.get("effective_from", ""), where, zone),
        effective_to=_instant(row.get("effective_to", ""), where, zone),
    )


def _instant(text: str, where: str, zone: ZoneInfo) -> datetime | None:
    if not text.strip():
        return None
    try:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(f"{where}: {text!r} is not a date such as {date(2026, 10, 1)}") from None
