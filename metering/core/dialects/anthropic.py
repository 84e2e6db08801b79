"""What answers in the Anthropic messages dialect mean, direct, on Vertex, and from compatible servers.

A stream tells usage twice: `message_start` has the input side and the split by cache lifetime, `message_delta`
the cumulative counts at the end. They are merged member by member, the later one wins, nothing is added: with
server tools the second input count is larger than the first.

A message may take several passes over the model, told apart in `iterations`. The top level is the sum of those of type
`message`. It leaves out what compacting the context took, and what an advisor took, which is another model.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from metering.core.dialects.counts import count, first_count, later_wins, usage_object, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.plain import plain_message
from metering.core.dialects.reading import Reading
from metering.core.usage import Usage, UsageSource

_COUNTS = {
    "cache_read_input_tokens": (("cache_read_input_tokens",),),
    "cache_write_5m_input_tokens": (("cache_creation", "ephemeral_5m_input_tokens"),),
    "cache_write_1h_input_tokens": (("cache_creation", "ephemeral_1h_input_tokens"),),
    "reasoning_output_tokens": (("output_tokens_details", "thinking_tokens"),),
    "web_search_requests": (("server_tool_use", "web_search_requests"),),
    "web_fetch_requests": (("server_tool_use", "web_fetch_requests"),),
    "code_execution_requests": (("server_tool_use", "code_execution_requests"),),
}
# Types of `iterations` that the top level leaves out.
_PASSES_APART = frozenset({"compaction", "advisor_message"})
_PASSES_MAX = 100
# Where a message runs costs more if it may run in one place only.
_ANYWHERE = frozenset({None, "global", "not_available"})


_STOPPED = re.compile(rb'"stop_reason"\s*:\s*"')


class _Delta(msgspec.Struct):
    stop_reason: Any = None


class _Answer(msgspec.Struct):
    """The members of a message or event that metering needs."""

    type: Any = None
    id: Any = None
    model: Any = None
    usage: Any = None
    stop_reason: Any = None
    error: Any = None
    message: msgspec.Raw = msgspec.Raw(b"")
    delta: msgspec.Raw = msgspec.Raw(b"")


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_delta = msgspec.json.Decoder(_Delta).decode


class AnthropicMessages(Meaning):
    """One message, or the events of one."""

    members = ("type", "id", "model", "usage", "stop_reason", "error")

    def read_stream(self, stream: Stream, found: Found) -> bool:
        for text in stream.having(b'"usage"'):
            self.read(text, found)
        if not found.final:
            for text in stream.having(b'"message_stop"'):
                self.read(text, found)
        self.read_errors(stream, found)
        return found.final

    def read(self, text: bytes, found: Found) -> bool:
        try:
            self._take(_decode_answer(text), found)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        self._take(_Answer(**members), found)

    def usage(self, found: Found) -> Usage | None:
        raw = found.raw_usage
        if raw is None:
            return None
        if (place := word(raw.get("inference_geo"))) not in _ANYWHERE:
            found.variant = place
        plain = found.plain or plain_message(raw)
        if plain is not None:
            return plain.usage()
        if raw.get("speed") == "fast":
            found.service_tier = "fast"
        found.others = tuple(_passes_apart(found))
        return read_any(raw)

    def _take(self, answer: _Answer, found: Found) -> None:
        found.failed = found.failed or answer.type == "error" or bool(answer.error)
        if answer.type == "message_start" and answer.message:
            self._take_message(_decode_answer(answer.message), found)
        elif answer.type == "message_delta":
            _take_usage(answer.usage, found)
            stopped = bool(answer.delta) and _decode_delta(answer.delta).stop_reason is not None
            found.final = found.final or stopped
        elif answer.type == "message_stop":
            found.final = True
        elif answer.type in (None, "message", "completion", "error"):
            self._take_message(answer, found)

    def _take_message(self, message: _Answer, found: Found) -> None:
        found.model = word(message.model) or found.model
        found.response_id = word(message.id) or found.response_id
        _take_usage(message.usage, found)


class AnthropicComplete(AnthropicMessages):
    """The interface before messages; it tells no usage."""

    def read_stream(self, stream: Stream, found: Found) -> bool:
        self.read_names(stream, found)
        self.read_errors(stream, found)
        return any(_STOPPED.search(text) for text in stream.last())


def read_any(raw: dict[str, Any]) -> Usage | None:
    """The general way to read a usage object: look for every member. None if it tells nothing."""
    uncached, written = count(raw.get("input_tokens")), count(raw.get("output_tokens"))
    counts = {field: quantity for field, paths in _COUNTS.items() if (quantity := first_count(raw, paths)) is not None}
    cache_write = count(raw.get("cache_creation_input_tokens"))
    if cache_write is None and isinstance(raw.get("cache_creation"), dict):
        split = (counts.get("cache_write_5m_input_tokens"), counts.get("cache_write_1h_input_tokens"))
        cache_write = sum(part or 0 for part in split)
    cache_read = counts.get("cache_read_input_tokens")
    if uncached is None and written is None and not cache_read and not cache_write:
        return None
    return Usage(
        input_tokens=_total(uncached, cache_read, cache_write),
        output_tokens=written,
        cache_write_input_tokens=cache_write,
        **counts,
    )


def _take_usage(usage: object, found: Found) -> None:
    if not isinstance(usage, dict) or not usage:
        return
    plain = plain_message(usage)
    if plain is None and isinstance(passes := usage.get("iterations"), list):
        found.passes = passes  # what is kept of a usage object has room for a few of them only
    kept = usage if plain is not None else usage_object(usage) or {}
    if found.raw_usage:
        found.raw_usage, found.plain = later_wins(found.raw_usage, kept), None
    else:
        found.raw_usage, found.plain = kept, plain
    found.service_tier = word(found.raw_usage.get("service_tier"))


def _passes_apart(found: Found) -> Iterator[Reading]:
    """What `iterations` tell beside the top level: each is a row of its own, as it has its own context and model."""
    for told in (found.passes or ())[:_PASSES_MAX]:
        if not isinstance(told, dict) or word(told.get("type")) not in _PASSES_APART:
            continue
        if (usage := read_any(told)) is not None:
            yield Reading(
                usage=usage,
                usage_source=UsageSource.REPORTED,
                raw_usage=usage_object(told),
                response_model=word(told.get("model")) or found.model,
                response_id=found.response_id,
                service_tier=found.service_tier,
                complete=True,
                variant=found.variant,
            )


def _total(*parts: int | None) -> int | None:
    """The sum of what was told; None if nothing was."""
    told = [part for part in parts if part is not None]
    return sum(told) if told else None


_MESSAGES, _COMPLETE = AnthropicMessages(), AnthropicComplete()
_INPUT_PARTS = "`input_tokens` + cache read + cache written"
_MERGED = "`message_start`, then `message_delta`: merged member by member, the later wins"
_TOOLS = "searches, fetches, code runs; compaction and advisor passes as rows of their own"
_ON_VERTEX = "publishers/anthropic/models"

DIALECTS = (
    Dialect(
        name="anthropic.messages",
        operation_name="chat",
        routes=(Route("POST", "messages"),),
        meaning=_MESSAGES,
        spoken_by="Anthropic, Foundry, vLLM, SGLang, Ollama, …",
        input_total=_INPUT_PARTS,
        output_total="`output_tokens`",
        stream_usage=_MERGED,
        also_counts=_TOOLS,
    ),
    Dialect(
        name="anthropic.messages.vertex",
        operation_name="chat",
        routes=(
            Route("POST", f"{_ON_VERTEX}/{{model}}:rawPredict"),
            Route("POST", f"{_ON_VERTEX}/{{model}}:streamRawPredict"),
        ),
        meaning=_MESSAGES,
        spoken_by="Vertex",
        input_total=_INPUT_PARTS,
        output_total="`output_tokens`",
        stream_usage=_MERGED,
        also_counts=_TOOLS,
    ),
    Dialect(
        name="anthropic.complete",
        operation_name="text_completion",
        routes=(Route("POST", "v1/complete"),),
        meaning=_COMPLETE,
        spoken_by="Anthropic, before messages",
        input_total="never told",
        output_total="never told",
        stream_usage="never told",
    ),
    Dialect(
        name="anthropic.count_tokens",
        routes=(Route("POST", "messages/count_tokens"), Route("POST", f"{_ON_VERTEX}/count-tokens:rawPredict")),
        consumes=False,
        spoken_by="Anthropic, Vertex",
    ),
)
