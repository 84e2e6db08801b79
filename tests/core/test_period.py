"""Periods are spans of local calendar time; slots tile them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from metering.core.period import SLOT, on_slot, parse_period, slot_at

ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.parametrize(
    ("name", "zone", "start_at", "end_at"),
    [
        ("2026-10", "UTC", "2026-10-01T00:00", "2026-11-01T00:00"),
        ("2026-10", "Europe/Zurich", "2026-09-30T22:00", "2026-10-31T23:00"),
        ("2026", "Asia/Kathmandu", "2025-12-31T18:15", "2026-12-31T18:15"),
        ("2026-12", "UTC", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("2026-10-25", "Europe/Zurich", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        ("2024-02-29", "UTC", "2024-02-29T00:00", "2024-03-01T00:00"),
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00", "2018-11-05T02:00"),  # its midnight never was
    ],
)
def test_a_period_is_local(name: str, zone: str, start_at: str, end_at: str) -> None:
    period = parse_period(name, ZoneInfo(zone))
    assert (period.start_at, period.end_at) == tuple(
        datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start_at, end_at)
    )


@pytest.mark.parametrize(
    "name", ["", "october", "2026-13", "2026-02-30", "0000", "9999-12-31", "2026-1", "٢٠٢٦", "2026-10 "]
)
def test_other_names_are_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="is not a period"):
        parse_period(name, ZURICH)


def test_a_year_that_begins_before_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="'0001' is not a period"):
        parse_period("0001", ZURICH)


@pytest.mark.parametrize("zone", ["Europe/Zurich", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"])
def test_days_tile_the_year_and_begin_on_slots(zone: str) -> None:
    at, year = ZoneInfo(zone), parse_period("2026", ZoneInfo(zone))
    end_at = year.start_at
    for month in range(1, 13):
        for day in range(1, 32):
            try:
                span = parse_period(f"2026-{month:02}-{day:02}", at)
            except ValueError:
                continue
            assert span.start_at == end_at
            assert on_slot(span.start_at)
            end_at = span.end_at
    assert end_at == year.end_at


def test_a_slot_is_a_quarter_hour_of_utc() -> None:
    instant = datetime(2026, 10, 1, 12, 14, 59, 999_999, tzinfo=UTC)
    assert slot_at(instant) == datetime(2026, 10, 1, 12, tzinfo=UTC)
    assert slot_at(instant + timedelta(microseconds=1)) == slot_at(instant) + SLOT
    assert on_slot(slot_at(instant))
    assert not on_slot(instant)
