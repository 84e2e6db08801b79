"""Usage objects as most answers have them: the known members, whole numbers in all of them.

Walking a usage object to be sure that it holds no text, and asking each member what it means, took half the time of
reading an answer. A typed struct that forbids unknown members settles both in one call of the decoder: what converts
holds counts and nothing else, so the provider's own object may be kept as it is. What does not convert (a price, a
text, a member of one provider, a count that is none) is no error: the general way reads it, and where both ways can
read an object they say the same.
"""

from typing import Annotated, Any, Literal, Protocol

import msgspec

from metering.core.dialects.counts import COUNT_MAX
from metering.core.usage import Usage

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class Plain(Protocol):
    """A usage object that is known to hold counts only."""

    def usage(self) -> Usage | None:
        """The `Usage`; None if there is none, or (OpenAI) a total that the members do not explain."""


class _Read(msgspec.Struct, forbid_unknown_fields=True):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    video_tokens: Count | None = None
    text_tokens: Count | None = None


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    text_tokens: Count | None = None
    accepted_prediction_tokens: Count | None = None
    rejected_prediction_tokens: Count | None = None


_NOTHING_READ, _NOTHING_WRITTEN = _Read(), _Written()


class PlainChat(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's chat, completions and embeddings."""

    prompt_tokens: Count
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _Read | None = None
    completion_tokens_details: _Written | None = None

    def says_something(self) -> bool:
        """Whether a total is more than zero."""
        return bool(self.prompt_tokens or self.completion_tokens or self.total_tokens)

    def usage(self) -> Usage | None:
        """The `Usage`, or None if the total has more than both sides and must be explained."""
        read, written = self.prompt_tokens, self.completion_tokens
        if (self.total_tokens or 0) > read + (written or 0):
            return None
        return _usage(read, written, self.prompt_tokens_details, self.completion_tokens_details)


class PlainResponse(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's responses."""

    input_tokens: Count
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    input_tokens_details: _Read | None = None
    output_tokens_details: _Written | None = None

    def says_something(self) -> bool:
        """Whether a total is more than zero."""
        return bool(self.input_tokens or self.output_tokens or self.total_tokens)

    def usage(self) -> Usage | None:
        """The `Usage`, or None if the total has more than both sides and must be explained."""
        read, written = self.input_tokens, self.output_tokens
        if (self.total_tokens or 0) > read + (written or 0):
            return None
        return _usage(read, written, self.input_tokens_details, self.output_tokens_details)


# An object with more members than the largest of the two is not tried: a conversion that fails costs twice its time.
PLAIN_MEMBERS_MAX = 5


def _usage(read: int, written: int | None, inside: _Read | None, outside: _Written | None) -> Usage:
    inside, outside = inside or _NOTHING_READ, outside or _NOTHING_WRITTEN
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cache_read_input_tokens=inside.cached_tokens,
        cache_write_input_tokens=inside.cache_write_tokens,
        audio_input_tokens=inside.audio_tokens,
        image_input_tokens=inside.image_tokens,
        video_input_tokens=inside.video_tokens,
        reasoning_output_tokens=outside.reasoning_tokens,
        audio_output_tokens=outside.audio_tokens,
        image_output_tokens=outside.image_tokens,
        accepted_prediction_output_tokens=outside.accepted_prediction_tokens,
        rejected_prediction_output_tokens=outside.rejected_prediction_tokens,
    )


def plain_usage(usage: dict[str, Any]) -> PlainChat | PlainResponse | None:
    """An OpenAI usage object, if it is a plain one."""
    if len(usage) > PLAIN_MEMBERS_MAX:
        return None
    try:
        if "prompt_tokens" in usage:
            return msgspec.convert(usage, PlainChat)
        if "input_tokens" in usage:
            return msgspec.convert(usage, PlainResponse)
    except msgspec.ValidationError:
        pass
    return None


class _CacheCreation(msgspec.Struct, forbid_unknown_fields=True):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class _ServerToolUse(msgspec.Struct, forbid_unknown_fields=True):
    web_search_requests: Count | None = None
    web_fetch_requests: Count | None = None
    code_execution_requests: Count | None = None


class _Thought(msgspec.Struct, forbid_unknown_fields=True):
    thinking_tokens: Count | None = None


_NO_CREATION, _NO_TOOL_USE, _NO_THOUGHT = _CacheCreation(), _ServerToolUse(), _Thought()


class PlainMessage(msgspec.Struct, forbid_unknown_fields=True):
    """Anthropic's messages. Its words are listed: another one may be anything, so it goes the general way."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerToolUse | None = None
    output_tokens_details: _Thought | None = None
    service_tier: Literal["standard", "priority", "batch"] | None = None
    inference_geo: Literal["global", "us", "not_available"] | None = None

    def usage(self) -> Usage | None:
        """The `Usage`; None if nothing but zeros and nulls stands for what was read, and nothing for the rest."""
        creation, tools = self.cache_creation or _NO_CREATION, self.server_tool_use or _NO_TOOL_USE
        write, read = self.cache_creation_input_tokens, self.cache_read_input_tokens
        if write is None and self.cache_creation is not None:
            write = (creation.ephemeral_5m_input_tokens or 0) + (creation.ephemeral_1h_input_tokens or 0)
        uncached, written = self.input_tokens, self.output_tokens
        if uncached is None and written is None and not read and not write:
            return None
        told = not (uncached is None and read is None and write is None)
        return Usage(
            input_tokens=(uncached or 0) + (read or 0) + (write or 0) if told else None,
            output_tokens=written,
            cache_read_input_tokens=read,
            cache_write_input_tokens=write,
            cache_write_5m_input_tokens=creation.ephemeral_5m_input_tokens,
            cache_write_1h_input_tokens=creation.ephemeral_1h_input_tokens,
            reasoning_output_tokens=(self.output_tokens_details or _NO_THOUGHT).thinking_tokens,
            web_search_requests=tools.web_search_requests,
            web_fetch_requests=tools.web_fetch_requests,
            code_execution_requests=tools.code_execution_requests,
        )


def plain_message(usage: dict[str, Any]) -> PlainMessage | None:
    """An Anthropic usage object, if it is a plain one."""
    try:
        return msgspec.convert(usage, PlainMessage) if usage else None
    except msgspec.ValidationError:
        return None
