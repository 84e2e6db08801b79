"""How servers that speak the OpenAI dialects differ: data, and the one function that reads it.

Two tables. `COUNTS` says where each sub-count may stand. `SURPLUS` and `OVERRIDES` say what the totals include:
`total_tokens` is compared with what is reported of both sides and decides, response by response; an
override is for a provider whose total itself is wrong.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from metering.core.dialects.counts import count
from metering.core.dialects.plain import Plain
from metering.core.usage import Usage

Paths = tuple[tuple[str, ...], ...]

# OpenAI's chat and responses names; Writer spells them in the singular, Mistral both ways.
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "prompt_token_details", "input_token_details")
_OUTPUT_DETAILS = (
    "completion_tokens_details",
    "output_tokens_details",
    "completion_token_details",
    "output_token_details",
)


def _inside(details: tuple[str, ...], *names: str) -> Paths:
    return tuple((detail, name) for detail in details for name in names)


# Field of `Usage` → where it stands; the first place that holds a count is taken.
COUNTS: Mapping[str, Paths] = {
    "input_tokens": (("prompt_tokens",), ("input_tokens",)),
    "output_tokens": (("completion_tokens",), ("output_tokens",)),
    "cache_read_input_tokens": (
        *_inside(_INPUT_DETAILS, "cached_tokens"),
        ("prompt_cache_hit_tokens",),  # DeepSeek
        ("cached_tokens",),  # Together
        ("num_cached_tokens",),  # Mistral
        ("cache_read_input_tokens",),  # Databricks, Vercel: Anthropic's names
    ),
    "cache_write_input_tokens": (
        *_inside(_INPUT_DETAILS, "cache_write_tokens", "cache_creation_tokens"),
        ("cache_creation_input_tokens",),
    ),
    "audio_input_tokens": (*_inside(_INPUT_DETAILS, "audio_tokens"), ("audio_prompt_tokens",)),
    "image_input_tokens": _inside(_INPUT_DETAILS, "image_tokens"),
    "video_input_tokens": _inside(_INPUT_DETAILS, "video_tokens"),
    "reasoning_output_tokens": (*_inside(_OUTPUT_DETAILS, "reasoning_tokens"), ("reasoning_tokens",)),
    "audio_output_tokens": _inside(_OUTPUT_DETAILS, "audio_tokens"),
    "image_output_tokens": _inside(_OUTPUT_DETAILS, "image_tokens"),
    "accepted_prediction_output_tokens": _inside(_OUTPUT_DETAILS, "accepted_prediction_tokens"),
    "rejected_prediction_output_tokens": _inside(_OUTPUT_DETAILS, "rejected_prediction_tokens"),
    "web_search_requests": (
        ("server_tool_use_details", "web_search_requests"),  # OpenRouter
        ("num_search_queries",),  # Perplexity
    ),
}


def _by_place(counts: Mapping[str, Paths]) -> dict[str, dict[str, tuple[str, int]]]:
    """The table the other way round: container ("" for the object itself) → member → field and rank."""
    places: dict[str, dict[str, tuple[str, int]]] = {"": {}}
    for field, paths in counts.items():
        for rank, (*container, member) in enumerate(paths):
            places.setdefault("".join(container), {})[member] = (field, rank)
    return places


_PLACES = _by_place(COUNTS)


def read_counts(raw: Mapping[str, Any]) -> dict[str, int]:
    """The counts of a usage object by field of `Usage`. Costs a look-up per member, not one per known place."""
    counts: dict[str, int] = {}
    ranks: dict[str, int] = {}
    containers = [("", raw), *((name, value) for name, value in raw.items() if isinstance(value, dict))]
    for container, members in containers:
        places = _PLACES.get(container)
        if places is None:
            continue
        for member, value in members.items():
            if (place := places.get(member)) is None or (told := count(value)) is None:
                continue
            field, rank = place
            if rank < ranks.get(field, rank + 1):
                counts[field], ranks[field] = told, rank
    return counts


class Surplus(msgspec.Struct, frozen=True):
    """A total that is larger than input + output by exactly these sub-counts: they stand outside."""

    input_parts: tuple[str, ...] = ()  # add them to the input
    output_parts: tuple[str, ...] = ()  # add them to the output
    seen_at: str = ""


SURPLUS = (
    Surplus(output_parts=("reasoning_output_tokens",), seen_at="xAI chat"),
    Surplus(input_parts=("audio_input_tokens",), seen_at="Mistral audio"),
    Surplus(
        input_parts=("audio_input_tokens",),
        output_parts=("reasoning_output_tokens",),
        seen_at="both of the above in one call",
    ),
    Surplus(
        input_parts=("cache_read_input_tokens", "cache_write_input_tokens"),
        seen_at="gateways that pass Anthropic's exclusive counts on under OpenAI's names",
    ),
)


class Override(msgspec.Struct, frozen=True):
    """A provider and models for which the comparison of totals is not enough, and what holds instead."""

    provider: str  # part of the route's provider name, or ""
    marker: str  # a member of the usage object that only this provider sends, or ""
    model: str  # part of the model's name
    reads: Callable[[Usage, int | None], Usage]
    seen_at: str

    def holds(self, provider: str, model: str) -> bool:
        """Whether it holds for this provider and model whatever the usage object says."""
        named = self.provider in provider.lower() if self.provider else not self.marker
        return named and self.model in model.lower()

    def is_marked(self, raw: Mapping[str, Any], model: str) -> bool:
        """Whether the usage object shows that it holds for this model."""
        return bool(self.marker) and self.marker in raw and self.model in model.lower()


def _reasoning_outside(usage: Usage, _total: int | None) -> Usage:
    written = (usage.output_tokens or 0) + (usage.reasoning_output_tokens or 0)
    return msgspec.structs.replace(usage, output_tokens=written)


def _thinking_hidden(usage: Usage, total: int | None) -> Usage:
    """What the total has more than both sides was thought; it stands in no other member."""
    hidden = (total or 0) - (usage.input_tokens or 0) - (usage.output_tokens or 0)
    if hidden <= 0:
        return usage
    reasoning = (usage.reasoning_output_tokens or 0) + hidden
    written = (usage.output_tokens or 0) + hidden
    return msgspec.structs.replace(usage, output_tokens=written, reasoning_output_tokens=reasoning)


OVERRIDES = (
    Override("vercel", "market_cost", "google/", _reasoning_outside, "Vercel AI gateway, Google's models"),
    Override("google", "", "", _thinking_hidden, "Google's OpenAI-compatible interface"),
    Override("", "", "gemini", _thinking_hidden, "Gemini behind another OpenAI-compatible gateway"),
)


@lru_cache(maxsize=256)
def _override_of(provider: str, model: str) -> Override | None:
    """The override that holds by name; there are few names, and asking each time cost 1 µs an answer."""
    return next((override for override in OVERRIDES if override.holds(provider, model)), None)


def read_usage(raw: Mapping[str, Any], provider: str, model: str, plain: Plain | None = None) -> Usage | None:
    """The `Usage` in an OpenAI-like usage object; None if it holds no total of either side.

    `plain`: the same object, if it is a plain one; then mostly there is nothing to look for (no marker, no surplus).
    """
    if plain is not None and _override_of(provider, model) is None and (usage := plain.usage()) is not None:
        return usage
    return read_any(raw, provider, model)


def read_any(raw: Mapping[str, Any], provider: str, model: str) -> Usage | None:
    """The general way: look for every member."""
    counts = read_counts(raw)
    read, written = counts.pop("input_tokens", None), counts.pop("output_tokens", None)
    total = count(raw.get("total_tokens"))
    if read is None and written is None:
        if total is None:
            return None
        read = total  # Voyage: embeddings tell the total only
    usage = Usage(
        input_tokens=_rest(total, written) if read is None else read,
        output_tokens=written if written is not None or total == read else _rest(total, read),
        **counts,
    )
    settled = _settle(usage, total)
    if settled is not usage:
        return settled
    named = _override_of(provider, model)
    for override in OVERRIDES:
        if override is named or override.is_marked(raw, model):
            return override.reads(usage, total)
    return usage


def _rest(total: int | None, known: int | None) -> int | None:
    """What the total leaves for the side that is not told."""
    return total - known if total is not None and known is not None and total > known else None


def _settle(usage: Usage, total: int | None) -> Usage:
    """Add the sub-counts that the total shows to be outside; the same object if there are none."""
    if total is None or usage.input_tokens is None or usage.output_tokens is None:
        return usage
    surplus = total - usage.input_tokens - usage.output_tokens
    if surplus <= 0:
        return usage
    for rule in SURPLUS:
        read = sum(getattr(usage, part) or 0 for part in rule.input_parts)
        written = sum(getattr(usage, part) or 0 for part in rule.output_parts)
        if read + written == surplus:
            return msgspec.structs.replace(
                usage, input_tokens=usage.input_tokens + read, output_tokens=usage.output_tokens + written
            )
    return usage
