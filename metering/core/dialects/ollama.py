"""What answers in Ollama's own dialect mean: the last object, `done: true`, carries the counts.

The counts are members of the answer itself. `prompt_eval_count` is missing when the whole prompt was cached:
then what was read is not known, and the reading says so.
"""

from typing import Any

import msgspec

from metering.core.dialects.counts import are_counts, count, usage_object, word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.usage import Usage

# What makes up Ollama's "usage object": counts, and durations in nanoseconds.
USAGE_MEMBERS = (
    "prompt_eval_count",
    "prompt_eval_cached_count",
    "eval_count",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
)
# https://docs.ollama.com/api: an empty prompt only loads or unloads the model.
IDLE_REASONS = frozenset({"load", "unload"})


class _Answer(msgspec.Struct):
    model: Any = None
    done: Any = None
    done_reason: Any = None
    error: Any = None
    prompt_eval_count: Any = None
    prompt_eval_cached_count: Any = None
    eval_count: Any = None
    total_duration: Any = None
    load_duration: Any = None
    prompt_eval_duration: Any = None
    eval_duration: Any = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class Ollama(Meaning):
    """Chat, generate and embed."""

    members = _Answer.__struct_fields__

    def __init__(self, *, writes: bool) -> None:
        self._writes = writes  # chat and generate write; embeddings only read

    def read_stream(self, stream: Stream, found: Found) -> bool:
        for text in stream.first(1):
            self.read(text, found)
        self.read_errors(stream, found)
        for text in stream.last():
            self.read(text, found)
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
        read, written = count(raw.get("prompt_eval_count")), count(raw.get("eval_count"))
        if read is None and written is None:
            return None
        found.partial = read is None or (self._writes and written is None)
        cached = count(raw.get("prompt_eval_cached_count"))
        return Usage(input_tokens=read, output_tokens=written, cache_read_input_tokens=cached)

    def _take(self, answer: _Answer, found: Found) -> None:
        found.model = word(answer.model) or found.model
        found.failed = found.failed or bool(answer.error)
        found.final = found.final or answer.done is True
        if isinstance(answer.done_reason, str):
            found.idle = found.idle or answer.done_reason in IDLE_REASONS
        if answer.done is not False:
            members = {name: value for name in USAGE_MEMBERS if (value := getattr(answer, name)) is not None}
            if members:
                found.raw_usage = members if are_counts(members.values()) else usage_object(members)


_WRITING, _EMBEDDING = Ollama(writes=True), Ollama(writes=False)
_STREAMED_UNLESS_TOLD = RequestMeaning(streamed=True)  # https://docs.ollama.com/api

DIALECTS = (
    Dialect(
        name="ollama.chat",
        operation_name="chat",
        routes=(Route("POST", "api/chat"),),
        meaning=_WRITING,
        request=_STREAMED_UNLESS_TOLD,
        spoken_by="Ollama",
        input_total="`prompt_eval_count`",
        output_total="`eval_count`",
        stream_usage="the last line, `done: true`",
    ),
    Dialect(
        name="ollama.generate",
        operation_name="text_completion",
        routes=(Route("POST", "api/generate"),),
        meaning=_WRITING,
        request=_STREAMED_UNLESS_TOLD,
        spoken_by="Ollama",
        input_total="`prompt_eval_count`",
        output_total="`eval_count`",
        stream_usage="the last line, `done: true`",
    ),
    Dialect(
        name="ollama.embed",
        operation_name="embeddings",
        routes=(Route("POST", "api/embed"),),
        meaning=_EMBEDDING,
        spoken_by="Ollama",
        input_total="`prompt_eval_count`",
    ),
    Dialect(
        name="ollama.embeddings",
        operation_name="embeddings",
        routes=(Route("POST", "api/embeddings"),),
        meaning=_EMBEDDING,
        spoken_by="Ollama",
        input_total="never told",
    ),
)
