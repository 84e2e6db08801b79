"""OpenAI's realtime dialect, as OpenAI, Azure (Voice Live too) and xAI speak it over WebSockets.

A turn tells its usage in `response.done`. The user's speech may be written down by another model, which tells its own
usage in `conversation.item.input_audio_transcription.completed`.
"""

import re
from typing import Any

import msgspec

from metering.core.dialects.counts import COUNT_MAX, count, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.quirks import read_any
from metering.core.dialects.scan import head_members, tail_members
from metering.core.dialects.sessions import SessionMeaning, SessionNotes
from metering.core.dialects.windows import Kept
from metering.core.usage import Usage

_TYPE = re.compile(rb'"type"\s*:\s*"([^"\\]*)"')
_CREATED, _DONE = "response.created", "response.done"
_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_SESSIONS = (
    *("session.created", "session.updated"),
    *("transcription_session.created", "transcription_session.updated"),
)
_TOLD = frozenset(name.encode() for name in (_CREATED, _DONE, _TRANSCRIBED, "error", *_SESSIONS))
_MEMBERS = ("type", "response_id", "item_id", "content_index", "usage")


class _Response(msgspec.Struct):
    id: Any = None
    status: Any = None
    usage: Any = None


class _Model(msgspec.Struct):
    model: Any = None


class _AudioInput(msgspec.Struct):
    transcription: _Model | None = None


class _Audio(msgspec.Struct):
    input: _AudioInput | None = None


class _Session(msgspec.Struct):
    id: Any = None
    type: Any = None
    model: Any = None
    input_audio_transcription: _Model | None = None  # until 2025
    audio: _Audio | None = None


class _Event(msgspec.Struct):
    """The members of a server's message that metering needs; all others are skipped undecoded."""

    type: Any = None
    response_id: Any = None
    item_id: Any = None
    content_index: Any = None
    usage: Any = None
    response: _Response | None = None
    session: _Session | None = None


_decode = msgspec.json.Decoder(_Event).decode


class Realtime(SessionMeaning):
    """The messages of a server."""

    def wants(self, head: bytes) -> bool:
        """By the type, if it is the message's own; of one that stands inside something nothing is concluded."""
        found = _TYPE.search(head)
        return found is None or found[1] in _TOLD or head.count(b"{", 0, found.start()) > 1

    def read(self, message: Kept, notes: SessionNotes) -> None:
        """Session, the beginning and the end of a turn, what was written down, errors."""
        try:
            event = _from_ends(message) if message.dropped else _decode(message.head)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return
        if event.type == _DONE:
            _end_turn(event, notes)
        elif event.type == _CREATED:
            if event.response is not None and (turn := word(event.response.id)):
                notes.begin(turn)
        elif event.type == _TRANSCRIBED:
            _take_transcription(event, notes)
        elif event.type == "error":
            notes.failed = True
        elif event.session is not None and event.type in _SESSIONS:
            _take_session(event.type, event.session, notes)


def _end_turn(event: _Event, notes: SessionNotes) -> None:
    response = event.response or _Response()
    turn = word(response.id) or word(event.response_id)
    notes.running.discard(turn or "")
    notes.failed = response.status == "failed"
    for raw in (response.usage, event.usage):  # xAI's stands beside an empty one inside the response
        usage = _turn_usage(raw, notes) if isinstance(raw, dict) else None
        if usage is not None:
            if notes.is_new(turn):
                notes.total.add(usage, raw)
            break


def _turn_usage(raw: dict[str, Any], notes: SessionNotes) -> Usage | None:
    """A turn's usage. Sound and cache are always told in this dialect, or there was none of it."""
    usage = read_any(raw, notes.provider, notes.model or "")
    if usage is None:
        return None
    cached = _member(_member(raw.get("input_token_details"), "cached_tokens_details"), "audio_tokens")
    return msgspec.structs.replace(
        usage,
        cache_read_input_tokens=usage.cache_read_input_tokens or 0,
        cache_read_audio_input_tokens=count(cached),
        audio_input_tokens=usage.audio_input_tokens or 0,
        audio_output_tokens=usage.audio_output_tokens or 0,
        audio_output_ms=_milliseconds(raw.get("billable_audio_seconds")),  # xAI
    )


def _take_transcription(event: _Event, notes: SessionNotes) -> None:
    raw = event.usage
    item = word(event.item_id)
    if not isinstance(raw, dict) or not notes.is_new(f"{item} {count(event.content_index)}" if item else None):
        return
    usage = read_any(raw, notes.provider, "")
    if usage is None and (milliseconds := _milliseconds(raw.get("seconds"))) is not None:
        usage = Usage(audio_input_ms=milliseconds)
    if usage is not None:
        total = notes.total if notes.transcribes else notes.other(notes.transcription_model)
        total.add(usage, raw)
        notes.failed = False


def _take_session(event: str, session: _Session, notes: SessionNotes) -> None:
    notes.session_id = word(session.id) or notes.session_id
    notes.model = word(session.model) or notes.model
    told = session.input_audio_transcription
    if told is None and session.audio is not None and session.audio.input is not None:
        told = session.audio.input.transcription
    if told is not None:
        notes.transcription_model = word(told.model) or notes.transcription_model
    if session.type == "transcription" or event.startswith("transcription_session"):
        notes.transcribes, notes.model = True, notes.transcription_model or notes.model


def _from_ends(message: Kept) -> _Event:
    """What the ends of a message tell that was too long to be kept. `ValidationError`."""
    head, tail = message.head, message.tail.rstrip()
    inside = ("id", "status", "usage", "model", "type")
    nested = head_members(head, inside, 2) | tail_members(tail, inside, 2)
    members = head_members(head, _MEMBERS) | tail_members(tail, _MEMBERS)
    return msgspec.convert(members | {"response": nested, "session": nested}, _Event)


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _milliseconds(seconds: object) -> int | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= COUNT_MAX / 1000:
        return None
    return round(seconds * 1000)


_REALTIME = Realtime()
_TURNS = "`response.done` of each turn, added up"

DIALECTS = (
    Dialect(
        name="openai.realtime_ws",
        operation_name="chat",
        routes=(
            Route("GET", "realtime", not_at="xai", query="model"),
            Route("GET", "openai/realtime", query="deployment"),  # Azure, before its v1
        ),
        session=_REALTIME,
        spoken_by="OpenAI, Azure",
        input_total="`input_tokens`",
        output_total="`output_tokens`",
        stream_usage=_TURNS,
        also_counts="transcription of the user's speech, as a row of its own",
        gaps="WebRTC and SIP pass no HTTP proxy; each of several WebSockets to one call tells all its usage",
    ),
    Dialect(
        name="azure.voice_live_ws",
        operation_name="chat",
        routes=(Route("GET", "voice-live/realtime", query="model"),),
        session=_REALTIME,
        spoken_by="Azure Voice Live",
        input_total="`input_tokens`",
        output_total="`output_tokens`",
        stream_usage=_TURNS,
        also_counts="as `openai.realtime_ws`",
    ),
    Dialect(
        name="xai.realtime_ws",
        operation_name="chat",
        routes=(Route("GET", "realtime", at="xai", query="model"),),
        session=_REALTIME,
        spoken_by="xAI",
        input_total="`input_tokens`",
        output_total="`output_tokens`",
        stream_usage=_TURNS,
        also_counts="`billable_audio_seconds`, as seconds of sound written",
    ),
)
