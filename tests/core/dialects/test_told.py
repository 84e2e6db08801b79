"""Traps of the dialects that are data: what must not be counted, and what must not be lost."""

import json
from typing import Any

import pytest

from metering.core.dialects import Reading, classify, open_reader, read_request
from metering.core.dialects.windows import KEPT_BYTES_MAX
from metering.core.usage import Meter, Usage, UsageSource, disjoint_meters


def _read(
    path: str, body: Any, provider: str = "", *, method: str = "POST", status: int = 200, **headers: str
) -> Reading:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    reader = open_reader(
        classify(method, path, provider),
        status=status,
        content_type="application/json",
        content_encoding="",
        provider=provider,
        headers=names,
    )
    reader.feed(body if isinstance(body, bytes) else json.dumps(body).encode())
    return reader.finish()


def _sse(*objects: Any) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in objects)


def test_what_cohere_does_not_bill_is_a_meter_of_its_own() -> None:
    usage = {
        "tokens": {"input_tokens": 34, "output_tokens": 70, "image_tokens": 259},
        "billed_units": {"input_tokens": 267, "output_tokens": 66},
    }
    reading = _read("/v2/chat", {"id": "c", "usage": usage})
    assert reading.usage is not None
    assert disjoint_meters(reading.usage) == {
        Meter.UNBILLED_INPUT: 26,
        Meter.IMAGE_INPUT: 259,
        Meter.INPUT: 8,
        Meter.UNBILLED_OUTPUT: 4,
        Meter.OUTPUT: 66,
    }
    assert reading.raw_usage == usage


def test_cohere_says_in_the_last_event_that_it_failed() -> None:
    for reason, failed in (("COMPLETE", False), ("MAX_TOKENS", False), ("ERROR", True), (["ERROR"], False)):
        end = {"type": "message-end", "delta": {"finish_reason": reason, "usage": {"tokens": {"input_tokens": 3}}}}
        assert _read("/v2/chat", _sse(end)).failed is failed


def test_a_long_history_behind_which_the_counts_stand() -> None:
    """Version 1 repeats the whole conversation in its last line: only the line's end is kept."""
    counts = {"tokens": {"input_tokens": 9, "output_tokens": 2}, "billed_units": {"input_tokens": 4}}
    last = {"is_finished": True, "response": {"response_id": "r", "text": "x" * KEPT_BYTES_MAX, "meta": counts}}
    body = b'{"is_finished":false,"event_type":"stream-start"}\n' * 3 + json.dumps(last).encode() + b"\n"
    usage = _read("/v1/chat", body, "cohere").usage
    assert usage == Usage(input_tokens=9, output_tokens=2, billed_input_tokens=4)


def test_what_llamacpp_keeps_in_its_cache_was_not_read_from_it() -> None:
    answer = {"stop": True, "tokens_predicted": 5, "tokens_evaluated": 9, "tokens_cached": 13}
    assert _read("/completion", answer).usage == Usage(input_tokens=9, output_tokens=5)
    timings = {"prompt_n": 9, "cache_n": 0, "predicted_n": 5}
    usage = _read("/completion", answer | {"timings": timings}).usage
    assert usage == Usage(input_tokens=9, output_tokens=5, cache_read_input_tokens=0)


@pytest.mark.parametrize("streamed", [True, False])
def test_llamacpp_repeats_a_long_prompt_before_the_rest_of_the_counts(streamed: bool) -> None:
    answer = {
        "content": "a",
        "stop": True,
        "tokens_predicted": 5,
        "tokens_evaluated": 9,
        "prompt": "x" * KEPT_BYTES_MAX,
    }
    answer |= {"stop_type": "limit", "timings": {"prompt_n": 3, "cache_n": 6, "predicted_n": 5}}
    part = {"content": "a", "stop": False, "tokens_predicted": 1, "tokens_evaluated": 9}
    body = _sse(part, part, part, part, answer) if streamed else json.dumps(answer).encode()
    reading = _read("/completion", body)
    assert reading.usage == Usage(input_tokens=9, output_tokens=5, cache_read_input_tokens=6)
    assert reading.usage_source is UsageSource.REPORTED


def test_a_prediction_is_counted_once_whoever_tells_it() -> None:
    ended = {"id": "p-1", "status": "succeeded", "model": "acme/painter", "metrics": {"predict_time": 0.0125}}
    for method, path in (("POST", "/v1/predictions"), ("GET", "/v1/predictions/p-1")):
        reading = _read(path, ended, method=method)
        assert (reading.once, reading.repeats, reading.response_id) == (True, False, "p-1")
        assert reading.usage == Usage(compute_ms=13)
        assert reading.response_model == "acme/painter"
    assert _read("/v1/predictions", {"id": "p-1", "status": "starting"}).usage_source is UsageSource.UNKNOWN
    for status in ("starting", "processing"):
        look = _read("/v1/predictions/p-1", {"id": "p-1", "status": status}, method="GET")
        assert (look.usage_source, look.once, look.failed) == (UsageSource.NONE, False, False)
    assert _read("/v1/predictions/p-1", {"status": "failed", "metrics": {"predict_time": 1}}, method="GET").failed


def test_channels_that_are_heard_apart_decide_deepgrams_price() -> None:
    for channels, variant in ((1, None), (2, "2 channels"), (None, None)):
        metadata = {"request_id": "d-1", "duration": 10.0004, "channels": channels}
        reading = _read("/v1/listen", {"metadata": metadata})
        assert (reading.usage, reading.variant) == (Usage(audio_input_ms=10_000), variant)
        assert reading.response_id == "d-1"


def test_a_sound_names_its_voice_in_a_header() -> None:
    reading = _read("/v1/speak", b"RIFF", "deepgram", dg_char_count="24", dg_model_name="aura-2-zeus-en")
    assert (reading.usage, reading.usage_source) == (Usage(input_characters=24), UsageSource.HEADER)
    assert reading.response_model == "aura-2-zeus-en"


@pytest.mark.parametrize(("told", "took_ms"), [("0.033", 33), ("412", 412), ("1.5", 1500), ("soon", None)])
def test_seconds_have_a_point_and_milliseconds_none(told: str, took_ms: int | None) -> None:
    usage = _read("/models/org/model", [], "huggingface", x_compute_time=told).usage
    assert (usage and usage.compute_ms) == took_ms


def test_no_word_of_the_answer_is_kept_with_the_counts() -> None:
    details = {"generated_tokens": 1, "tokens": [{"text": "secret"}], "finish_reason": "length"}
    reading = _read("/generate", {"generated_text": "secret", "details": details})
    assert reading.raw_usage == {"details": {"generated_tokens": 1}}
    info = {"prompt_tokens": 3, "completion_tokens": 1, "finish_reason": {"type": "stop", "matched": "secret"}}
    assert "secret" not in str(_read("/generate", {"text": "secret", "meta_info": info}).raw_usage)


def test_answers_to_several_prompts_add_up() -> None:
    one = {"stop": True, "tokens_predicted": 5, "tokens_evaluated": 9, "timings": {"prompt_n": 3, "predicted_ms": 2.5}}
    assert _read("/completion", [one, one, one]).usage == Usage(
        input_tokens=27, output_tokens=15, cache_read_input_tokens=18
    )
    assert _read("/completion", []).usage is None
    assert _read("/completion", [7]).usage is None


def test_a_body_goes_before_a_header_and_a_header_before_nothing() -> None:
    billed = {"billed_units": {"input_tokens": 3}}
    told = _read("/v2/embed", {"meta": billed}, num_tokens="9")
    assert (told.usage, told.usage_source) == (
        Usage(input_tokens=3, billed_input_tokens=3),
        UsageSource.REPORTED,
    )
    untold = _read("/v2/embed", {}, num_tokens="9")
    assert (untold.usage, untold.usage_source) == (Usage(input_tokens=9), UsageSource.HEADER)
    assert _read("/v2/embed", {}, num_tokens="9" * 40).usage is None


def test_watsonx_counts_are_the_largest_of_the_stream() -> None:
    def event(written: int, read: int, reason: str = "not_finished") -> dict[str, Any]:
        result = {"generated_token_count": written, "input_token_count": read, "stop_reason": reason}
        return {"model_id": "ibm/granite", "results": [result]}

    whole = _read("/ml/v1/text/generation_stream", _sse(event(0, 8), event(1, 0), event(2, 0, "eos_token")))
    assert (whole.usage, whole.usage_source) == (Usage(input_tokens=8, output_tokens=2), UsageSource.REPORTED)
    cut = _read("/ml/v1/text/generation_stream", _sse(event(0, 8), event(1, 0)))
    assert (cut.usage, cut.usage_source) == (Usage(input_tokens=8, output_tokens=1), UsageSource.PARTIAL)
    odd = {"results": [7, {"generated_token_count": "many", "stop_reason": []}]}
    assert _read("/ml/v1/text/generation", odd).usage is None


def test_watsonx_names_its_model_in_another_member() -> None:
    operation = classify("POST", "/ml/v1/text/chat", "watsonx")
    assert read_request(operation, b'{"model_id":"ibm/granite"}').model == "ibm/granite"
    version = read_request(classify("POST", "/v1/predictions"), b'{"version":"abc","input":{}}')
    assert version.model == "abc"
