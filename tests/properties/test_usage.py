"""Properties of the one conversion from inclusive counts to disjoint meters."""

from hypothesis import given
from hypothesis import strategies as st

from metering.core.usage import INPUT_METERS, OUTPUT_METERS, Usage, disjoint_meters

COUNTS = st.none() | st.integers(0, 2**53) | st.integers(0, 300)
usages = st.fixed_dictionaries(dict.fromkeys(Usage.__struct_fields__, COUNTS)).map(lambda counts: Usage(**counts))


@given(usages)
def test_meters_add_up_to_the_totals(usage: Usage) -> None:
    meters = disjoint_meters(usage)
    assert all(quantity > 0 for quantity in meters.values())
    assert sum(meters.get(meter, 0) for meter in INPUT_METERS) == (usage.input_tokens or 0)
    assert sum(meters.get(meter, 0) for meter in OUTPUT_METERS) == (usage.output_tokens or 0)


@given(usages)
def test_a_meter_never_exceeds_what_was_reported_for_it(usage: Usage) -> None:
    meters = disjoint_meters(usage)
    reported = {
        "cache_read_input": usage.cache_read_input_tokens,
        "audio_input": usage.audio_input_tokens,
        "image_input": usage.image_input_tokens,
        "video_input": usage.video_input_tokens,
        "reasoning_output": usage.reasoning_output_tokens,
        "audio_output": usage.audio_output_tokens,
        "image_output": usage.image_output_tokens,
    }
    by_name = {meter.value: quantity for meter, quantity in meters.items()}
    assert all(by_name.get(name, 0) <= (quantity or 0) for name, quantity in reported.items())
