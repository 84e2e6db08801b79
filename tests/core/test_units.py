"""Quantities as people read them."""

import pytest

from metering.core.units import amount_text, default_unit_quantity, meter_title, pricing_unit, quantity_text
from metering.core.usage import Meter


@pytest.mark.parametrize(
    ("meter", "quantity", "alone", "said"),
    [
        (Meter.INPUT, 1200, "1,200", "1,200 input"),
        (Meter.UNBILLED_INPUT, 1, "1", "1 unbilled_input"),
        (Meter.IMAGE, 1, "1", "1 image"),
        (Meter.PAGE, 1200, "1,200", "1,200 pages"),
        (Meter.WEB_SEARCH, 2, "2", "2 web searches"),
        (Meter.AUDIO_INPUT_MS, 3700, "3.7 s", "3.7 s of audio input"),
        (Meter.VIDEO_OUTPUT_MS, 8000, "8 s", "8 s of video output"),
        (Meter.COMPUTE_MS, 7_200_005, "7,200.005 s", "7,200.005 s of compute"),
    ],
)
def test_a_quantity_is_said_exactly(meter: Meter, quantity: int, alone: str, said: str) -> None:
    assert (amount_text(meter, quantity), quantity_text(meter, quantity)) == (alone, said)


@pytest.mark.parametrize(
    ("meter", "unit_quantity", "unit"),
    [
        (Meter.OUTPUT, 1_000_000, "1000000 Tokens"),
        (Meter.REQUEST, 1_000, "1000 Requests"),
        (Meter.IMAGE, 1, "1 Image"),
        (Meter.AUDIO_INPUT_MS, 3_600_000, "1 Hour"),
        (Meter.AUDIO_INPUT_MS, 60_000, "1 Minute"),
        (Meter.COMPUTE_MS, 1_000_000, "1000 Seconds"),
        (Meter.COMPUTE_MS, 10, "10 Milliseconds"),
    ],
)
def test_a_price_is_for_a_unit_people_know(meter: Meter, unit_quantity: int, unit: str) -> None:
    assert pricing_unit(meter, unit_quantity) == unit


def test_every_meter_has_a_heading_and_none_has_two() -> None:
    titles = {meter: meter_title(meter) for meter in Meter}
    assert len(set(titles.values())) == len(Meter)
    assert (titles[Meter.CACHE_READ_INPUT], titles[Meter.IMAGE]) == ("cache read input", "images")
    assert {meter for meter in Meter if default_unit_quantity(meter) is None} >= {Meter.IMAGE, Meter.REQUEST}
