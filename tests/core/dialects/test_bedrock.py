import json
from typing import Any

import pytest

from metering.core.dialects import Reading, classify, fill_in, open_reader, read_request, read_whole
from metering.core.usage import Usage, UsageSource
from tests.core.dialects.test_event_stream import frame, wrapped

METRICS = "amazon-bedrock-invocationMetrics"
COUNT = "x-amzn-bedrock-{}-token-count"


def _read(path: str, body: bytes, headers: dict[str, str] | None = None, size: int = 999) -> Reading:
    reader = open_reader(
        classify("POST", path), status=200, content_type="", content_encoding="", headers=headers or {}
    )
    for at in range(0, len(body), size):
        reader.feed(body[at : at + size])
    return reader.finish()


@pytest.mark.parametrize(
    ("path", "dialect", "model"),
    [
        ("/model/us.amazon.nova-lite-v1%3A0/converse", "bedrock.converse", "us.amazon.nova-lite-v1:0"),
        ("/bedrock/model/a.b-v1:0/converse-stream", "bedrock.converse_stream", "a.b-v1:0"),
        (
            "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Aapplication-inference-profile%2Fx/invoke",
            "bedrock.invoke",
            "arn:aws:bedrock:eu-west-1:1:application-inference-profile/x",
        ),
        ("/model/m/invoke-with-response-stream", "bedrock.invoke_stream", "m"),
        ("/guardrail/g/version/DRAFT/apply", "bedrock.guardrail", None),
        ("/async-invoke", "bedrock.async_invoke", None),
        ("/endpoints/my-llama/invocations", "sagemaker.invocations", "my-llama"),
        ("/endpoints/my-llama/invocations-response-stream", "sagemaker.invocations_stream", "my-llama"),
        ("/openai/v1/chat/completions", "openai.chat", None),
    ],
)
def test_the_path_names_dialect_and_model(path: str, dialect: str, model: str | None) -> None:
    operation = classify("POST", path, "bedrock")
    assert (operation.dialect, operation.model, operation.consumes) == (dialect, model, True)
    assert operation.streams is dialect.endswith("_stream")


@pytest.mark.parametrize(("method", "path"), [("POST", "/model/m/count-tokens"), ("GET", "/async-invoke/arn%3Aaws")])
def test_calls_that_never_consume(method: str, path: str) -> None:
    assert classify(method, path).consumes is False


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/model/m/converse", ("id-1", "flex")),
        ("/model/m/invoke", ("id-1", "flex")),
        ("/model/arn%3Aaws%3Abedrock%3Aus%3A1%3Aprovisioned-model%2Fx/converse", ("id-1", "flex")),
    ],
)
def test_headers_tell_id_and_tier(path: str, told: tuple[str, str]) -> None:
    headers = {"x-amzn-requestid": "id-1", "x-amzn-bedrock-service-tier": "flex"}
    body = b'{"usage":{"inputTokens":1,"outputTokens":2}}'
    for reading in (
        _read(path, body, headers),
        read_whole(
            classify("POST", path), status=200, content_type="application/json", content_encoding="", body=body,
            headers=headers,
        ),
    ):  # fmt: skip
        assert (reading.response_id, reading.service_tier) == told
        assert reading.usage == Usage(input_tokens=1, output_tokens=2)


def test_the_body_goes_before_the_headers() -> None:
    headers = {COUNT.format("input"): "10", COUNT.format("output"): "3", COUNT.format("cache-read-input"): "7"}
    body = {"prompt_token_count": 17, "generation_token_count": 4}
    reading = _read("/model/m/invoke", json.dumps(body).encode(), headers)
    assert (reading.usage, reading.usage_source) == (Usage(input_tokens=17, output_tokens=4), UsageSource.REPORTED)
    reading = _read("/model/m/invoke", b'{"completion":"a"}', headers)
    assert reading.usage == Usage(input_tokens=17, output_tokens=3, cache_read_input_tokens=7)
    assert reading.usage_source is UsageSource.HEADER


def test_of_a_body_that_is_too_long_the_headers_tell() -> None:
    body = json.dumps({"embeddings": [[0.123456789] * 50_000]}).encode()
    reading = _read("/model/cohere.embed-v4/invoke", body, {COUNT.format("input"): "12"})
    assert (reading.usage, reading.usage_source) == (Usage(input_tokens=12), UsageSource.HEADER)


def test_a_long_stream_of_claude_is_read_from_both_ends() -> None:
    start = {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 9}}}
    deltas = [{"type": "content_block_delta", "delta": {"text": f"word {number}"}} for number in range(2_000)]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2_100}}
    stop = {"type": "message_stop", METRICS: {"inputTokenCount": 9, "outputTokenCount": 2_000}}
    body = b"".join(map(wrapped, [start, *deltas, end, stop]))
    for size in (61, 5_000, len(body)):
        reading = _read("/model/c/invoke-with-response-stream", body, size=size)
        assert (reading.usage, reading.response_id) == (Usage(input_tokens=9, output_tokens=2_100), "m")
        assert (reading.usage_source, reading.complete) == (UsageSource.REPORTED, True)


@pytest.mark.parametrize(
    "payload", [b"", b"7", b"[]", b'{"bytes":7}', b'{"bytes":"*"}', b'{"bytes":"W10="}', b'{"usage":[]}', b"\xff"]
)
@pytest.mark.parametrize("verb", ["converse-stream", "invoke-with-response-stream"])
def test_odd_frames_tell_nothing_and_break_nothing(verb: str, payload: bytes) -> None:
    reading = _read(f"/model/m/{verb}", frame(payload) * 3)
    assert (reading.usage, reading.failed) == (None, False)


CANVAS = {"taskType": "TEXT_IMAGE", "imageGenerationConfig": {"numberOfImages": 2, "width": 512, "height": 768}}


@pytest.mark.parametrize(
    ("path", "body", "counts", "variant"),
    [
        ("model/amazon.nova-canvas-v1%3A0/invoke", CANVAS, Usage(output_images=2), "512x768 standard"),
        (
            "model/arn%3Aaws%3Abedrock%3Aus%3A1%3Aapplication-inference-profile%2Fx/invoke",
            {"imageGenerationConfig": {"quality": "premium"}},
            Usage(output_images=1),
            "1024x1024 premium",
        ),
        (
            "model/amazon.nova-canvas-v1%3A0/invoke",
            {"taskType": "BACKGROUND_REMOVAL"},
            Usage(output_images=1),
            "1024x1024 standard",
        ),
        (
            "model/stability.stable-diffusion-xl-v1/invoke",
            {"text_prompts": [{"text": "a"}], "samples": 3, "width": 512, "height": 512, "steps": 30},
            Usage(output_images=3),
            "512x512 30 steps",
        ),
        ("model/stability.sd3-5-large-v1%3A0/invoke", {"prompt": "a"}, Usage(output_images=1), None),
        ("model/meta.llama3/invoke", {"prompt": "a"}, None, None),
        (
            "async-invoke",
            {"modelId": "nova-reel", "modelInput": {"videoGenerationConfig": {"dimension": "1280x720"}}},
            Usage(video_output_ms=6_000),
            "1280x720",
        ),
        (
            "async-invoke",
            {"modelId": "luma", "modelInput": {"duration": "9s", "resolution": "540p"}},
            Usage(video_output_ms=9_000),
            "540p",
        ),
        ("async-invoke", {"modelId": "marengo", "modelInput": {"inputType": "video"}}, None, None),
    ],
)
def test_what_a_request_for_pictures_and_films_decides(
    path: str, body: dict[str, Any], counts: Usage | None, variant: str | None
) -> None:
    facts = read_request(classify("POST", f"/{path}"), json.dumps(body).encode())
    assert (facts.counts, facts.variant) == (counts, variant)
    assert facts.model == body.get("modelId", classify("POST", f"/{path}").model)


def test_pictures_that_are_too_long_to_be_kept_are_those_asked_for() -> None:
    path = "/model/amazon.nova-canvas-v1%3A0/invoke"
    facts = read_request(classify("POST", path), json.dumps(CANVAS).encode())
    whole = fill_in(_read(path, json.dumps({"images": ["AAAA"], "error": None}).encode()), facts)
    assert (whole.usage, whole.usage_source) == (Usage(output_images=1), UsageSource.REPORTED)
    long = fill_in(_read(path, json.dumps({"images": ["A" * 400_000] * 2, "error": None}).encode()), facts)
    assert (long.usage, long.usage_source) == (Usage(output_images=2), UsageSource.ESTIMATED)
