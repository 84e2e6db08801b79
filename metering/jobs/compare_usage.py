"""Compare a reading with somebody else's reading of the same answer.

The rule: a name in the expected usage that ours has a field for must be equal, and a reported zero is not the same as
not reported. Tokens that we read and they did not name must be zero or nothing; searches and fetches may be told
by one side only, and so may modalities where the other splits no total. What a call counted without consuming it must
be nothing to us. Members of the provider's own object that our usage has no field for must stand in ours as they were
told. All other names are not compared, and listed.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from metering.core.dialects import Reading
from metering.core.dialects.gemini_usage import TRAFFIC_TYPES
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
    "input_document_tokens": "document_input_tokens",
    "tool_use_prompt_tokens": "tool_use_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
    "output_audio_tokens": "audio_output_tokens",
    "output_image_tokens": "image_output_tokens",
    "accepted_prediction_tokens": "accepted_prediction_output_tokens",
    "rejected_prediction_tokens": "rejected_prediction_output_tokens",
    "web_search_requests": "web_search_requests",
    "web_search_calls": "web_search_requests",
    "web_fetch_requests": "web_fetch_requests",
    "num_sources_used": "search_sources",
    "billed_input_tokens": "billed_input_tokens",
    "billed_output_tokens": "billed_output_tokens",
    "search_units": "search_units",
    "characters": "input_characters",
    "billable_characters": "input_characters",
    "image_count": "output_images",
    "pages": "input_pages",
}
# Their name, in seconds → our field.
DURATIONS: Mapping[str, str] = {
    "audio_seconds": "audio_input_ms",
    "video_seconds": "video_output_ms",
    "predict_time_s": "compute_ms",
}
# Their name → what it is called in the provider's own object, which we keep.
VERBATIM: Mapping[str, tuple[str, ...]] = {
    "total_tokens_reported": ("total_tokens", "totalTokens", "totalTokenCount"),
    "iterations": ("iterations",),
    "usage_events": ("usage_events",),
    "doc_size_bytes": ("doc_size_bytes",),
    "total_duration_ns": ("total_duration",),
    "eval_duration_ns": ("eval_duration",),
}
# All tools that ran on the provider's side; ours are counted apart.
TOOLS = "num_server_side_tools_used"
TOOL_FIELDS = ("web_search_requests", "file_search_requests", "code_execution_requests", "tool_requests")
COST, TICKS, TICKS_PER_USD = "cost_usd_reported", "cost_usd_ticks_reported", 10**10
COUNTED = "counted_input_tokens"
# Compared as well, but not one of our fields: what was read and neither came from a cache nor went to one.
UNCACHED = "uncached_input_tokens"
TIER = "service_tier"
GUARDRAIL = "guardrail_units"  # all kinds of them, as the provider tells them
# Their name → the member of our reading.
OF_READING: Mapping[str, str] = {
    COST: "reported_cost",
    TICKS: "reported_cost",
    COUNTED: "usage",
    TIER: "service_tier",
    GUARDRAIL: "raw_usage",
}
_MODALITIES = frozenset(
    field for field in FIELDS.values() if field.startswith(("audio_", "image_", "video_", "document_"))
)


class Difference(msgspec.Struct, frozen=True):
    """One name on which the readings disagree."""

    name: str
    expected: Any
    read: Any


def compare(expected: Mapping[str, Any] | None, reading: Reading) -> list[Difference]:
    """The names on which `reading` and `expected` disagree; none if they agree."""
    usage = reading.usage or Usage()
    named, ours = {}, {}
    for name, value in (expected or {}).items():
        if name in COMPARED:
            named[name], ours[name] = _theirs(name, value), _ours(name, usage, reading)
    differences = [Difference(name, value, ours[name]) for name, value in named.items() if value != ours[name]]
    covered = {FIELDS[name] for name in named if name in FIELDS}
    tokens = {field for field in FIELDS.values() if field.endswith("_tokens")}
    if not covered & _MODALITIES:
        tokens -= _MODALITIES
    extra = [field for field in sorted(tokens - covered) if getattr(usage, field)]
    return differences + [Difference(field, None, getattr(usage, field)) for field in extra]


COMPARED = frozenset({*FIELDS, *DURATIONS, *VERBATIM, *OF_READING, UNCACHED, TOOLS})


def not_compared(expected: Mapping[str, Any] | None) -> list[str]:
    """The expected names that our usage has no field for."""
    return [name for name in expected or {} if name not in COMPARED]


def _theirs(name: str, value: Any) -> Any:
    """Their value in our unit."""
    if name in DURATIONS:
        return round(value * 1000)
    if name == COST:
        return Decimal(str(value))
    if name == TICKS:
        return Decimal(value) / TICKS_PER_USD if value else None  # Azure Foundry sends a zero and means nothing by it
    if name == TIER and isinstance(value, int):  # some clients of Google's ask for numbers
        return TRAFFIC_TYPES.get(value)
    return None if name == COUNTED else value


def _ours(name: str, usage: Usage, reading: Reading) -> Any:
    if name in VERBATIM:
        raw = reading.raw_usage or {}
        return next((raw[member] for member in VERBATIM[name] if member in raw), None)
    if name == TOOLS:
        told = [requests for field in TOOL_FIELDS if (requests := getattr(usage, field)) is not None]
        return sum(told) if usage.tool_requests is not None else None
    if name in OF_READING:
        return getattr(reading, OF_READING[name])
    return _uncached(usage) if name == UNCACHED else getattr(usage, FIELDS.get(name) or DURATIONS[name])


def _uncached(usage: Usage) -> int | None:
    if usage.input_tokens is None:
        return None
    return usage.input_tokens - (usage.cache_read_input_tokens or 0) - (usage.cache_write_input_tokens or 0)
