from typing import Any

import pytest

from metering.core.dialects import Reading, anthropic, classify, open_reader
from metering.core.dialects.plain import plain_message, plain_usage
from metering.core.dialects.quirks import read_usage
from metering.core.usage import Usage

CHAT = {"prompt_tokens": 8, "completion_tokens": 3, "total_tokens": 11}
RESPONSE = {"input_tokens": 8, "output_tokens": 3, "total_tokens": 11}


@pytest.mark.parametrize(
    "usage",
    [
        CHAT,
        RESPONSE,
        {"prompt_tokens": 8, "total_tokens": 8},
        CHAT | {"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": 2}},
        RESPONSE | {"input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0}},
    ],
)
def test_an_ordinary_object_needs_no_search(usage: dict[str, Any]) -> None:
    plain = plain_usage(usage)
    assert plain is not None
    assert plain.usage() == read_usage(usage, "openai", "gpt-4o") is not None


@pytest.mark.parametrize("usage", [CHAT | {"total_tokens": 12}, RESPONSE | {"total_tokens": 12}])
def test_a_total_of_more_than_both_sides_is_not_plain(usage: dict[str, Any]) -> None:
    plain = plain_usage(usage)
    assert plain is not None
    assert plain.usage() is None
    told = read_usage(usage, "google", "gemini", plain)
    assert told == Usage(input_tokens=8, output_tokens=4, reasoning_output_tokens=1)


@pytest.mark.parametrize("value", ["text", 1.5, True, -1, 2**53, [1], {"text": "x"}])
@pytest.mark.parametrize("usage", [CHAT, RESPONSE, CHAT | {"prompt_tokens_details": {"cached_tokens": 1}}])
def test_what_is_no_count_is_not_plain(usage: dict[str, Any], value: object) -> None:
    assert plain_usage(usage | {"total_tokens": value}) is None
    assert plain_usage(usage | {"surprise": value}) is None
    assert plain_usage(usage | dict.fromkeys("abcdef", 1)) is None
    assert plain_message({"input_tokens": value}) is None
    assert plain_message({"input_tokens": 3, "surprise": value}) is None


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 8, "output_tokens": 3, "service_tier": "standard", "inference_geo": "us"},
        {"output_tokens": 3},
        {"cache_read_input_tokens": 3, "cache_creation": {"ephemeral_5m_input_tokens": 2}},
        {"cache_read_input_tokens": 0, "output_tokens": None},
        {"input_tokens": 1, "server_tool_use": {"web_search_requests": 2}, "output_tokens_details": {}},
    ],
)
def test_a_plain_message_says_what_the_general_way_says(usage: dict[str, Any]) -> None:
    plain = plain_message(usage)
    assert plain is not None
    assert plain.usage() == anthropic.read_any(usage)


def _read(path: str, body: bytes, provider: str = "") -> Reading:
    reader = open_reader(
        classify("POST", path), status=200, content_type="application/json", content_encoding="", provider=provider
    )
    reader.feed(body)
    return reader.finish()


def test_an_override_by_name_holds_for_a_plain_object() -> None:
    body = b'{"model":"google/gemini","usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,'
    body += b'"completion_tokens_details":{"reasoning_tokens":9}}}'
    usage = _read("/v1/chat/completions", body, "vercel").usage
    assert usage is not None
    assert usage.output_tokens == 12


def test_no_word_of_a_message_stays_but_the_listed_ones_and_short_ones() -> None:
    body = b'{"usage":{"input_tokens":3,"service_tier":"%s","inference_geo":"us"}}' % (b"secret " * 20)
    reading = _read("/v1/messages", body)
    assert (reading.raw_usage, reading.usage) == ({"input_tokens": 3, "inference_geo": "us"}, Usage(input_tokens=3))
