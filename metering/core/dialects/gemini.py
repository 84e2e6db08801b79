"""What answers in Google's Gemini dialects mean, from AI Studio and from Vertex.

A stream tells usage with nearly every object, and not always more than before: with tools of Google's own the last one
adds up several passes, and a count may go down. The last object that says something is taken whole.
"""

from typing import Any

import msgspec

from metering.core.dialects.counts import word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.gemini_usage import read_metadata
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.usage import Usage

_EMPTY = msgspec.Raw(b"")


class _Answer(msgspec.Struct):
    """The members of a body or chunk that metering needs."""

    usageMetadata: Any = None  # noqa: N815 - Google's name, as all below
    modelVersion: Any = None  # noqa: N815
    responseId: Any = None  # noqa: N815
    error: Any = None
    name: Any = None  # of cached content
    model: Any = None  # the same
    candidates: msgspec.Raw = _EMPTY


class _Grounding(msgspec.Struct):
    webSearchQueries: list[str] = []  # noqa: N815


class _Candidate(msgspec.Struct):
    groundingMetadata: _Grounding | None = None  # noqa: N815


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_candidates = msgspec.json.Decoder(list[_Candidate]).decode
_FINISHED = (b'"finishReason"', b'"blockReason"')
_RAW_MEMBERS = frozenset({"candidates"})


class Gemini(Meaning):
    """Content and embeddings: one object, or chunks."""

    members = tuple(name for name in _Answer.__struct_fields__ if name not in _RAW_MEMBERS)

    def read_stream(self, stream: Stream, found: Found) -> bool:
        self.read_names(stream, found)
        self.read_errors(stream, found)
        for text in stream.having(b'"webSearchQueries"'):
            self.read(text, found)
        telling = next((text for text in stream.having_from_end(b'"usageMetadata"') if self._tells(text, found)), b"")
        if any(name in telling for name in _FINISHED):
            return True
        return any(self.read(text, Found(found.provider)) for text in stream.having_from_end(_FINISHED[0]))

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
        usage = found.plain.usage() if found.plain else None
        if usage is not None and found.searched:
            return msgspec.structs.replace(usage, web_search_requests=len(found.searched))
        return usage

    def _take(self, answer: _Answer, found: Found) -> None:
        if answer.error:
            found.failed = True
        if not found.model:
            found.model = word(answer.modelVersion)
        if not found.response_id:
            found.response_id = word(answer.responseId)
        if isinstance(answer.usageMetadata, dict):
            self._take_usage(answer.usageMetadata, found)
        if b'"webSearchQueries"' in bytes(answer.candidates):
            self._take_searches(answer.candidates, found)

    def _take_usage(self, told: dict[str, Any], found: Found) -> None:
        """Keep the latest usage that has a count."""
        metadata, raw = read_metadata(told)
        if metadata.says_something():
            found.plain, found.raw_usage, found.told = metadata, raw, True
            found.service_tier = metadata.tier

    def _tells(self, text: bytes, found: Found) -> bool:
        found.told = False
        return self.read(text, found) and found.told

    def _take_searches(self, candidates: msgspec.Raw, found: Found) -> None:
        """What was searched for on Google's side: it is billed and stands in no usage object.

        Several chunks may tell the same queries.
        """
        try:
            grounded = [candidate.groundingMetadata for candidate in _decode_candidates(candidates)]
        except (msgspec.DecodeError, RecursionError, ValueError):
            return
        queries = (query for grounding in grounded if grounding for query in grounding.webSearchQueries if query)
        found.searched = found.searched.union(queries)


class ModelInPath(RequestMeaning):
    """The path names the model; a body may name it again, as a resource."""

    members = ("model",)

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        return self.facts(operation.model or base_name(members.get("model")), None, operation, whole=whole)


class CachedContent(Gemini):
    """Content that is kept to be read again: what is written is its tokens."""

    def usage(self, found: Found) -> Usage | None:
        usage = super().usage(found)
        if usage is None:
            return None
        return Usage(input_tokens=usage.input_tokens, cache_write_input_tokens=usage.input_tokens)

    def _take(self, answer: _Answer, found: Found) -> None:
        super()._take(answer, found)
        found.model, found.response_id = base_name(answer.model), word(answer.name)


def base_name(model: object) -> str | None:
    """`models/gemini-2.5-flash` or a whole resource name → the model's own."""
    name = word(model)
    return name.rpartition("/")[2] or None if name else None


_GEMINI, _REQUEST = Gemini(), ModelInPath()
_READ, _WRITTEN = "`promptTokenCount` + `toolUsePromptTokenCount`", "`candidatesTokenCount` + `thoughtsTokenCount`"
_SPEAKERS = "AI Studio, Vertex"

DIALECTS = (
    Dialect(
        name="gemini.generate",
        operation_name="generate_content",
        routes=(Route("POST", "{model}:generateContent"),),
        meaning=_GEMINI,
        request=_REQUEST,
        spoken_by=_SPEAKERS,
        input_total=_READ,
        output_total=_WRITTEN,
        also_counts="web searches",
    ),
    Dialect(
        name="gemini.stream_generate",
        operation_name="generate_content",
        routes=(Route("POST", "{model}:streamGenerateContent"),),
        meaning=_GEMINI,
        request=ModelInPath(streamed=True),
        streams=True,
        spoken_by=_SPEAKERS,
        input_total=_READ,
        output_total=_WRITTEN,
        stream_usage="the last object that says something, whole: SSE, or a JSON array sent piece by piece",
        also_counts="web searches",
    ),
    Dialect(
        name="gemini.embed",
        operation_name="embeddings",
        routes=(Route("POST", "{model}:embedContent"), Route("POST", "{model}:batchEmbedContents")),
        meaning=_GEMINI,
        request=_REQUEST,
        spoken_by=_SPEAKERS,
        input_total="`promptTokenCount`",
        gaps="models before gemini-embedding-2 tell nothing",
    ),
    Dialect(
        name="gemini.cached_contents",
        routes=(Route("POST", "cachedContents"),),
        meaning=CachedContent(),
        request=_REQUEST,
        spoken_by=_SPEAKERS,
        input_total="`totalTokenCount`, all of it written to the cache",
        gaps="storage by the hour is not counted",
    ),
    Dialect(
        name="gemini.count_tokens",
        routes=(Route("POST", "{model}:countTokens"), Route("POST", "{model}:computeTokens")),
        consumes=False,
        spoken_by=_SPEAKERS,
    ),
    # Files, cached content and operations looked at or cancelled: no model runs.
    Dialect(
        name="gemini.files",
        routes=(
            Route("POST", "upload/v1beta/files"),
            *(Route("GET", f"v1beta/{what}") for what in ("files", "files/*", "batches", "cachedContents")),
            *(Route("GET", path) for path in ("operations/*", "cachedContents/*")),
            *(Route("POST", f"{{model}}:{verb}") for verb in ("cancel", "fetchPredictOperation")),
            Route("PATCH", "cachedContents/*"),
        ),
        consumes=False,
        spoken_by=_SPEAKERS,
    ),
)
