"""Our own small recordings, one behaviour a file; the expected usage stands in each."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.core.dialects import MEANINGS, Reading, classify, open_reader
from metering.core.usage import UsageSource
from metering.jobs.check_dialects import Recording, check_file

RECORDINGS = Path(__file__).parents[2] / "recordings"
FILES = sorted(RECORDINGS.rglob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recording_is_read_as_expected(path: Path) -> None:
    checked = check_file(path, path.name, cuts=5, seed=1)
    assert (checked.verdict, checked.differences, checked.problem) == ("equal", [], "")
    assert checked.dialect == path.parent.name


@pytest.mark.parametrize("dialect", [name for name in MEANINGS if name.count(".") == 1 and name != "ollama.embeddings"])
def test_each_dialect_has_five_recordings_and_a_cut_one(dialect: str) -> None:
    names = [path.stem for path in FILES if path.parent.name == dialect]
    assert len(names) >= 5
    assert any("cut" in name for name in names)


def _read(path: str, body: str, *, status: int = 200, method: str = "POST") -> Reading:
    reader = open_reader(classify(method, path), status=status, content_type="", content_encoding="")
    reader.feed(body.encode())
    return reader.finish()


def _stored(name: str) -> Recording:
    return msgspec.json.decode((RECORDINGS / f"{name}.json").read_bytes(), type=Recording)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("openai.chat/stream", {"response_model": "gpt-4o-2024-08-06", "response_id": "chatcmpl-7", "complete": True}),
        ("openai.chat/stream_cut", {"response_id": "chatcmpl-7", "complete": False, "failed": False}),
        ("openai.chat/stream_usage_in_every_chunk", {"complete": True}),
        ("openai.chat/stream_usage_in_every_chunk_cut", {"complete": False}),
        ("openai.chat/stream_error_event", {"complete": False, "failed": True}),
        ("openai.chat/refused", {"failed": True, "usage": None, "raw_usage": None}),
        ("openai.chat/body_cut_before_usage", {"complete": False, "response_id": "chatcmpl-7"}),
        ("openai.responses/stream", {"response_id": "resp_1", "service_tier": "default", "complete": True}),
        ("openai.responses/stream_cut", {"response_id": "resp_1", "complete": False}),
        ("openai.responses/stream_error", {"failed": True, "complete": False}),
        ("openai.responses/body_failed", {"failed": True, "complete": True}),
        ("openai.responses.retrieve/background_finished", {"repeats": False}),
        ("anthropic.messages/stream", {"response_id": "msg_01", "complete": True, "failed": False}),
        ("anthropic.messages/stream_cut", {"response_model": "claude-sonnet-4-5-20250929", "complete": False}),
        ("anthropic.messages/stream_error", {"failed": True, "complete": False}),
        ("ollama.chat/stream", {"response_model": "smollm2:135m", "response_id": None, "complete": True}),
        ("ollama.chat/stream_cut", {"response_model": "smollm2:135m", "complete": False}),
        ("ollama.chat/stream_error", {"failed": True, "complete": False}),
    ],
)
def test_what_else_an_answer_tells(name: str, facts: dict[str, Any]) -> None:
    recording = _stored(name)
    reader = open_reader(recording.operation, status=recording.status or 0, content_type="", content_encoding="")
    reader.feed(recording.body)
    reading = reader.finish()
    assert {fact: getattr(reading, fact) for fact in facts} == facts


def test_the_providers_own_object_is_kept() -> None:
    reading = _read("/v1/chat/completions", '{"usage":{"prompt_tokens":3,"cost":0.25,"cost_details":{"byok":false}}}')
    assert reading.raw_usage == {"prompt_tokens": 3, "cost": 0.25, "cost_details": {"byok": False}}


def test_a_poll_of_an_answer_that_was_told_before_repeats_it() -> None:
    body = '{"object":"response","id":"r","background":false,"usage":{"input_tokens":3,"output_tokens":4}}'
    assert _read("/v1/responses/r", body, method="GET").repeats
    assert not _read("/v1/responses", body).repeats


@pytest.mark.parametrize(
    ("status", "source", "failed"), [(200, "unknown", False), (304, "none", False), (404, "none", True)]
)
def test_a_call_that_is_not_understood(status: int, source: str, failed: bool) -> None:
    reading = _read("/v9/novel", '{"usage":{"prompt_tokens":3}}', status=status)
    assert (reading.usage, reading.usage_source, reading.failed) == (None, UsageSource(source), failed)


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/chat/completions", "prompt_tokens"), ("/v1/messages", "input_tokens")]
)
def test_an_error_with_usage_is_reported(path: str, name: str) -> None:
    reading = _read(path, json.dumps({"error": {"code": 502}, "usage": {name: 3}}), status=502)
    assert (reading.usage_source, reading.failed) == (UsageSource.REPORTED, True)


def test_a_stream_may_stop_without_saying_why() -> None:
    start = 'data: {"type":"message_start","message":{"usage":{"input_tokens":3}}}\n\n'
    delta = 'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":4}}\n\n'
    stop = 'data: {"type":"message_stop"}\n\n'
    assert _read("/v1/messages", start + delta).usage_source is UsageSource.PARTIAL
    assert _read("/v1/messages", start + delta + stop).usage_source is UsageSource.REPORTED
    assert _read("/v1/messages", start + delta + 'data: "message_stop"\n\n').usage_source is UsageSource.PARTIAL


def test_the_first_frames_name_a_long_stream_too() -> None:
    """A gateway's first frame has an id of its own; the frames after it have another."""
    body = b'data: {"id":"chatcmpl-first","model":"m","choices":[]}\n\n' + 200 * (
        b'data: {"id":"gen-other","model":"m","choices":[{"delta":{"content":"a word and another one"}}]}\n\n'
    )
    for size in (7, 100, len(body)):
        reader = open_reader(classify("POST", "/v1/chat/completions"), status=200, content_type="", content_encoding="")
        for start in range(0, len(body), size):
            reader.feed(body[start : start + size])
        assert reader.finish().response_id == "chatcmpl-first"


def test_the_last_frame_that_can_be_read_counts() -> None:
    timings = 'data: {"timings":{"prompt_n":3,"predicted_n":4}}\n\ndata: {"timings":{"prompt_n":9\n\n'
    usage = _read("/v1/chat/completions", timings).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (3, 4)
    cut = 'data: {"type":"response.completed","response":{"usage":{"input_tokens":3}\n\n'
    assert _read("/v1/responses", cut).usage_source is UsageSource.UNKNOWN


def test_cache_lifetimes_alone_make_the_total() -> None:
    split = '{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":null}'
    usage = _read("/v1/messages", f'{{"usage":{{"input_tokens":1,"cache_creation":{split}}}}}').usage
    assert usage is not None
    assert (usage.input_tokens, usage.cache_write_input_tokens, usage.cache_write_5m_input_tokens) == (21, 20, 20)


def test_choices_and_items_that_are_odd_cost_only_what_they_would_have_told() -> None:
    assert _read("/v1/chat/completions", '{"choices":[7,{"usage":{"prompt_tokens":3}}]}').usage is None
    odd = '{"output":[7,{"type":"web_search_call"}],"usage":{"input_tokens":3,"output_tokens":4}}'
    usage = _read("/v1/responses", odd).usage
    assert usage is not None
    assert (usage.input_tokens, usage.web_search_requests) == (3, None)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat"])
@pytest.mark.parametrize(
    "body",
    [
        "null",
        "7",
        "[]",
        "[1,2]",
        '{"usage":7,"id":7,"model":[],"choices":7,"response":7,"message":7,"delta":7,"output":7,"x_groq":7}',
        '{"type":"message_start","message":7}',
        '{"type":"message_start"}',
        '{"type":"message_delta","delta":7,"usage":{"output_tokens":[]}}',
        '{"type":"response.completed","response":{"usage":{"input_tokens":{}}}}',
        'data: {"usage":{}}\n\ndata: {"timings":{"prompt_n":-1}}\n\n',
        '{"a":' * 5_000,
        'data: {"usage":' + "[" * 5_000 + "\n\n",
        '{"model":"\\ud800","usage":{"prompt_tokens":"\\ud800"}}',
        "\ufeff",
        "data:\n\ndata\n\n:\n\nevent: error",
    ],
)
def test_odd_json_tells_nothing_and_breaks_nothing(path: str, body: str) -> None:
    for text in (body, body + "\n" + body):
        assert _read(path, text).usage is None


def test_bytes_that_are_no_utf8_break_nothing() -> None:
    body = base64.b64decode("eyJtb2RlbCI6Iv/+IiwidXNhZ2UiOnsicHJvbXB0X3Rva2VucyI6M319")
    reader = open_reader(classify("POST", "/v1/chat/completions"), status=200, content_type="", content_encoding="")
    reader.feed(body)
    assert reader.finish().complete in (True, False)
