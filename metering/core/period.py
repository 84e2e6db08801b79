"""Periods: half-open spans of time in the organisation's billing zone, and the quarter-hours that fill them.

A month in a zone is a pair of UTC instants. Slots are quarter-hours of UTC; every zone in use today is
offset by a multiple of 15 minutes, so slots tile every zone's days exactly.
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

SLOT = timedelta(minutes=15)
_PERIOD = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")


class Period(msgspec.Struct, frozen=True):
    """A named half-open span `[start_at, end_at)`, aware UTC."""

    name: str
    start_at: datetime
    end_at: datetime


def parse_period(name: str, zone: ZoneInfo) -> Period:
    """Read `2026`, `2026-10` or `2026-10-05` as that year, month or day in `zone`.

    `ValueError` with a sentence for anything else.
    """
    match = _PERIOD.fullmatch(name)
    if not match:
        raise ValueError(f"{name!r} is not a period: write 2026, 2026-10 or 2026-10-05")
    year, month, day = (int(part) if part else None for part in match.groups())
    try:
        start = datetime(year or 0, month or 1, day or 1, tzinfo=zone)
        if day:
            after = start.date() + timedelta(days=1)
            end = datetime(after.year, after.month, after.day, tzinfo=zone)
        elif month:
            end = datetime(start.year + month // 12, month % 12 + 1, 1, tzinfo=zone)
        else:
            end = datetime(start.year + 1, 1, 1, tzinfo=zone)
        return Period(name, start.astimezone(UTC), end.astimezone(UTC))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name!r} is not a period: {error}") from None


def slot_at(instant: datetime) -> datetime:
    """The quarter-hour of UTC that `instant` falls in."""
    instant = instant.astimezone(UTC)
    return instant.replace(minute=instant.minute - instant.minute % 15, second=0, microsecond=0)


def on_slot(instant: datetime) -> bool:
    """Whether `instant` lies exactly between two slots: the only place where a price or an owner may change."""
    return slot_at(instant) == instant
