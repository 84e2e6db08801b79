"""Gemini Live: JSON messages in text or binary frames; each turn tells its `usageMetadata`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from metering.core.dialects.counts import word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.gemini_usage import read_metadata
from metering.core.dialects.scan import head_members, tail_members
from metering.core.dialects.sessions import SessionMeaning, SessionNotes
from metering.core.dialects.windows import Kept

USAGE = "usageMetadata"
_QUOTED = b'"usageMetadata"'
# Usage stands at either end of a message, beside a turn's sound.
SEARCHED_BYTES = 16 * 1024
_TURN = "turn"  # turns have no ids
_ANSWERS = (b'"serverContent"', b'"toolCall"')
# What is written is told under other names than elsewhere; at a gateway under the same.
_NAMES: Mapping[str, str] = {
    "responseTokenCount": "candidatesTokenCount",
    "responseTokensDetails": "candidatesTokensDetails",
}


class _Message(msgspec.Struct):
    usage: Any = msgspec.field(name=USAGE, default=None)


class _Setup(msgspec.Struct):
    model: Any = None


class _ClientMessage(msgspec.Struct):
    setup: _Setup | None = None


_decode = msgspec.json.Decoder(_Message).decode
_decode_client = msgspec.json.Decoder(_ClientMessage).decode


class GeminiLive(SessionMeaning):
    """The messages of a server, and a client's first: it names the model, which no answer repeats."""

    client_messages = 4

    def wants(self, head: bytes) -> bool:  # noqa: ARG002 - usage may stand behind sound
        return True

    def read(self, message: Kept, notes: SessionNotes) -> None:
        """The usage of a turn, or that a turn runs."""
        head, tail = message.head, message.tail or message.head
        if head.rfind(_QUOTED, 0, SEARCHED_BYTES) < 0 and tail.rfind(_QUOTED, max(0, len(tail) - SEARCHED_BYTES)) < 0:
            if any(name in head[:256] for name in _ANSWERS):
                notes.begin(_TURN)
            return
        raw = _find_usage(message)
        if raw is None:
            return
        metadata, _ = read_metadata({_NAMES.get(name, name): value for name, value in raw.items()})
        if (usage := metadata.usage()) is not None:
            notes.running.discard(_TURN)
            notes.service_tier = metadata.tier or notes.service_tier
            notes.total.add(usage, raw)

    def read_client(self, message: Kept, notes: SessionNotes) -> None:
        """The setup's model, without the folders it stands in."""
        if message.dropped:
            model = (head_members(message.head, ("model",), 2) | tail_members(message.tail, ("model",), 2)).get("model")
        else:
            try:
                model = (_decode_client(message.head).setup or _Setup()).model
            except (msgspec.DecodeError, RecursionError, ValueError):
                return
        notes.asked_model = word(model.rpartition("models/")[2]) if isinstance(model, str) else None


def _find_usage(message: Kept) -> dict[str, Any] | None:
    if message.dropped:
        names = (USAGE,)
        raw = (head_members(message.head, names) | tail_members(message.tail.rstrip(), names)).get(USAGE)
    else:
        try:
            raw = _decode(message.head).usage
        except (msgspec.DecodeError, RecursionError, ValueError):
            return None
    return raw if isinstance(raw, dict) else None


_SERVICE = "google.ai.generativelanguage.{}.GenerativeService.BidiGenerateContent{}"

DIALECTS = (
    Dialect(
        name="gemini.live_ws",
        operation_name="generate_content",
        routes=(
            Route("GET", "BidiGenerateContent"),  # Vertex, behind `LlmBidiService`
            *(
                Route("GET", _SERVICE.format(version, constrained))
                for version in ("v1", "v1alpha", "v1beta")
                for constrained in ("", "Constrained")
            ),
        ),
        session=GeminiLive(),
        spoken_by="Google AI Studio, Vertex AI",
        input_total="`promptTokenCount` + tool use",
        output_total="`responseTokenCount` + thoughts",
        stream_usage="`usageMetadata` of each turn, added up",
        also_counts="sound, images, video",
        gaps="that a turn's usage does not hold the earlier ones is documented nowhere",
    ),
)
