"""Images, speech and transcriptions: what the answer tells, what only the request does, and what both leave open."""

import json

import pytest

from metering.core.dialects import Reading, classify, fill_in, open_reader, read_request, read_whole
from metering.core.usage import Usage, UsageSource

JSON, SSE = "application/json", "text/event-stream"
PICTURE = "iVBORw0KGgo" * 40_000  # more than is kept of a document


def read(path: str, request: bytes, answer: bytes, content_type: str = JSON, provider: str = "openai") -> Reading:
    operation = classify("POST", path, provider)
    reader = open_reader(operation, status=200, content_type=content_type, content_encoding="", provider=provider)
    for start in range(0, len(answer), 50_000):
        reader.feed(answer[start : start + 50_000])
    return fill_in(reader.finish(), read_request(operation, request))


@pytest.mark.parametrize(
    ("request_members", "answer_members", "variant"),
    [
        ({"size": "1792x1024", "quality": "hd"}, {}, "1792x1024 hd"),
        ({"size": "auto", "quality": "auto"}, {"size": "1024x1536", "quality": "high"}, "1024x1536 high"),
        ({"width": 512, "height": 768, "steps": 30}, {}, "512x768 30 steps"),
        ({}, {}, None),
        ({"size": 7, "quality": ["x"], "width": "a", "height": 1, "steps": True}, {}, None),
    ],
)
def test_size_and_quality_of_pictures_are_the_variant(
    request_members: dict[str, object], answer_members: dict[str, object], variant: str | None
) -> None:
    request = json.dumps({"model": "dall-e-3", "prompt": "p", **request_members}).encode()
    answer = json.dumps({"created": 1, "data": [{"url": "u"}], **answer_members}).encode()
    reading = read("/v1/images/generations", request, answer)
    assert (reading.usage, reading.variant) == (Usage(output_images=1), variant)
    assert reading.usage_source is UsageSource.REPORTED


def test_pictures_that_are_too_large_to_be_counted_are_those_asked_for() -> None:
    asked = b'{"model":"dall-e-2","n":3,"response_format":"b64_json"}'
    answer = json.dumps({"created": 1, "data": [{"b64_json": PICTURE}] * 3}).encode()
    reading = read("/v1/images/generations", asked, answer)
    assert (reading.usage, reading.usage_source) == (Usage(output_images=3), UsageSource.ESTIMATED)
    assert reading.estimator == "request"


def test_tokens_stand_behind_a_large_picture() -> None:
    usage = {"input_tokens": 9, "output_tokens": 4160, "input_tokens_details": {"image_tokens": 2, "text_tokens": 7}}
    members = {"created": 1, "data": [{"b64_json": PICTURE}], "size": "1024x1024", "quality": "high", "usage": usage}
    reading = read("/v1/images/edits", b'{"model":"gpt-image-1"}', json.dumps(members).encode())
    tokens = Usage(input_tokens=9, output_tokens=4160, image_input_tokens=2, output_images=1)
    assert (reading.usage, reading.variant) == (tokens, "1024x1024 high")
    assert reading.usage_source is UsageSource.REPORTED


def test_a_stream_of_large_pictures_tells_its_tokens() -> None:
    usage = {"input_tokens": 9, "output_tokens": 4160, "total_tokens": 4169}
    partial = {"type": "image_generation.partial_image", "b64_json": PICTURE}
    last = {"type": "image_generation.completed", "b64_json": PICTURE, "size": "1024x1024", "usage": usage}
    answer = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in (partial, partial, last))
    reading = read("/v1/images/generations", b'{"model":"gpt-image-1","n":1,"stream":true}', answer.encode(), SSE)
    assert reading.usage == Usage(input_tokens=9, output_tokens=4160, output_images=1)


@pytest.mark.parametrize(("told", "cost"), [(200_000_000, "0.02"), (0, None)])
def test_xai_tells_what_a_picture_cost(told: int, cost: str | None) -> None:
    answer = json.dumps({"data": [{"url": "u"}], "usage": {"cost_in_usd_ticks": told}}).encode()
    reading = read("/v1/images/generations", b'{"model":"grok-imagine-image"}', answer, provider="xai")
    assert reading.usage == Usage(output_images=1)
    assert (None if reading.reported_cost is None else str(reading.reported_cost.normalize())) == cost


@pytest.mark.parametrize(
    ("asked", "characters"),
    [
        ('{"model":"tts-1","input":"Zürich 😀"}', 8),
        ('{"text":"Hallo"}', 5),
        ('{"model":"tts-1","input":""}', 0),
        ('{"model":"tts-1","input":["a"]}', None),
        ('{"model":"tts-1"}', None),
    ],
)
def test_characters_to_be_spoken_are_counted_in_the_request(asked: str, characters: int | None) -> None:
    reading = read("/v1/tts", asked.encode(), b"\xff\xf3\xc4", "audio/mpeg", "xai")
    assert (reading.usage and reading.usage.input_characters) == characters
    assert reading.usage_source is (UsageSource.UNKNOWN if characters is None else UsageSource.ESTIMATED)


def test_speech_as_events_tells_tokens_and_keeps_the_characters() -> None:
    operation = classify("POST", "/v1/audio/speech")
    assert read_request(operation, b'{"model":"m","input":"a","stream_format":"sse"}').streamed is True
    assert read_request(operation, b'{"model":"m","input":"a"}').streamed is False
    answer = b'data: {"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101}}\n\n'
    reading = read("/v1/audio/speech", b'{"input":"abc"}', answer, SSE)
    assert reading.usage == Usage(input_tokens=14, output_tokens=101, input_characters=3)
    assert reading.usage_source is UsageSource.REPORTED


@pytest.mark.parametrize(
    ("answer", "heard_ms"),
    [
        ({"usage": {"type": "duration", "seconds": 7}, "duration": 6.4}, 7000),
        ({"duration": 6.4215}, 6422),
        ({"duration": "6.4"}, 6400),
        ({"duration": 0}, 0),
        ({"duration": -1}, None),
        ({"duration": True}, None),
        ({"duration": 1e300}, None),
        ({"usage": {"type": "tokens", "input_tokens": 3, "output_tokens": 2}, "duration": 6.4}, None),
        ({"usage": {"type": "duration", "seconds": None}}, None),
    ],
)
def test_sound_is_counted_in_milliseconds_unless_tokens_are(answer: dict[str, object], heard_ms: int | None) -> None:
    reading = read("/v1/audio/transcriptions", b'{"model":"whisper-1"}', json.dumps(answer).encode())
    assert (reading.usage and reading.usage.audio_input_ms) == heard_ms


def test_a_refused_call_counts_nothing_of_its_request() -> None:
    operation = classify("POST", "/v1/audio/speech")
    refused = read_whole(operation, status=400, content_type=JSON, content_encoding="", body=b'{"error":{}}')
    assert fill_in(refused, read_request(operation, b'{"input":"abc"}')).usage is None
