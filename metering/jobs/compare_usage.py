"""Compare a reading with somebody else's reading of the same answer.

The rule: a name in the expected usage that ours has a field for must be equal, and a reported zero is not the same as
not reported. Tokens that we read and they did not name must be zero or nothing; searches and fetches may be told
by one side only. Names outside our usage (costs, durations, billed units, aggregates) are not compared, and listed.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from metering.core.dialects import Reading
from metering.core.usage import Usage

# Their name → our field.
FIELDS: Mapping[str, str] = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_write_input_tokens",
    "cache_write_5m_tokens": "cache_write_5m_input_tokens",
    "cache_write_1h_tokens": "cache_write_1h_input_tokens",
    "input_audio_tokens": "audio_input_tokens",
    "input_image_tokens": "image_input_tokens",
    "input_video_tokens": "video_input_tokens",
    "tool_use_prompt_tokens": "tool_use_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
    "output_audio_tokens": "audio_output_tokens",
    "output_image_tokens": "image_output_tokens",
    "accepted_prediction_tokens": "accepted_prediction_output_tokens",
    "rejected_prediction_tokens": "rejected_prediction_output_tokens",
    "web_search_requests": "web_search_requests",
    "web_search_calls": "web_search_requests",
    "web_fetch_requests": "web_fetch_requests",
}
# Compared as well, but not one of our fields: what was read and neither came from a cache nor went to one.
UNCACHED = "uncached_input_tokens"
TIER = "service_tier"


class Difference(msgspec.Struct, frozen=True):
    """One name on which the readings disagree."""

    name: str
    expected: Any
    read: Any


def compare(expected: Mapping[str, Any] | None, reading: Reading) -> list[Difference]:
    """The names on which `reading` and `expected` disagree; none if they agree."""
    usage = reading.usage or Usage()
    theirs = expected or {}
    named = {name: value for name, value in theirs.items() if name in FIELDS}
    ours = {name: getattr(usage, FIELDS[name]) for name in named}
    if UNCACHED in theirs:
        named[UNCACHED], ours[UNCACHED] = theirs[UNCACHED], _uncached(usage)
    if TIER in theirs:
        named[TIER], ours[TIER] = theirs[TIER], reading.service_tier
    differences = [Difference(name, value, ours[name]) for name, value in named.items() if value != ours[name]]
    covered = {FIELDS[name] for name in named if name in FIELDS}
    tokens = {field for field in FIELDS.values() if field.endswith("_tokens")}
    extra = [field for field in sorted(tokens - covered) if getattr(usage, field)]
    return differences + [Difference(field, None, getattr(usage, field)) for field in extra]


def not_compared(expected: Mapping[str, Any] | None) -> list[str]:
    """The expected names that our usage has no field for."""
    return [name for name in expected or {} if name not in FIELDS and name not in (UNCACHED, TIER)]


def _uncached(usage: Usage) -> int | None:
    if usage.input_tokens is None:
        return None
    return usage.input_tokens - (usage.cache_read_input_tokens or 0) - (usage.cache_write_input_tokens or 0)
