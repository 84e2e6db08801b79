"""What answers of Amazon Bedrock mean: converse, and what is common to all of its interfaces.

No answer names its model, and few their own id: the path and the headers do. What was read from a cache and what was
written to one stand beside the input.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from metering.core.dialects.counts import count, usage_object, word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.usage import Usage

REQUEST_ID = "x-amzn-requestid"
_LATENCY, _TIER = "x-amzn-bedrock-performanceconfig-latency", "x-amzn-bedrock-service-tier"
TIER_HEADERS = (REQUEST_ID, _LATENCY, _TIER)
OPTIMIZED, PROVISIONED = "optimized", "provisioned"
_LIFETIMES = {"5m": "cache_write_5m_input_tokens", "1h": "cache_write_1h_input_tokens"}
# What of a guardrail is free: words that are listed, and what AWS calls so. https://aws.amazon.com/bedrock/pricing/
_UNBILLED_UNITS = frozenset({"wordPolicyUnits", "sensitiveInformationPolicyFreeUnits"})


class _Performance(msgspec.Struct):
    latency: Any = None


class _Tier(msgspec.Struct):
    type: Any = None


class _Answer(msgspec.Struct):
    """The members of an answer, or of a stream's `metadata`, that metering needs."""

    usage: Any = None
    performanceConfig: _Performance | None = None  # noqa: N815 - Amazon's name, as the next
    serviceTier: _Tier | None = None  # noqa: N815


_decode_answer = msgspec.json.Decoder(_Answer).decode


class Converse(Meaning):
    """A conversation: one object, or a stream whose last frame has its usage."""

    headers = TIER_HEADERS
    members = ("usage",)

    def read_stream(self, stream: Stream, found: Found) -> bool:
        return any(self.read(text, found) and found.raw_usage for text in stream.having_from_end(b'"usage"'))

    def read(self, text: bytes, found: Found) -> bool:
        try:
            answer = _decode_answer(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        found.raw_usage = usage_object(answer.usage)
        if answer.performanceConfig and answer.performanceConfig.latency == OPTIMIZED:
            found.service_tier = OPTIMIZED
        elif answer.serviceTier:
            found.service_tier = word(answer.serviceTier.type)
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        found.raw_usage = usage_object(members.get("usage")) or found.raw_usage

    def usage(self, found: Found) -> Usage | None:
        read_headers(found)
        return read_usage(found.raw_usage, found.asked or "") if found.raw_usage else None


def read_headers(found: Found) -> None:
    """What the headers tell that the body left out. Throughput that is bought by the hour is a tier of its own."""
    told = found.headers
    found.response_id = found.response_id or word(told.get(REQUEST_ID))
    if found.service_tier is None:
        tier = OPTIMIZED if told.get(_LATENCY) == OPTIMIZED else word(told.get(_TIER))
        found.service_tier = tier or (PROVISIONED if ":provisioned-model/" in (found.asked or "") else None)


def read_usage(raw: Mapping[str, Any], model: str) -> Usage | None:
    """The `Usage` in a `TokenUsage`, as converse and Nova send it; None if no total is told.

    For OpenAI's models the input has the cache in it, and their total counts it twice.
    """
    read, written = count(raw.get("inputTokens")), count(raw.get("outputTokens"))
    cache_read = _first(raw, "cacheReadInputTokens", "cacheReadInputTokenCount")
    cache_write = _first(raw, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    if read is None and written is None:
        return None
    cached = (cache_read or 0) + (cache_write or 0)
    includes = "openai." in model and cached <= (read or 0)
    lifetimes: dict[str, int] = {}
    details = raw.get("cacheDetails")
    for entry in details if isinstance(details, list) else ():
        if isinstance(entry, dict) and (field := _LIFETIMES.get(str(entry.get("ttl")))):
            lifetimes[field] = lifetimes.get(field, 0) + (count(entry.get("inputTokens")) or 0)
    return Usage(
        input_tokens=read if read is None or includes else read + cached,
        output_tokens=written,
        cache_read_input_tokens=cache_read,
        cache_write_input_tokens=cache_write,
        **lifetimes,
    )


def _first(raw: Mapping[str, Any], *names: str) -> int | None:
    return next((told for name in names if (told := count(raw.get(name))) is not None), None)


class Guardrail(Meaning):
    """A guardrail asked for by itself: units of each of its policies."""

    headers = (REQUEST_ID,)
    members = ("usage",)

    def read_stream(self, stream: Stream, found: Found) -> bool:
        return all(self.read(text, found) for text in stream.first(1))  # it never streams

    def read(self, text: bytes, found: Found) -> bool:
        try:
            answer = _decode_answer(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        self.read_members({"usage": answer.usage}, found)
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        found.raw_usage = usage_object(members.get("usage")) or found.raw_usage

    def usage(self, found: Found) -> Usage | None:
        read_headers(found)
        units = {name: count(told) for name, told in (found.raw_usage or {}).items() if name.endswith("Units")}
        if not units:
            return None
        return Usage(guardrail_units=sum(told or 0 for name, told in units.items() if name not in _UNBILLED_UNITS))


class InPath(RequestMeaning):
    """The path names the model, and says whether to stream."""

    members: tuple[str, ...] = ()

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:  # noqa: ARG002
        return RequestFacts(operation.model, operation.streams)


_CONVERSE, _IN_PATH = Converse(), InPath()
_READ = "`inputTokens` + cache read + cache written; at OpenAI's models `inputTokens`"

DIALECTS = (
    Dialect(
        name="bedrock.converse",
        operation_name="chat",
        routes=(Route("POST", "model/{model}/converse"),),
        meaning=_CONVERSE,
        request=_IN_PATH,
        spoken_by="Amazon Bedrock",
        input_total=_READ,
        output_total="`outputTokens`",
        gaps="units of guardrails in the conversation are not counted",
    ),
    Dialect(
        name="bedrock.converse_stream",
        operation_name="chat",
        routes=(Route("POST", "model/{model}/converse-stream"),),
        meaning=_CONVERSE,
        request=_IN_PATH,
        streams=True,
        spoken_by="Amazon Bedrock",
        input_total=_READ,
        output_total="`outputTokens`",
        stream_usage="the last frame, `metadata`",
        gaps="a stream that breaks off tells nothing; units of guardrails are not counted",
    ),
    Dialect(
        name="bedrock.guardrail",
        operation_name="guardrail",
        routes=(Route("POST", "guardrail/*/version/*/apply"),),
        meaning=Guardrail(),
        request=_IN_PATH,
        spoken_by="Amazon Bedrock",
        also_counts="units of all policies that are billed; each policy's stand in `raw_usage`",
    ),
    Dialect(
        name="bedrock.count_tokens",
        routes=(Route("POST", "model/{model}/count-tokens"),),
        consumes=False,
        spoken_by="Amazon Bedrock",
    ),
)
