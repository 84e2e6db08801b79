import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.dialects import SESSIONS, Operation, Reading, Session, open_session
from metering.core.dialects.sessions import COUNTED_MAX, OTHERS_MAX
from metering.core.usage import UsageSource
from metering.jobs.reframe import frame

OPENAI, GEMINI = "openai.realtime_ws", "gemini.live_ws"


def opened(dialect: str = OPENAI, extensions: str = "") -> tuple[Session, list[str]]:
    """A session, and a list that grows each time it tells usage."""
    told: list[str] = []
    session = open_session(
        Operation(dialect, "chat", consumes=True), extensions=extensions, told=lambda: told.append("told")
    )
    assert session is not None
    return session, told


def say(session: Session, *messages: Any) -> None:
    for message in messages:
        session.feed(frame(message if isinstance(message, bytes) else json.dumps(message).encode()))


def done(turn: str | None = "resp_1", tokens: int = 3, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    return {"type": "response.done", "response": {"id": turn, "status": "completed", "usage": usage} | more}


def read(session: Session) -> tuple[UsageSource, int | None, bool]:
    reading = session.finish()
    return reading.usage_source, reading.usage.input_tokens if reading.usage else None, reading.failed


def transcribed(item: str, tokens: int = 5) -> dict[str, Any]:
    usage = {"type": "tokens", "input_tokens": tokens, "output_tokens": 2, "total_tokens": tokens + 2}
    name = "conversation.item.input_audio_transcription.completed"
    return {"type": name, "item_id": item, "content_index": 0, "usage": usage}


def created(**session: Any) -> dict[str, Any]:
    return {"type": "session.created", "session": {"id": "sess_1", "model": "gpt-realtime", **session}}


def test_a_reading_can_be_had_at_any_time() -> None:
    session, told = opened()
    assert session.so_far().usage_source is UsageSource.UNKNOWN
    say(session, created(), done("resp_1", 3))
    assert (len(told), session.so_far().usage_source) == (1, UsageSource.PARTIAL)
    say(session, {"type": "response.created", "response": {"id": "resp_2"}})
    assert session.in_turn
    say(session, done("resp_2", 4), done("resp_2", 4))
    assert (len(told), session.in_turn) == (2, False)
    assert read(session) == (UsageSource.REPORTED, 7, False)
    reading = session.finish()
    assert (reading.response_model, reading.response_id) == ("gpt-realtime", "sess_1")
    assert reading.raw_usage == {"usage_events": 2, "input_tokens": 7, "output_tokens": 2, "total_tokens": 9}


def test_what_writes_the_users_speech_down_is_another_model() -> None:
    session, told = opened()
    say(session, created(input_audio_transcription={"model": "whisper-1"}), done(), transcribed("item_1"))
    say(session, transcribed("item_1"), transcribed("item_2"))
    nested = {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}
    say(session, {"type": "session.updated", "session": nested}, transcribed("item_3"))
    reading = session.finish()
    assert len(told) == 4
    assert reading.usage is not None
    assert reading.usage.input_tokens == 3
    found = {other.response_model: other.usage and other.usage.input_tokens for other in reading.others}
    assert found == {"whisper-1": 10, "gpt-4o-transcribe": 5}


def test_seconds_are_milliseconds() -> None:
    session, _ = opened()
    event = transcribed("item_1") | {"usage": {"type": "duration", "seconds": 3.5}}
    say(session, created(input_audio_transcription={"model": "whisper-1"}), event)
    [other] = session.finish().others
    assert other.usage is not None
    assert (other.usage.audio_input_ms, other.usage.input_tokens) == (3500, None)


def test_a_session_that_only_transcribes_has_one_model() -> None:
    session, _ = opened()
    say(session, created(type="transcription", model=None, input_audio_transcription={"model": "whisper-1"}))
    say(session, transcribed("item_1"))
    reading = session.finish()
    assert (reading.response_model, reading.others) == ("whisper-1", ())
    assert read(session) == (UsageSource.REPORTED, 5, False)


@pytest.mark.parametrize(
    ("messages", "failed"),
    [
        ([{"type": "error", "error": {"code": "x"}}], True),
        ([{"type": "error", "error": {"code": "x"}}, done()], False),
        ([done("resp_1", status="failed")], True),
        ([done(), frame(b"\x03\xf3", opcode=8)], True),
        ([done(), frame(b"\x03\xe8", opcode=8)], False),
        ([done(), frame(b"", opcode=8)], False),
    ],
)
def test_errors(messages: list[Any], failed: bool) -> None:
    session, _ = opened()
    for message in messages:
        session.feed(message if isinstance(message, bytes) else frame(json.dumps(message).encode()))
    assert session.finish().failed is failed


def test_what_could_not_be_read_is_not_told_as_whole() -> None:
    session, told = opened()
    say(session, done())
    session.feed(b"\xff" * 10)
    say(session, done("resp_2"))
    assert (len(told), read(session)) == (1, (UsageSource.PARTIAL, 3, False))
    session, _ = opened(extensions="x-other")
    say(session, done())
    assert read(session) == (UsageSource.UNKNOWN, None, False)


@pytest.mark.parametrize("type_last", [False, True])
@pytest.mark.parametrize("size", [100, 50_000, 500_000])
def test_usage_is_found_in_a_message_of_any_size(size: int, type_last: bool) -> None:
    text = 'He said {"usage": {"input_tokens": 99}} and \\"type\\"' + "x" * size
    output = [{"type": "message", "id": "item", "content": [{"type": "text", "text": text}]}]
    response = {"id": "resp_1", "output": output} | done()["response"]
    message = {"type": "response.done", "response": response}
    if type_last:
        message = dict(reversed(message.items()))
    session, _ = opened()
    say(session, created(), message, message)
    assert read(session) == (UsageSource.REPORTED, 3, False)


def test_a_long_setup_and_long_sound() -> None:
    session, _ = opened(GEMINI)
    setup = {"setup": {"systemInstruction": {"parts": [{"text": "x" * 400_000}]}, "model": "models/gemini-live"}}
    session.feed_client(frame(json.dumps(setup).encode(), mask=b"mask"))
    turn = {"modelTurn": {"parts": [{"inlineData": {"mimeType": "audio/pcm", "data": "A" * 500_000}}]}}
    usage = {"promptTokenCount": 3, "responseTokenCount": 4, "totalTokenCount": 7}
    say(session, {"setupComplete": {}}, {"serverContent": turn})
    assert session.in_turn
    say(session, {"serverContent": turn, "usageMetadata": usage}, {"usageMetadata": usage, "serverContent": turn})
    assert read(session) == (UsageSource.REPORTED, 6, False)
    assert session.asked_model == "gemini-live"


@pytest.mark.parametrize(
    "model", ["models/gemini-live", "projects/p/locations/l/publishers/google/models/gemini-live", "gemini-live"]
)
def test_a_model_has_no_folders(model: str) -> None:
    session, _ = opened(GEMINI)
    session.feed_client(frame(b"{"))
    session.feed_client(frame(json.dumps({"setup": {"model": model}}).encode(), opcode=2))
    assert session.asked_model == "gemini-live"


def test_the_client_is_read_until_it_named_the_model() -> None:
    session, _ = opened(GEMINI)
    for _ in range(9):
        session.feed_client(frame(b'{"realtimeInput":{}}'))
    session.feed_client(frame(b'{"setup":{"model":"models/late"}}'))
    assert session.asked_model is None


def test_notes_are_bounded() -> None:
    session, _ = opened()
    for number in range(COUNTED_MAX + 9):
        say(session, done(f"resp_{number}", 1))
    for number in range(OTHERS_MAX + 9):
        say(session, created(input_audio_transcription={"model": f"model-{number}"}), transcribed(f"item_{number}"))
        say(session, {"type": "response.created", "response": {"id": f"x{number}"}})
    reading = session.finish()
    assert len(reading.others) <= OTHERS_MAX + 1
    assert sum(other.usage.input_tokens or 0 for other in reading.others if other.usage) == 5 * (OTHERS_MAX + 9)
    assert reading.usage is not None
    assert reading.usage.input_tokens == COUNTED_MAX + 9


NAMES = st.sampled_from(
    [
        *(
            "type",
            "response",
            "usage",
            "id",
            "session",
            "model",
            "audio",
            "input",
            "transcription",
            "item_id",
            "status",
        ),
        *("usageMetadata", "promptTokenCount", "promptTokensDetails", "modality", "tokenCount", "serverContent"),
        *("input_tokens", "output_tokens", "input_token_details", "cached_tokens_details", "seconds"),
    ]
)
TYPES = ("response.done", "response.created", "session.created", "error", transcribed("")["type"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(TYPES) | st.text()
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=15
)


@given(st.sampled_from(sorted(SESSIONS)), st.lists(st.dictionaries(NAMES, VALUES, max_size=6), max_size=5))
def test_any_messages_break_nothing(dialect: str, messages: list[dict[str, Any]]) -> None:
    session, _ = opened(dialect)
    say(session, *messages)
    session.feed_client(frame(json.dumps(messages[:1]).encode()))
    say(session, created(), done("resp_after"))
    reading: Reading = session.finish()
    assert dialect == GEMINI or reading.usage is not None
