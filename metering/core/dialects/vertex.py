"""What answers of Vertex's `predict` mean: embeddings, pictures, and what other models at an endpoint say.

Pictures and films are paid by the piece or the second: what the request asks for decides, where the answer is silent.
"""

from typing import Any

import msgspec

from metering.core.dialects.counts import count, first_count, usage_object, word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.gemini import Gemini
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.usage import Usage

_EMPTY = msgspec.Raw(b"")
# https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference: where a request doesn't say.
IMAGES_UNLESS_TOLD, FILM_SECONDS_UNLESS_TOLD, FILM_SECONDS_MAX = 4, 8, 3600
_PICTURE_MODELS = ("imagen", "imagegeneration")


class _Statistics(msgspec.Struct):
    token_count: Any = None


class _Embeddings(msgspec.Struct):
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct):
    embeddings: _Embeddings | None = None
    mimeType: Any = None  # noqa: N815 - Google's name


class _Answer(msgspec.Struct):
    """The members that metering needs."""

    metadata: Any = None
    error: Any = None
    predictions: msgspec.Raw = _EMPTY


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_predictions = msgspec.json.Decoder(list[_Prediction]).decode


class Predict(Meaning):
    """Predictions of any kind: those that tell counts, and pictures, are understood."""

    members = ("metadata", "error")

    def read(self, text: bytes, found: Found) -> bool:
        try:
            answer = _decode_answer(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        self._take(answer, found)
        try:
            predictions = _decode_predictions(answer.predictions) if answer.predictions else []
        except (msgspec.DecodeError, RecursionError, ValueError):
            return True  # some other model's
        self._take_predictions(predictions, found)
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        self._take(_Answer(**members), found)
        found.partial = True  # the predictions that were not kept had counts too

    def read_stream(self, stream: Stream, found: Found) -> bool:
        return all(self.read(text, found) for text in stream.first(1))  # it never streams

    def usage(self, found: Found) -> Usage | None:
        raw = found.raw_usage
        if raw is None:
            return None
        usage = Usage(
            input_tokens=first_count(raw, (("token_count",), ("tokenMetadata", "inputTokenCount", "totalTokens"))),
            output_tokens=first_count(raw, (("tokenMetadata", "outputTokenCount", "totalTokens"),)),
            input_characters=count(raw.get("billableCharacterCount")),
            output_images=count(raw.get("images")),
        )
        return usage if any(told is not None for told in msgspec.structs.astuple(usage)) else None

    def _take(self, answer: _Answer, found: Found) -> None:
        found.failed = found.failed or bool(answer.error)
        if metadata := usage_object(answer.metadata):
            found.raw_usage = (found.raw_usage or {}) | metadata

    def _take_predictions(self, predictions: list[_Prediction], found: Found) -> None:
        """Their sums, as if the provider had told them so."""
        statistics = [each.embeddings.statistics for each in predictions if each.embeddings]
        tokens = [count(each.token_count) for each in statistics if each]
        images = sum(isinstance(each.mimeType, str) and each.mimeType.startswith("image/") for each in predictions)
        sums = {"token_count": sum(each or 0 for each in tokens)} if tokens else {}
        if images:
            sums["images"] = images
        if sums:
            found.raw_usage = (found.raw_usage or {}) | sums


class PredictRequest(RequestMeaning):
    """How many pictures are asked for, and how large."""

    members = ("parameters",)

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        facts = self.facts(operation.model, None, operation, whole=whole)
        if not any(name in (operation.model or "") for name in _PICTURE_MODELS):
            return facts
        asked = _parameters(members)
        images = count(asked.get("sampleCount")) or IMAGES_UNLESS_TOLD
        return msgspec.structs.replace(
            facts, counts=Usage(output_images=images), variant=word(asked.get("sampleImageSize"))
        )


class FilmRequest(RequestMeaning):
    """How many seconds of film are asked for, of what resolution, and whether they are silent."""

    members = ("parameters",)

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        asked = _parameters(members)
        seconds = min(count(asked.get("durationSeconds")) or FILM_SECONDS_UNLESS_TOLD, FILM_SECONDS_MAX)
        films = count(asked.get("sampleCount")) or 1
        words = [word(asked.get("resolution")) or "720p", "silent" if asked.get("generateAudio") is False else ""]
        facts = self.facts(operation.model, None, operation, whole=whole)
        counts = Usage(video_output_ms=seconds * films * 1000)
        return msgspec.structs.replace(facts, counts=counts, variant=" ".join(filter(None, words)))


def _parameters(members: dict[str, Any]) -> dict[str, Any]:
    parameters = members.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


DIALECTS = (
    Dialect(
        name="vertex.predict",
        operation_name="embeddings",
        routes=(Route("POST", "{model}:predict"),),
        meaning=Predict(),
        request=PredictRequest(),
        spoken_by="Vertex, AI Studio",
        input_total="`token_count` of all embeddings",
        also_counts="characters, pictures with their size",
        gaps="of an answer over 288 KiB the tokens are not known; other models of an endpoint tell nothing",
    ),
    Dialect(
        name="gemini.predict_long_running",
        operation_name="video_generation",
        routes=(Route("POST", "{model}:predictLongRunning"),),
        meaning=Gemini(),
        request=FilmRequest(),
        spoken_by="AI Studio, Vertex",
        also_counts="seconds of film, as the request asks for them",
        gaps="a film that is refused later is counted",
    ),
)
