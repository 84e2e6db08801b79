"""What Bedrock's `InvokeModel` answers mean: each family of models has a body of its own.

Where the body is silent the headers tell, and of a stream the metrics in its last frame. Where both do, the body goes
first: for Claude with tools the metrics have seen to leave out a part of what was written.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from metering.core.dialects import anthropic, bedrock, quirks
from metering.core.dialects.bedrock import TIER_HEADERS, InPath, read_headers
from metering.core.dialects.counts import COUNT_MAX, count, later_wins, usage_object, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.plain import plain_message
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.usage import Usage

_EMPTY = msgspec.Raw(b"")
METRICS, ACTION = "amazon-bedrock-invocationMetrics", "amazon-bedrock-guardrailAction"
# Header → member of the metrics.
_COUNT_HEADERS = {
    "x-amzn-bedrock-input-token-count": "inputTokenCount",
    "x-amzn-bedrock-output-token-count": "outputTokenCount",
    "x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokenCount",
    "x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokenCount",
}
# Claude ends with `message_delta` and `message_stop`; all others say all with the last frame.
_ENDING_FRAMES = 2
# Counts that are members of the body itself: Titan's, Llama's.
_OWN_COUNTS = (
    "inputTextTokenCount",
    "totalOutputTextTokenCount",
    "prompt_token_count",
    "generation_token_count",
)


class _Result(msgspec.Struct):
    tokenCount: Any = None  # noqa: N815 - Amazon's name


class _Metadata(msgspec.Struct):
    usage: Any = None


class _Answer(msgspec.Struct):
    """The members of a body, or of a stream's frame, that metering needs."""

    id: Any = None
    model: Any = None
    type: Any = None
    usage: Any = None
    error: Any = None
    inputTextTokenCount: Any = None  # noqa: N815
    totalOutputTextTokenCount: Any = None  # noqa: N815
    prompt_token_count: Any = None
    generation_token_count: Any = None
    metrics: Any = msgspec.field(default=None, name=METRICS)
    action: Any = msgspec.field(default=None, name=ACTION)
    message: msgspec.Raw = _EMPTY  # Claude's, when it begins
    metadata: msgspec.Raw = _EMPTY  # Nova's, at the end
    results: msgspec.Raw = _EMPTY  # Titan's
    images: msgspec.Raw = _EMPTY
    artifacts: msgspec.Raw = _EMPTY


class _Chunk(msgspec.Struct):
    bytes: bytes  # base64


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode
_decode_results = msgspec.json.Decoder(list[_Result]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class Invoke(Meaning):
    """A body of any family, or frames that carry one each."""

    headers = (*TIER_HEADERS, *_COUNT_HEADERS)
    members = ("id", "model", "type", "usage", "error", *_OWN_COUNTS, METRICS, ACTION)

    def read_stream(self, stream: Stream, found: Found) -> bool:
        last = []
        for text in stream.having_from_end(b'"bytes"'):
            last.append(text)
            if len(last) == _ENDING_FRAMES:
                break
        for text in (*stream.first(1), *reversed(last)):
            try:
                self.read(_decode_chunk(text).bytes, found)
            except msgspec.DecodeError:
                continue
        return found.final

    def read(self, text: bytes, found: Found) -> bool:
        try:
            answer = _decode_answer(text)
            self._take(answer, found)
            if answer.type == "message_start" and answer.message:
                self._take(_decode_answer(answer.message), found)
            if answer.metadata:
                _take_counts(_decode_metadata(answer.metadata).usage, found)
            if answer.results:
                written = sum(count(result.tokenCount) or 0 for result in _decode_results(answer.results))
                found.raw_usage = {**(found.raw_usage or {}), "totalOutputTextTokenCount": min(written, COUNT_MAX)}
            if images := sum(len(_decode_items(each)) for each in (answer.images, answer.artifacts) if each):
                found.count("output_images", images)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        renamed = {"metrics": members.pop(METRICS, None), "action": members.pop(ACTION, None)}
        self._take(_Answer(**members, **renamed), found)

    def usage(self, found: Found) -> Usage | None:
        raw = found.raw_usage or {}
        usage = None if found.blocked else read_body(raw, found)
        if usage is None:
            usage = _from_metrics(raw.get(METRICS))
        if usage is None:
            usage = self._usage_of_headers(found)
        usage = found.with_counted(usage)
        found.idle = usage is None and found.blocked
        read_headers(found)
        return usage

    def _usage_of_headers(self, found: Found) -> Usage | None:
        told = {name: found.headers.get(header, "") for header, name in _COUNT_HEADERS.items()}
        metrics = {
            name: int(text) for name, text in told.items() if text.isdecimal() and len(text) < len(str(COUNT_MAX))
        }
        usage = _from_metrics(metrics)
        if usage is not None:
            found.from_headers, found.raw_usage = True, {METRICS: metrics}
        return usage

    def _take(self, answer: _Answer, found: Found) -> None:
        found.failed = found.failed or bool(answer.error) or answer.type == "error"
        found.model = found.model or word(answer.model)
        found.blocked = found.blocked or answer.action == "INTERVENED"
        if answer.id is not None:
            found.response_id = word(answer.id) or found.response_id
        _take_counts(answer.usage, found)
        for name in _OWN_COUNTS:
            if (told := count(getattr(answer, name))) is not None:
                found.raw_usage = {**(found.raw_usage or {}), name: told}
        if answer.metrics is not None:
            _take_counts({METRICS: answer.metrics}, found)
        found.final = found.final or answer.type == "message_stop" or isinstance(answer.metrics, dict)


def read_body(raw: Mapping[str, Any], found: Found) -> Usage | None:
    """The `Usage` in what the body told, by the names it uses; None if it told nothing."""
    told = {name: value for name, value in raw.items() if name != METRICS}
    if "prompt_tokens" in told or "completion_tokens" in told:  # OpenAI, Mistral, AI21, Qwen, imported models, …
        return quirks.read_usage(told, found.provider, found.model or "")
    if "inputTokens" in told or "outputTokens" in told:  # Nova
        return bedrock.read_usage(told, found.asked or "")
    if "input_tokens" in told or "output_tokens" in told:  # Claude
        found.service_tier = word(told.get("service_tier")) or found.service_tier
        return anthropic.read_any(told)
    read = count(told.get("prompt_token_count", told.get("inputTextTokenCount")))
    written = count(told.get("generation_token_count", told.get("totalOutputTextTokenCount")))
    return None if read is None and written is None else Usage(input_tokens=read, output_tokens=written)


def _from_metrics(metrics: object) -> Usage | None:
    """The cache is not in the input."""
    if not isinstance(metrics, dict):
        return None
    names = ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")
    read, written, cache_read, cache_write = (count(metrics.get(name)) for name in names)
    if read is None and written is None:
        return None
    return Usage(
        input_tokens=None if read is None else read + (cache_read or 0) + (cache_write or 0),
        output_tokens=written,
        cache_read_input_tokens=cache_read,
        cache_write_input_tokens=cache_write,
    )


def _take_counts(told: object, found: Found) -> None:
    """Merge what a frame tells; the later one wins where it says something."""
    if not isinstance(told, dict):
        return
    kept = told if plain_message(told) is not None else usage_object(told)
    if kept:
        found.raw_usage = later_wins(found.raw_usage or {}, kept)


class PictureRequest(InPath):
    """How many pictures a request asks for, how large, of what quality and in how many steps."""

    members = ("taskType", "imageGenerationConfig", "text_prompts", "samples", "width", "height", "steps")

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        facts = super().read(members, operation, whole=whole)
        model = operation.model or ""
        asked = members.get("imageGenerationConfig")
        if isinstance(asked, dict) or any(name in model for name in _AMAZON_PICTURES):
            asked = asked if isinstance(asked, dict) else {}
            width, height = (count(asked.get(side)) or _SIDE for side in ("width", "height"))
            images = count(asked.get("numberOfImages")) or 1
            variant: str | None = f"{width}x{height} {word(asked.get('quality')) or 'standard'}"
        elif "text_prompts" in members or "stability." in model:
            images = count(members.get("samples")) or 1
            size, steps = [count(members.get(side)) for side in ("width", "height")], count(members.get("steps"))
            words = ["{}x{}".format(*size) if all(size) else "", f"{steps} steps" if steps else ""]
            variant = " ".join(filter(None, words)) or None
        else:
            return facts
        return msgspec.structs.replace(facts, counts=Usage(output_images=images), variant=variant)


class AsyncRequest(InPath):
    """How many seconds of film a request asks for, and of what size."""

    members = ("modelId", "modelInput")

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        asked = members.get("modelInput")
        asked = asked if isinstance(asked, dict) else {}
        film = asked.get("videoGenerationConfig")
        if isinstance(film, dict):  # Nova Reel
            seconds, variant = film.get("durationSeconds", _REEL_SECONDS), word(film.get("dimension"))
        else:  # Luma: "5s"
            seconds, variant = str(asked.get("duration", "")).removesuffix("s"), word(asked.get("resolution"))
            seconds = int(seconds) if seconds.isdecimal() and len(seconds) < _SECONDS_DIGITS_MAX else None
        facts = super().read(members, operation, whole=whole)
        facts = msgspec.structs.replace(facts, model=word(members.get("modelId")))
        if not (told := count(seconds)) or told >= 10**_SECONDS_DIGITS_MAX:
            return facts
        return msgspec.structs.replace(facts, counts=Usage(video_output_ms=told * 1000), variant=variant)


_AMAZON_PICTURES = ("titan-image", "nova-canvas")
# https://docs.aws.amazon.com/nova/latest/userguide: where a request doesn't say.
_SIDE, _REEL_SECONDS, _SECONDS_DIGITS_MAX = 1024, 6, 5
_READ = "by family: `usage`, `inputTextTokenCount`, `prompt_token_count`, else header"
_WRITTEN = "by family: `usage`, `tokenCount`, `generation_token_count`, else header"
_INVOKE = Invoke()

DIALECTS = (
    Dialect(
        name="bedrock.invoke",
        operation_name="text_completion",
        routes=(Route("POST", "model/{model}/invoke"),),
        meaning=_INVOKE,
        request=PictureRequest(),
        spoken_by="Amazon Bedrock",
        input_total=_READ,
        output_total=_WRITTEN,
        also_counts="pictures with size, quality and steps",
        gaps="pictures and seconds that embeddings read",
    ),
    Dialect(
        name="bedrock.invoke_stream",
        operation_name="text_completion",
        routes=(Route("POST", "model/{model}/invoke-with-response-stream"),),
        meaning=_INVOKE,
        request=InPath(),
        streams=True,
        spoken_by="Amazon Bedrock",
        input_total=_READ.replace("header", "`invocationMetrics`"),
        output_total=_WRITTEN.replace("header", "`invocationMetrics`"),
        stream_usage="the last frames; Claude's first one too",
    ),
    Dialect(
        name="bedrock.async_invoke",
        operation_name="video_generation",
        routes=(Route("POST", "async-invoke"),),
        meaning=_INVOKE,
        request=AsyncRequest(),
        spoken_by="Amazon Bedrock",
        also_counts="seconds of film, as the request asks for them",
        gaps="a film that fails later is counted; embeddings of films and sound tell nothing",
    ),
    Dialect(
        name="bedrock.async_invoke.retrieve",
        routes=(Route("GET", "async-invoke"), Route("GET", "async-invoke/*")),
        consumes=False,
        spoken_by="Amazon Bedrock",
    ),
)
