"""What watsonx.ai's answers mean: counts stand with each result; a stream's input in the first, output in all."""

from typing import Any

import msgspec

from metering.core.dialects.counts import count, word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import NAMING_FRAMES_MAX, Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.openai import OpenAIChat
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.dialects.told import Layout, Told
from metering.core.usage import Usage

UNFINISHED = "not_finished"


class _Result(msgspec.Struct):
    input_token_count: Any = None
    generated_token_count: Any = None
    stop_reason: Any = None


class _Answer(msgspec.Struct):
    model_id: Any = None
    id: Any = None
    errors: Any = None
    results: Any = None


_decode = msgspec.json.Decoder(_Answer).decode
_COUNTS = ("input_token_count", "generated_token_count")


class WatsonxText(Meaning):
    """Text generation. Each frame tells what was generated so far; the larger count is the later one."""

    members = _Answer.__struct_fields__

    def read(self, text: bytes, found: Found) -> bool:
        try:
            self._take(_decode(text), found)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        self._take(_Answer(**members), found)

    def read_stream(self, stream: Stream, found: Found) -> bool:
        for text in stream.first(NAMING_FRAMES_MAX):
            self.read(text, found)
        self.read_errors(stream, found)
        for text in stream.having_from_end(b'"generated_token_count"'):
            if self.read(text, found):
                break
        return found.final

    def usage(self, found: Found) -> Usage | None:
        if found.raw_usage is None:
            return None
        read, written = (count(found.raw_usage.get(name)) for name in _COUNTS)
        return Usage(input_tokens=read, output_tokens=written)

    def _take(self, answer: _Answer, found: Found) -> None:
        found.model = word(answer.model_id) or found.model
        found.response_id = word(answer.id) or found.response_id
        found.failed = found.failed or bool(answer.errors)
        results = answer.results if isinstance(answer.results, list) else []
        told = [msgspec.convert(result, _Result) for result in results if isinstance(result, dict)]
        found.final = found.final or any(isinstance(r.stop_reason, str) and r.stop_reason != UNFINISHED for r in told)
        kept = found.raw_usage or {}
        for name in _COUNTS:
            counts = [quantity for each in told if (quantity := count(getattr(each, name))) is not None]
            if counts:
                kept[name] = max(sum(counts), kept.get(name, 0))
        found.raw_usage = kept or None


class _WatsonxRequest(RequestMeaning):
    """It calls the model `model_id`; the path says whether it streams, and so does the answer."""

    members = ("model_id",)

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:  # noqa: ARG002 - no stream to look for
        return RequestFacts(word(members.get("model_id")) or operation.model, None)


_TEXT, _CHAT = WatsonxText(), OpenAIChat()
_EMBED = Told(
    Layout(places={"input_tokens": (("input_token_count",),)}, holds=("input_token_count",), model="model_id")
)
_REQUEST = _WatsonxRequest()
_UNSEEN = "by its documents, no recorded answer"

DIALECTS = (
    Dialect(
        name="watsonx.generate",
        operation_name="text_completion",
        routes=tuple(
            Route("POST", path)
            for path in ("text/generation", "text/generation_stream", "generation/text", "generation/text_stream")
        ),
        meaning=_TEXT,
        request=_REQUEST,
        spoken_by="IBM watsonx",
        input_total="`results[].input_token_count`",
        output_total="`results[].generated_token_count`",
        stream_usage="each event: the largest counts",
    ),
    Dialect(
        name="watsonx.chat",
        operation_name="chat",
        routes=(Route("POST", "text/chat"), Route("POST", "text/chat_stream")),
        meaning=_CHAT,
        request=_REQUEST,
        spoken_by="IBM watsonx",
        input_total="`usage.prompt_tokens`",
        output_total="`usage.completion_tokens`",
        stream_usage="last `usage`",
        gaps=_UNSEEN,
    ),
    Dialect(
        name="watsonx.embeddings",
        operation_name="embeddings",
        routes=(Route("POST", "text/embeddings"), Route("POST", "text/rerank")),
        meaning=_EMBED,
        request=_REQUEST,
        spoken_by="IBM watsonx",
        input_total="`input_token_count`",
        gaps=_UNSEEN,
    ),
)
