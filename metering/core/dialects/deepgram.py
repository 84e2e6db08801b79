"""What Deepgram's answers mean: sound that was heard by its duration, text that was spoken by its characters."""

from typing import Any

from metering.core.dialects.counts import count, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found
from metering.core.dialects.told import Layout, Told
from metering.core.usage import Usage


class _Listen(Told):
    """The caller may ask to hear channels apart; then each is billed."""

    def take(self, answer: Any, found: Found) -> None:
        super().take(answer, found)
        if isinstance(answer.metadata, dict):
            found.response_id = word(answer.metadata.get("request_id"))
            channels = count(answer.metadata.get("channels")) or 1
            found.variant = f"{channels} channels" if channels > 1 else None


class _Speak(Told):
    """The answer is sound; all there is to read stands in its headers."""

    reads_body = False

    def __init__(self) -> None:
        super().__init__(Layout(headers={"dg-char-count": "input_characters"}))
        self.headers = ("dg-char-count", "dg-model-name", "dg-request-id")

    def usage(self, found: Found) -> Usage | None:
        found.model = word(found.headers.get("dg-model-name"))
        found.response_id = word(found.headers.get("dg-request-id"))
        return super().usage(found)


DIALECTS = (
    Dialect(
        name="deepgram.listen",
        operation_name="speech_to_text",
        routes=(Route("POST", "v1/listen", query="model"),),
        meaning=_Listen(Layout(places={"audio_input_ms": (("duration",),)}, holds=("metadata",))),
        spoken_by="Deepgram",
        also_counts="milliseconds of sound; the number of channels, if several, as the variant",
        gaps="answers that go to a callback, and the WebSocket",
    ),
    Dialect(
        name="deepgram.speak",
        operation_name="text_to_speech",
        routes=(Route("POST", "v1/speak", query="model"),),
        meaning=_Speak(),
        spoken_by="Deepgram",
        also_counts="characters, from header `dg-char-count`",
        gaps="the WebSocket",
    ),
)
