"""What answers of Google's interactions interface mean: one object, or events of which the last holds all of it.

An interaction can run in the background and be asked for again: each answer with its usage is marked `once`.
"""

from typing import Any

import msgspec

from metering.core.dialects.counts import count, usage_object, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.usage import Usage

_EMPTY = msgspec.Raw(b"")
_UNFINISHED = frozenset({"queued", "in_progress"})
_COUNTS = {
    "cache_read_input_tokens": "total_cached_tokens",
    "tool_use_input_tokens": "total_tool_use_tokens",
    "reasoning_output_tokens": "total_thought_tokens",
}
_SHARES = {
    "audio_input_tokens": ("input_tokens_by_modality", "audio"),
    "image_input_tokens": ("input_tokens_by_modality", "image"),
    "video_input_tokens": ("input_tokens_by_modality", "video"),
    "document_input_tokens": ("input_tokens_by_modality", "document"),
    "cache_read_audio_input_tokens": ("cached_tokens_by_modality", "audio"),
    "audio_output_tokens": ("output_tokens_by_modality", "audio"),
    "image_output_tokens": ("output_tokens_by_modality", "image"),
}


class _Metadata(msgspec.Struct):
    usage: Any = None


class _Answer(msgspec.Struct):
    """The members of an interaction, or of an event, that metering needs."""

    id: Any = None
    model: Any = None
    agent: Any = None
    status: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    event_type: Any = None
    interaction: msgspec.Raw = _EMPTY
    metadata: _Metadata | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class Interactions(Meaning):
    """An interaction with a model or an agent."""

    members = tuple(name for name in _Answer.__struct_fields__ if name not in ("interaction", "metadata"))
    cut_depth = 2

    def read_stream(self, stream: Stream, found: Found) -> bool:
        self.read_names(stream, found)
        self.read_errors(stream, found)
        for text in stream.having_from_end(b'"usage"'):
            found.told = False
            if self.read(text, found) and found.told:
                break
        return found.final

    def read(self, text: bytes, found: Found) -> bool:
        try:
            answer = _decode_answer(text)
            self._take(_decode_answer(answer.interaction) if answer.interaction else answer, found)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        if answer.metadata is not None:  # so far
            _take_usage(answer.metadata.usage, found)
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        self._take(_Answer(**members), found)

    def usage(self, found: Found) -> Usage | None:
        return read_usage(found.raw_usage) if found.raw_usage else None

    def _take(self, answer: _Answer, found: Found) -> None:
        found.failed = found.failed or bool(answer.error) or answer.status == "failed"
        found.model = found.model or word(answer.model) or word(answer.agent)
        found.response_id = found.response_id or word(answer.id)
        found.service_tier = word(answer.service_tier) or found.service_tier
        if isinstance(answer.status, str):
            found.pending = answer.status in _UNFINISHED
        if _take_usage(answer.usage, found):
            found.final = not found.pending
            found.once = found.response_id is not None


def read_usage(raw: dict[str, Any]) -> Usage | None:
    """The `Usage`: tools and thoughts stand beside input and output. None if no count is told."""
    names = ("total_input_tokens", "total_tool_use_tokens", "total_output_tokens", "total_thought_tokens")
    read, tools, written, thought = (count(raw.get(name)) for name in names)
    if read is None and written is None:
        return None
    counts = {field: count(raw.get(name)) for field, name in _COUNTS.items()}
    shares = {field: _share(raw.get(name), modality) for field, (name, modality) in _SHARES.items()}
    return Usage(
        input_tokens=None if read is None else read + (tools or 0),
        output_tokens=None if written is None else written + (thought or 0),
        web_search_requests=_entry(raw.get("grounding_tool_count"), "type", "google_search", "count"),
        **counts,
        **shares,
    )


def _share(entries: object, modality: str) -> int | None:
    return _entry(entries, "modality", modality, "tokens")


def _entry(entries: object, kind: str, wanted: str, quantity: str) -> int | None:
    """The quantity of the entry of the wanted kind."""
    if not isinstance(entries, list):
        return None
    told = (entry for entry in entries if isinstance(entry, dict) and entry.get(kind) == wanted)
    return next((count(entry.get(quantity)) for entry in told), None)


def _take_usage(usage: object, found: Found) -> bool:
    if (kept := usage_object(usage)) is None:
        return False
    found.raw_usage, found.told = kept, True
    return True


_INTERACTIONS = Interactions()
_READ, _WRITTEN = "`total_input_tokens` + `total_tool_use_tokens`", "`total_output_tokens` + `total_thought_tokens`"

DIALECTS = (
    Dialect(
        name="gemini.interactions",
        operation_name="generate_content",
        routes=(Route("POST", "interactions"),),
        meaning=_INTERACTIONS,
        spoken_by="AI Studio",
        input_total=_READ,
        output_total=_WRITTEN,
        stream_usage="`interaction.completed`, else the last `metadata.usage`",
        also_counts="web searches",
    ),
    Dialect(
        name="gemini.interactions.retrieve",
        operation_name="generate_content",
        routes=(Route("GET", "interactions/*"), Route("POST", "interactions/*/cancel")),
        consumes=None,
        meaning=_INTERACTIONS,
        spoken_by="AI Studio",
        input_total=_READ,
        output_total=_WRITTEN,
        stream_usage="as `gemini.interactions`",
    ),
)
