"""Batches: told once whoever tells it, summed by model, in bounded memory however long the results are."""

import json
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.core.dialects import Reading, classify, open_reader
from metering.core.dialects.totals import MODELS_MAX, Totals
from metering.core.dialects.windows import KEPT_BYTES_MAX
from metering.core.usage import Usage, UsageSource
from metering.jobs.check_dialects import Recording

RECORDINGS = Path(__file__).parents[2] / "recordings"
RESULTS = classify("GET", "/v1/files/file-out/content")


def stored(name: str) -> Reading:
    recording = msgspec.json.decode((RECORDINGS / f"{name}.json").read_bytes(), type=Recording)
    reader = open_reader(
        recording.operation,
        status=recording.status or 0,
        content_type="application/json",
        content_encoding="",
        provider=recording.provider,
    )
    reader.feed(recording.body)
    return reader.finish()


def line(number: int, usage: dict[str, Any], model: str = "gpt-5-nano", **body: Any) -> bytes:
    answer = {"object": "list", **body, "model": model, "usage": usage}
    told = {"custom_id": f"r-{number}", "response": {"status_code": 200, "body": answer}, "error": None}
    return json.dumps(told).encode() + b"\n"


def test_a_batch_and_its_results_tell_the_same_under_one_name() -> None:
    batch, results = stored("openai.batches/completed"), stored("openai.files.content/results")
    assert (batch.once, batch.response_id) == (results.once, results.response_id) == (True, "file-out")
    inline, of_file = stored("mistral.batches/finished_inline"), stored("openai.files.content/results_of_ocr")
    assert [(other.once, other.response_id) for other in inline.others] == [(True, "f-out")]
    assert (of_file.once, of_file.response_id) == (True, "f-out")


def test_a_batch_that_runs_counts_nothing_yet() -> None:
    for name in ("created", "running", "running_in_part"):
        reading = stored(f"openai.batches/{name}")
        assert (reading.once, reading.repeats, reading.usage_source) == (False, False, UsageSource.NONE)


def test_the_answers_of_a_batch_at_mistral_are_a_row_beside_the_poll() -> None:
    poll = stored("mistral.batches/finished_inline")
    assert (poll.usage, poll.usage_source) == (None, UsageSource.NONE)
    (answers,) = poll.others
    assert answers.usage == Usage(input_tokens=47, output_tokens=5)
    assert (answers.response_model, answers.service_tier) == ("mistral-small-latest", "batch")


def test_each_answer_of_a_page_at_xai_is_a_row_with_its_own_cost() -> None:
    page = stored("xai.batches.results/page")
    assert [other.response_id for other in page.others] == ["c-0", "c-1"]
    assert {other.usage for other in page.others} == {
        Usage(input_tokens=204, output_tokens=83, cache_read_input_tokens=192, reasoning_output_tokens=82)
    }
    assert all((other.once, other.service_tier) == (True, "batch") for other in page.others)
    assert page.others[0].reported_cost == Decimal("0.00022448")


def test_results_are_summed_by_model_the_main_one_first() -> None:
    results = stored("openai.files.content/results_of_two_models")
    assert (results.response_model, results.response_id) == ("large", "file-out")
    (other,) = results.others
    assert (other.response_model, other.usage) == ("small", Usage(input_tokens=20, output_tokens=5))
    assert (other.response_id, other.once) == ("file-out:small", True)  # it must not count as the main one again


def test_an_advisor_in_a_batch_is_summed_under_its_own_model() -> None:
    results = stored("anthropic.batches.results/results_with_an_advisor")
    assert results.response_model == "claude-opus-4-8"
    assert [other.response_model for other in results.others] == ["claude-haiku-4-5"]
    assert results.response_id == "msgbatch_1"


def test_a_file_of_any_length_is_summed_in_bounded_memory() -> None:
    text = line(0, {"prompt_tokens": 3, "completion_tokens": 1}, choices=["x" * 2000]) * 32
    reader = open_reader(RESULTS, status=200, content_type="", content_encoding="")
    reader.feed(text)  # what is made once is there
    tracemalloc.start()
    try:
        for _ in range(600):  # 40 MB
            reader.feed(text[:40_000])
            reader.feed(text[40_000:])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.finish().usage == Usage(input_tokens=3 * 32 * 601, output_tokens=32 * 601)
    assert peak < 4 * KEPT_BYTES_MAX


def test_a_line_that_is_too_long_to_be_kept_tells_by_its_ends() -> None:
    numbers = [{"embedding": [0.125] * 100_000}]
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    answers = line(0, usage, data=numbers), line(1, usage, data=[])
    assert len(answers[0]) > KEPT_BYTES_MAX
    reader = open_reader(RESULTS, status=200, content_type="", content_encoding="")
    for start in range(0, len(answers[0]), 60_000):
        reader.feed(answers[0][start : start + 60_000])
    reader.feed(answers[1])
    reading = reader.finish()
    assert (reading.usage, reading.usage_source) == (Usage(input_tokens=12), UsageSource.REPORTED)
    message = {"model": "claude", "content": ["x" * KEPT_BYTES_MAX], "usage": {"input_tokens": 5, "output_tokens": 2}}
    reader = open_reader(
        classify("GET", "/v1/messages/batches/b-1/results"), status=200, content_type="", content_encoding=""
    )
    reader.feed(json.dumps({"custom_id": "r", "result": {"type": "succeeded", "message": message}}).encode())
    assert reader.finish().usage == Usage(input_tokens=5, output_tokens=2)


@pytest.mark.parametrize("first", [b"\x00" * 400_000, b"[1]\n", b"{}\n", b'{"custom_id":7}\n', b'{"custom_id":"a"}\n'])
def test_another_kind_of_file_is_let_go_at_its_first_line(first: bytes) -> None:
    reader = open_reader(RESULTS, status=200, content_type="", content_encoding="")
    reader.feed(first)
    reader.feed(b"\n" + line(0, {"prompt_tokens": 3}))
    assert (reading := reader.finish()).usage is None
    assert reading.usage_source is UsageSource.NONE


def test_a_compressed_file_that_breaks_counts_nothing() -> None:
    reader = open_reader(RESULTS, status=200, content_type="", content_encoding="compress")
    reader.feed(line(0, {"prompt_tokens": 3}))
    assert reader.finish().usage is None


def test_models_beyond_the_bound_count_together() -> None:
    totals = Totals()
    for number in range(MODELS_MAX + 5):
        totals.add(f"model-{number}", Usage(input_tokens=1))
    readings = totals.readings("f", "batch")
    assert len(readings) == MODELS_MAX + 1
    assert sum(reading.usage.input_tokens or 0 for reading in readings if reading.usage) == MODELS_MAX + 5
