"""What answers in the OpenAI dialects mean: chat, completions, embeddings, responses.

Dozens of servers speak them, each a little differently. Where their differences can be written as data they
stand in `quirks.py`; this module is the order in which things are looked for.
"""

import re
from typing import Any

import msgspec

from metering.core.dialects.counts import count, usage_object, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.openai_tools import count_tools
from metering.core.dialects.plain import plain_usage
from metering.core.dialects.quirks import NAMED_TOOLS, TABLE, read_usage
from metering.core.usage import Usage

_EMPTY, _NO_CHOICES = msgspec.Raw(b""), msgspec.Raw(b"[]")
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_QUOTED_TERMINAL = tuple(b'"%s"' % name.encode() for name in _TERMINAL)
_UNFINISHED = frozenset({"queued", "in_progress"})


class _Answer(msgspec.Struct):
    """The members of a body, chunk or event that metering needs; all others are skipped undecoded."""

    id: Any = None
    model: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    type: Any = None
    status: Any = None
    background: Any = None
    x_groq: Any = None
    timings: Any = None
    choices: msgspec.Raw = _EMPTY
    output: msgspec.Raw = _EMPTY
    response: msgspec.Raw = _EMPTY


class _Choice(msgspec.Struct):
    usage: Any = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_choices = msgspec.json.Decoder(list[_Choice]).decode
_RAW_MEMBERS = frozenset({"choices", "output", "response"})
_SCANNED = tuple(name for name in _Answer.__struct_fields__ if name not in _RAW_MEMBERS)


class OpenAIChat(Meaning):
    """Chat, completions and embeddings: one object, or chunks of which one or many carry `usage`."""

    members = _SCANNED

    def read_stream(self, stream: Stream, found: Found) -> bool:
        self.read_names(stream, found)
        self.read_errors(stream, found)
        # Cumulative where it comes with every chunk: the last one that says something is the whole truth.
        for text in stream.having_from_end(b'"usage"'):
            found.told = False
            if self.read(text, found) and found.told:
                break
        if found.raw_usage is None:
            for text in stream.having_from_end(b'"timings"'):
                if self.read(text, found):
                    break
        # A finish reason, where a server sends no [DONE].
        return stream.is_done() or bool(_FINISHED.search(stream.ending))

    def read(self, text: bytes, found: Found) -> bool:
        try:
            answer = _decode_answer(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        self._take(answer, found)
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        self._take(_Answer(**members), found)

    def usage(self, found: Found) -> Usage | None:
        raw = found.raw_usage or _from_timings(found.timings)
        if not raw:
            return None
        if found.plain is None:
            found.variant = TABLE.variant(raw)
        return read_usage(raw, found.provider, found.model or "", found.plain)

    def _take(self, answer: _Answer, found: Found) -> None:
        self._take_names(answer, found)
        if answer.error:
            found.failed = True
        if isinstance(answer.timings, dict):
            found.timings = answer.timings
        if (
            take_usage(answer.usage, found)
            or take_usage(_usage_of(answer.x_groq), found)
            or take_usage(_usage_of_choice(answer.choices), found)
        ):
            # A chunk without choices carries nothing but the count: whatever follows, it is the final one.
            found.final = answer.choices == _NO_CHOICES

    def _take_names(self, answer: _Answer, found: Found) -> None:
        if not found.model:
            found.model = word(answer.model)
        if not found.response_id:
            found.response_id = word(answer.id)
        if answer.service_tier:
            found.service_tier = word(answer.service_tier) or found.service_tier


class OpenAIResponses(OpenAIChat):
    """Responses: one object, or events of which the last holds the whole response."""

    cut_depth = 2

    def read_stream(self, stream: Stream, found: Found) -> bool:
        self.read_names(stream, found)
        self.read_errors(stream, found)
        for name in _QUOTED_TERMINAL:
            for text in stream.having_from_end(name):
                self.read(text, found)
                if found.final:
                    return True
        return found.final

    def _take(self, answer: _Answer, found: Found) -> None:
        event = answer.type if isinstance(answer.type, str) else ""
        if answer.response:
            try:
                response = _decode_answer(answer.response)
            except (msgspec.DecodeError, RecursionError, ValueError):
                return
            self._take_response(response, found)
            found.final = found.final or event in _TERMINAL
        else:
            self._take_response(answer, found)
            found.failed = found.failed or event == "error"

    def _take_response(self, response: _Answer, found: Found) -> None:
        self._take_names(response, found)
        found.failed = found.failed or bool(response.error) or response.status == "failed"
        if isinstance(response.status, str):
            found.pending = response.status in _UNFINISHED
        if isinstance(response.background, bool):
            found.background = response.background
        if take_usage(response.usage, found):
            found.final = True
            found.counted = count_tools(response.output)

    def usage(self, found: Found) -> Usage | None:
        usage = super().usage(found)
        if usage is None or not found.counted:
            return usage
        if usage.tool_requests:  # xAI's count of all its tools
            named = sum(found.counted.get(tool, 0) for tool in NAMED_TOOLS if getattr(usage, tool) is None)
            usage = msgspec.structs.replace(usage, tool_requests=max(0, usage.tool_requests - named))
        return found.with_counted(usage)


def take_usage(usage: object, found: Found) -> bool:
    """Keep `usage` as the latest state of a cumulative count; one of nulls and zeros says nothing."""
    if not isinstance(usage, dict):
        return False
    if (plain := plain_usage(usage)) is not None:
        kept: dict[str, Any] | None = usage
        says_something = plain.says_something()
    elif (kept := usage_object(usage)) is not None:
        says_something = any(count(value) for value in kept.values())
    else:
        return False
    if says_something or found.raw_usage is None:
        found.raw_usage, found.plain = kept, plain
    found.told = found.told or says_something
    return says_something


def _usage_of(holder: object) -> object:
    return holder.get("usage") if isinstance(holder, dict) else None


def _usage_of_choice(choices: msgspec.Raw) -> object:
    """Moonshot puts usage inside the first choice."""
    if b'"usage"' not in bytes(choices):
        return None
    try:
        return next((choice.usage for choice in _decode_choices(choices) if choice.usage), None)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def _from_timings(timings: dict[str, Any] | None) -> dict[str, Any] | None:
    """llama.cpp's `timings`, where it stands alone: what was read is what was cached plus what was not."""
    if not timings:
        return None
    prompt, cached, predicted = (count(timings.get(name)) for name in ("prompt_n", "cache_n", "predicted_n"))
    if prompt is None or predicted is None:
        return None
    usage: dict[str, Any] = {"prompt_tokens": prompt + (cached or 0), "completion_tokens": predicted}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return usage


_LAST_THAT_SAYS = "last `usage` that says something; only sent if asked for at most providers"
_CHAT, _RESPONSES = OpenAIChat(), OpenAIResponses()

DIALECTS = (
    Dialect(
        name="openai.chat",
        operation_name="chat",
        routes=(
            Route("POST", "chat/completions"),
            Route("POST", "prompts/*/completions"),  # Portkey: a stored prompt
            Route("POST", "agents/completions"),  # Mistral
            Route("POST", "v1/chat", not_at="cohere"),  # Writer
        ),
        meaning=_CHAT,
        spoken_by="OpenAI, Azure, Google, Mistral, Groq, xAI, DeepSeek, OpenRouter, vLLM, SGLang, llama.cpp, Ollama, …",
        input_total="`prompt_tokens`",
        output_total="`completion_tokens`",
        stream_usage=_LAST_THAT_SAYS,
    ),
    Dialect(
        name="openai.completions",
        operation_name="text_completion",
        routes=(Route("POST", "completions"),),
        meaning=_CHAT,
        spoken_by="OpenAI, Mistral (`fim`), vLLM, llama.cpp, Ollama, …",
        input_total="`prompt_tokens`",
        output_total="`completion_tokens`",
        stream_usage=_LAST_THAT_SAYS,
    ),
    Dialect(
        name="openai.embeddings",
        operation_name="embeddings",
        routes=(Route("POST", "embeddings"),),
        meaning=_CHAT,
        spoken_by="OpenAI, Azure, Mistral, Voyage, vLLM, …",
        input_total="`prompt_tokens`, or `total_tokens`",
    ),
    Dialect(
        name="openai.responses",
        operation_name="chat",
        routes=(Route("POST", "responses"),),
        meaning=_RESPONSES,
        spoken_by="OpenAI, Azure, xAI, OpenRouter, vLLM, …",
        input_total="`input_tokens`",
        output_total="`output_tokens`",
        stream_usage="`response.completed`, `.incomplete`, `.failed`",
        also_counts="searches, code runs, images and other tools of the provider",
        gaps="tools of a response over 288 KiB are not counted",
    ),
    Dialect(
        name="openai.responses.compact",
        operation_name="chat",
        routes=(Route("POST", "responses/compact"),),
        meaning=_RESPONSES,
        spoken_by="OpenAI",
        input_total="`input_tokens`",
        output_total="`output_tokens`",
    ),
    # A poll consumes nothing itself but may be the first to tell what a background response consumed.
    Dialect(
        name="openai.responses.retrieve",
        operation_name="chat",
        routes=(Route("GET", "responses/*"), Route("POST", "responses/*/cancel")),
        consumes=None,
        meaning=_RESPONSES,
        spoken_by="OpenAI",
        input_total="`input_tokens`",
        output_total="`output_tokens`",
        stream_usage="as `openai.responses`",
    ),
    Dialect(
        name="openai.responses.input_tokens",
        routes=(Route("POST", "responses/input_tokens"),),
        consumes=False,
        spoken_by="OpenAI",
    ),
)
