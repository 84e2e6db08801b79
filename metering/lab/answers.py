"""From a request to the parts of its answer: which voice speaks, and what a fault makes of it."""

from collections.abc import Callable

import msgspec

from metering.lab import answer_anthropic, answer_ollama, answer_openai
from metering.lab.ask import Ask, Defaults, Fault, read_ask

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
NDJSON = b"application/x-ndjson"


class Voice(msgspec.Struct, frozen=True):
    """How one operation answers."""

    whole: Callable[[Ask], bytes]
    events: Callable[[Ask], list[bytes]] | None  # None: never streamed
    error: Callable[[bytes, int], bytes]  # (message as a JSON string, status) -> body
    error_event: bytes = b""
    error_status: int = 500
    stream_type: bytes = SSE
    streams_by_default: bool = False
    id_header: bytes = b"x-request-id"


class Answer(msgspec.Struct, frozen=True):
    """An answer in parts. A chunked one is sent part by part, any other in one go with its length."""

    status: int
    content_type: bytes
    parts: list[bytes]
    call_id: str = ""
    id_header: bytes = b"x-request-id"
    chunked: bool = False
    pace_ms: int = 0  # between parts; before the answer if it isn't chunked
    fault: Fault | None = None


def _openai(
    whole: Callable[[Ask], bytes],
    events: Callable[[Ask], list[bytes]] | None,
    error_event: bytes = answer_openai.ERROR_EVENT,
) -> Voice:
    return Voice(whole, events, answer_openai.error, error_event)


def _anthropic(whole: Callable[[Ask], bytes], events: Callable[[Ask], list[bytes]] | None) -> Voice:
    event = answer_anthropic.ERROR_EVENT
    return Voice(
        whole,
        events,
        answer_anthropic.error,
        event,
        error_status=529,
        id_header=b"request-id",
    )


def _ollama(whole: Callable[[Ask], bytes], lines: Callable[[Ask], list[bytes]] | None) -> Voice:
    event = answer_ollama.ERROR_LINE
    return Voice(
        whole,
        lines,
        answer_ollama.error,
        event,
        stream_type=NDJSON,
        streams_by_default=lines is not None,
    )


VOICES = {
    b"/v1/chat/completions": _openai(answer_openai.chat, answer_openai.chat_events),
    b"/v1/completions": _openai(answer_openai.completion, answer_openai.completion_events),
    b"/v1/embeddings": _openai(answer_openai.embeddings, None),
    b"/v1/responses": _openai(
        answer_openai.response, answer_openai.response_events, answer_openai.RESPONSES_ERROR_EVENT
    ),
    b"/v1/messages": _anthropic(answer_anthropic.message, answer_anthropic.message_events),
    b"/v1/messages/count_tokens": _anthropic(answer_anthropic.token_count, None),
    b"/api/chat": _ollama(answer_ollama.chat, answer_ollama.chat_lines),
    b"/api/generate": _ollama(answer_ollama.generate, answer_ollama.generate_lines),
    b"/api/embed": _ollama(answer_ollama.embed, None),
}
EMBEDS = (b"/v1/embeddings", b"/api/embed")
LISTS = {b"/v1/models": answer_openai.MODELS, b"/api/tags": answer_ollama.TAGS}


def answer(method: bytes, target: bytes, headers: dict[bytes, bytes], body: bytes, defaults: Defaults) -> Answer:
    """Answer one request; what can't be answered gets an error in the dialect's own shape."""
    path = target.partition(b"?")[0]
    voice = VOICES.get(path)
    if voice is None:
        if method in (b"GET", b"HEAD") and path in LISTS:
            return Answer(200, JSON, [LISTS[path]])
        return _refusal(answer_openai.error, 404, "the emulator serves no such path")
    if method != b"POST":
        return _refusal(voice.error, 405, "use POST")
    try:
        ask = read_ask(
            path, headers, body, defaults, embeds=path in EMBEDS, streams_by_default=voice.streams_by_default
        )
    except ValueError as error:
        return _refusal(voice.error, 400, str(error))
    return _speak(voice, ask)


def _refusal(error: Callable[[bytes, int], bytes], status: int, message: str) -> Answer:
    return Answer(status, JSON, [error(msgspec.json.encode(message), status)])


def _speak(voice: Voice, ask: Ask) -> Answer:
    if not (ask.streamed and voice.events):
        if ask.fault is Fault.ERROR:
            body = voice.error(b'"the emulator was asked to fail"', voice.error_status)
            return Answer(voice.error_status, JSON, [body], ask.call_id, voice.id_header, pace_ms=ask.pace_ms)
        parts = [voice.whole(ask)]
        return Answer(200, JSON, parts, ask.call_id, voice.id_header, pace_ms=ask.pace_ms, fault=ask.fault)
    parts = voice.events(ask)
    if ask.fault is Fault.ERROR:
        parts = [*parts[: len(parts) // 2], voice.error_event]
    return Answer(
        200, voice.stream_type, parts, ask.call_id, voice.id_header, chunked=True, pace_ms=ask.pace_ms, fault=ask.fault
    )
