"""Gemini Live: JSON messages in text or binary frames; each turn tells its `usageMetadata`."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from metering.core.dialects.counts import count, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.scan import head_members, tail_members
from metering.core.dialects.sessions import SessionMeaning, SessionNotes
from metering.core.dialects.windows import Kept
from metering.core.usage import Usage

USAGE = "usageMetadata"
_QUOTED = b'"usageMetadata"'
# Usage stands at either end of a message, beside a turn's sound.
SEARCHED_BYTES = 16 * 1024
_TURN = "turn"  # turns have no ids
_ANSWERS = (b'"serverContent"', b'"toolCall"')
# The protocol's own numbers for them, where a client asks for enums as integers.
_MODALITIES: Mapping[int, str] = {2: "IMAGE", 3: "VIDEO", 4: "AUDIO", 5: "DOCUMENT"}
_READ = {
    "AUDIO": "audio_input_tokens",
    "IMAGE": "image_input_tokens",
    "VIDEO": "video_input_tokens",
    "DOCUMENT": "document_input_tokens",
}
_WRITTEN = {"AUDIO": "audio_output_tokens", "IMAGE": "image_output_tokens"}
_CACHED = {"AUDIO": "cache_read_audio_input_tokens"}


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
        usage = read_live(raw) if raw is not None else None
        if raw is not None and usage is not None:
            notes.running.discard(_TURN)
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


def read_live(raw: Mapping[str, Any]) -> Usage | None:
    """The `Usage` of one turn; None if it holds no total of either side. Thinking is in no other total."""
    read, tools = count(raw.get("promptTokenCount")), count(raw.get("toolUsePromptTokenCount"))
    written, thought = count(raw.get("responseTokenCount")), count(raw.get("thoughtsTokenCount"))
    if written is None:
        written = count(raw.get("candidatesTokenCount"))  # at a gateway
    if read is None and written is None and thought is None:
        return None
    written_parts = {
        **_parts(raw, "candidatesTokensDetails", _WRITTEN),
        **_parts(raw, "responseTokensDetails", _WRITTEN),
    }
    return Usage(
        input_tokens=None if read is None else read + (tools or 0),
        output_tokens=None if written is None and thought is None else (written or 0) + (thought or 0),
        cache_read_input_tokens=count(raw.get("cachedContentTokenCount")),
        tool_use_input_tokens=tools,
        reasoning_output_tokens=thought,
        **_parts(raw, "promptTokensDetails", _READ),
        **_parts(raw, "cacheTokensDetails", _CACHED),
        **written_parts,
    )


def _parts(raw: Mapping[str, Any], name: str, fields: Mapping[str, str]) -> dict[str, int]:
    """The counts of a list with an entry a modality."""
    parts: dict[str, int] = {}
    for kind, tokens in _entries(raw.get(name)):
        if (field := fields.get(kind)) is not None:
            parts[field] = parts.get(field, 0) + tokens
    return parts


def _entries(entries: object) -> Iterator[tuple[str, int]]:
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and (tokens := count(entry.get("tokenCount"))) is not None:
            kind = entry.get("modality")
            if isinstance(kind, str):
                yield kind, tokens
            elif isinstance(kind, int):
                yield _MODALITIES.get(kind, ""), tokens


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
