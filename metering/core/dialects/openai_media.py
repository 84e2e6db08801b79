"""What answers about images, speech and transcriptions mean: one object, or a stream whose last event has the usage.

Newer models count tokens. Older ones are paid for by what was made or heard, and that stands in the answer (images in
`data`, seconds in `duration`) or is decided by the request (characters to be spoken).
"""

from typing import Any

import msgspec

from metering.core.dialects.counts import count, milliseconds, word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found
from metering.core.dialects.framing import Stream
from metering.core.dialects.one_object import NOT_THERE, OneObject
from metering.core.dialects.openai import take_usage
from metering.core.dialects.quirks import read_usage
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.usage import Usage

# The events after which there is nothing to come.
_LAST = frozenset({"transcript.text.done", "speech.audio.done", "image_generation.completed", "image_edit.completed"})


class _Answer(msgspec.Struct):
    """The members of a body or event that metering needs."""

    type: Any = None
    id: Any = None
    model: Any = None
    usage: Any = None
    error: Any = None
    size: Any = None
    quality: Any = None
    duration: Any = None
    data: msgspec.Raw = NOT_THERE


_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class OpenAIMedia(OneObject[_Answer]):
    """Images, speech, transcriptions and translations."""

    shape = _Answer

    def read_stream(self, stream: Stream, found: Found) -> bool:
        self.read_errors(stream, found)
        for text in stream.having(b'"usage"'):
            self.read(text, found)
        return found.final or stream.is_done()

    def usage(self, found: Found) -> Usage | None:
        raw = found.raw_usage or {}
        usage = read_usage(raw, found.provider, found.model or "", found.plain) if raw else None
        heard_ms = milliseconds(raw.get("seconds")) if raw.get("type") == "duration" else None
        if heard_ms is None and usage is None:
            heard_ms = found.heard_ms
        if heard_ms is not None:
            found.counted = {**found.counted, "audio_input_ms": heard_ms}
        return found.with_counted(usage)

    def take(self, answer: _Answer, found: Found) -> None:
        found.failed = found.failed or bool(answer.error) or answer.type == "error"
        found.model = word(answer.model) or found.model
        found.response_id = word(answer.id) or found.response_id
        take_usage(answer.usage, found)
        if (event := word(answer.type)) in _LAST:
            found.final = True
            if event.startswith("image"):
                found.count("output_images", 1)
        if answer.data:
            found.count("output_images", len(_decode_items(answer.data)))
        found.heard_ms = milliseconds(answer.duration)
        found.variant = variant(answer.size, answer.quality) or found.variant


def variant(size: object, quality: object = None, steps: object = None) -> str | None:
    """What decides the price of a picture or a film: `1024x1024 hd`, `512x512 30 steps`; None if nothing is said."""
    told = [word(size), word(quality), f"{steps} steps" if count(steps) else None]
    return " ".join(part for part in told if part) or None


def picture_size(width: object, height: object) -> str | None:
    """Both sides in pixels as OpenAI writes them."""
    return f"{width}x{height}" if count(width) and count(height) else None


class _ImageRequest(RequestMeaning):
    """How many pictures, of what size."""

    members = ("model", "stream", "n", "size", "quality", "width", "height", "steps")

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        facts = super().read(members, operation, whole=whole)
        images = count(members.get("n", 1 if whole else None))
        size = members.get("size") or picture_size(members.get("width"), members.get("height"))
        return msgspec.structs.replace(
            facts,
            counts=Usage(output_images=images) if images is not None else None,
            variant=variant(size, members.get("quality"), members.get("steps")),
        )


class _SpeechRequest(RequestMeaning):
    """How many characters are to be spoken."""

    members = ("model", "stream", "stream_format", "input", "text")

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        streamed = members.get("stream", True if members.get("stream_format") == "sse" else None)
        facts = self.facts(members.get("model"), streamed, operation, whole=whole)
        text = members.get("input", members.get("text"))  # xAI's name
        return msgspec.structs.replace(
            facts, counts=Usage(input_characters=len(text)) if isinstance(text, str) else None
        )


_MEDIA = OpenAIMedia()

DIALECTS = (
    Dialect(
        name="openai.images",
        operation_name="image_generation",
        routes=(
            *(Route("POST", f"images/{verb}") for verb in ("generations", "edits", "variations")),
            Route("POST", "v1/images"),  # OpenRouter
        ),
        meaning=_MEDIA,
        request=_ImageRequest(),
        spoken_by="OpenAI, Azure, xAI, OpenRouter, Together, and servers of open models",
        input_total="`input_tokens`, where a model counts tokens",
        output_total="`output_tokens`",
        stream_usage="`image_generation.completed`, `image_edit.completed`",
        also_counts="images; size and quality",
        gaps="of an answer over 288 KiB without usage the images are those asked for, and `estimated`",
    ),
    Dialect(
        name="openai.audio.speech",
        operation_name="text_to_speech",
        routes=(Route("POST", "audio/speech"), Route("POST", "v1/tts", at="xai")),
        meaning=_MEDIA,
        request=_SpeechRequest(),
        spoken_by="OpenAI, Azure, Mistral, xAI, OpenRouter, …",
        input_total="only as a stream of events",
        output_total="only as a stream of events",
        stream_usage="`speech.audio.done`",
        also_counts="characters of the request: `estimated`, for the answer is sound",
    ),
    Dialect(
        name="openai.audio.transcriptions",
        operation_name="speech_to_text",
        routes=(Route("POST", "audio/transcriptions"), Route("POST", "audio/translations")),
        meaning=_MEDIA,
        spoken_by="OpenAI, Azure, Mistral, Groq, OpenRouter, …",
        input_total="`input_tokens`, where a model counts tokens",
        output_total="`output_tokens`",
        stream_usage="`transcript.text.done`",
        also_counts="milliseconds of sound, where a model is paid by time",
        gaps="an answer in plain text, SRT or VTT tells nothing",
    ),
    Dialect(
        name="xai.stt",
        operation_name="speech_to_text",
        routes=(Route("POST", "v1/stt", at="xai"),),
        meaning=_MEDIA,
        spoken_by="xAI",
        also_counts="milliseconds of sound",
    ),
)
