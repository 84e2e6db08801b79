"""The event's id carries its start; its JSON form is the same event again."""

import pickle
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.event import (
    CONTEXT_LADDER_TOKENS,
    Attribution,
    Outcome,
    UsageEvent,
    context_band,
    mint_event_id,
    started_at,
)
from metering.core.usage import Usage, UsageSource

UNIX_MS = st.integers(0, (1 << 48) - 1)
FAR = 253_402_300_799_999  # the last millisecond of year 9999, where Python's datetime ends


@given(UNIX_MS, st.integers(0, (1 << 74) - 1))
def test_minted_id_is_an_rfc_9562_uuidv7(unix_ms: int, randomness: int) -> None:
    event_id = mint_event_id(unix_ms, randomness)
    assert event_id.version == 7
    assert event_id.variant == UUID("01890a5d-ac96-774b-bcce-b302099a8057").variant
    assert event_id.int >> 80 == unix_ms


@given(st.integers(0, FAR), st.integers(0, (1 << 74) - 1))
def test_start_time_is_read_back_to_the_millisecond(unix_ms: int, randomness: int) -> None:
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms)
    assert started_at(mint_event_id(unix_ms, randomness)) == expected


@given(UNIX_MS, st.integers(0, (1 << 74) - 1), st.integers(0, (1 << 74) - 1))
def test_no_random_bit_is_lost(unix_ms: int, one: int, other: int) -> None:
    assert (mint_event_id(unix_ms, one) == mint_event_id(unix_ms, other)) is (one == other)


def test_a_minted_id_is_a_uuid_like_any_other() -> None:
    event_id = mint_event_id(1_790_000_000_123, 42)
    same = UUID(str(event_id))
    assert event_id == same == pickle.loads(pickle.dumps(event_id))
    assert hash(event_id) == hash(same)
    assert event_id.is_safe is same.is_safe


def test_ids_sort_by_time() -> None:
    assert mint_event_id(1, (1 << 74) - 1) < mint_event_id(2, 0)


def test_start_time_of_another_uuid_is_refused() -> None:
    with pytest.raises(ValueError, match="not a UUIDv7"):
        started_at(uuid4())


def test_event_survives_its_json_form() -> None:
    event = UsageEvent(
        event_id=mint_event_id(1_790_000_000_123, 42),
        provider_name="openai",
        outcome=Outcome.COMPLETED,
        usage_source=UsageSource.REPORTED,
        usage=Usage(input_tokens=0, output_tokens=7),
        raw_usage={"prompt_tokens": 0, "completion_tokens": 7},
        ended_at=datetime(2026, 9, 21, 12, 0, 1, 500, tzinfo=UTC),
        attribution=Attribution(team="search", tags={"app": "web"}),
    )
    assert msgspec.json.decode(msgspec.json.encode(event), type=UsageEvent) == event


def test_zero_is_kept_apart_from_unknown() -> None:
    encoded = msgspec.json.encode(Usage(input_tokens=0))
    assert msgspec.json.decode(encoded, type=Usage) == Usage(input_tokens=0, output_tokens=None)
    assert encoded == b'{"input_tokens":0}'


def test_model_is_the_one_that_answered() -> None:
    asked = UsageEvent(
        event_id=mint_event_id(0, 0),
        provider_name="openai",
        outcome=Outcome.INTERRUPTED,
        usage_source=UsageSource.UNKNOWN,
        request_model="gpt-4o",
    )
    assert asked.model == "gpt-4o"
    assert msgspec.structs.replace(asked, response_model="gpt-4o-2024-08-06").model == "gpt-4o-2024-08-06"


@pytest.mark.parametrize("rung", CONTEXT_LADDER_TOKENS)
def test_a_band_begins_after_its_rung(rung: int) -> None:
    assert context_band(rung) < rung
    assert context_band(rung + 1) == rung


def test_no_input_is_in_the_lowest_band() -> None:
    assert context_band(None) == context_band(0) == 0


def test_the_event_has_no_field_for_content() -> None:
    """A field that could hold text must be a name, an id or a label; a new one has to be added here on purpose."""
    text_fields = {
        field.name
        for field in msgspec.structs.fields(UsageEvent)
        if "str" in str(field.type) and field.name != "raw_usage"
    }
    assert text_fields == {
        "provider_name",
        "operation_name",
        "dialect",
        "request_model",
        "response_model",
        "response_id",
        "deployment",
        "region",
        "service_tier",
        "variant",
        "estimator",
        "trace_id",
    }
