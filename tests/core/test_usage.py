import pytest

from metering.core.usage import COUNTED_METERS, INPUT_METERS, OUTPUT_METERS, Meter, Usage, disjoint_meters


@pytest.mark.parametrize(
    ("usage", "meters"),
    [
        (Usage(), {}),
        (Usage(input_tokens=0, output_tokens=0), {}),
        (Usage(input_tokens=10, output_tokens=4), {Meter.INPUT: 10, Meter.OUTPUT: 4}),
        (
            Usage(input_tokens=100, cache_read_input_tokens=64, output_tokens=30, reasoning_output_tokens=20),
            {Meter.INPUT: 36, Meter.CACHE_READ_INPUT: 64, Meter.OUTPUT: 10, Meter.REASONING_OUTPUT: 20},
        ),
        (
            Usage(
                input_tokens=451,
                cache_read_input_tokens=400,
                cache_write_input_tokens=30,
                cache_write_5m_input_tokens=20,
                cache_write_1h_input_tokens=10,
            ),
            {
                Meter.INPUT: 21,
                Meter.CACHE_READ_INPUT: 400,
                Meter.CACHE_WRITE_INPUT: 20,
                Meter.CACHE_WRITE_1H_INPUT: 10,
            },
        ),
        (
            Usage(input_tokens=30, cache_write_5m_input_tokens=20, cache_write_1h_input_tokens=10),
            {Meter.CACHE_WRITE_INPUT: 20, Meter.CACHE_WRITE_1H_INPUT: 10},
        ),
        (
            Usage(
                input_tokens=384, audio_input_tokens=375, output_tokens=9, audio_output_tokens=5, image_output_tokens=4
            ),
            {Meter.INPUT: 9, Meter.AUDIO_INPUT: 375, Meter.AUDIO_OUTPUT: 5, Meter.IMAGE_OUTPUT: 4},
        ),
        (
            Usage(input_tokens=50, cache_read_input_tokens=20, audio_input_tokens=30, cache_read_audio_input_tokens=15),
            {
                Meter.INPUT: 15,
                Meter.CACHE_READ_AUDIO_INPUT: 15,
                Meter.CACHE_READ_INPUT: 5,
                Meter.AUDIO_INPUT: 15,
            },
        ),
        (Usage(input_tokens=5, web_search_requests=3), {Meter.INPUT: 5, Meter.WEB_SEARCH: 3}),
    ],
)
def test_meters_overlap_nowhere(usage: Usage, meters: dict[Meter, int]) -> None:
    assert disjoint_meters(usage) == meters


def test_parts_larger_than_their_total_are_clamped() -> None:
    usage = Usage(input_tokens=24, cache_read_input_tokens=161, image_input_tokens=5)
    assert disjoint_meters(usage) == {Meter.CACHE_READ_INPUT: 24}


def test_parts_without_a_total_charge_nothing() -> None:
    assert disjoint_meters(Usage(cache_read_input_tokens=9, reasoning_output_tokens=9)) == {}


def test_every_token_meter_belongs_to_one_side() -> None:
    assert set(INPUT_METERS) | set(OUTPUT_METERS) | {*COUNTED_METERS, Meter.REQUEST} == set(Meter)
    assert not set(INPUT_METERS) & set(OUTPUT_METERS)
