"""What is polled: runs, trainings, films, deferred completions. Told once, by the object's own id, after its end."""

import json
from decimal import Decimal
from typing import Any

import pytest

from metering.core.dialects import Reading, classify, read_whole
from metering.core.usage import Usage, UsageSource


def look(
    path: str, answer: dict[str, Any], provider: str = "openai", method: str = "GET", status: int = 200
) -> Reading:
    operation = classify(method, path, provider)
    assert operation.consumes is None
    body = json.dumps(answer).encode()
    return read_whole(
        operation, status=status, content_type="application/json", content_encoding="", body=body, provider=provider
    )


RUN = {"id": "run_1", "object": "thread.run", "model": "gpt-4o", "usage": None}
USED = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired", "incomplete"])
def test_a_run_tells_once_when_it_has_ended(status: str) -> None:
    reading = look("/v1/threads/t/runs/run_1", RUN | {"status": status, "usage": USED})
    assert (reading.usage, reading.once, reading.response_id) == (Usage(input_tokens=7, output_tokens=2), True, "run_1")
    assert (reading.repeats, reading.usage_source) == (False, UsageSource.REPORTED)


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action", "cancelling", "new", None, 7])
def test_a_run_that_goes_on_tells_nothing(status: object) -> None:
    for usage in (None, USED):  # what it took so far is told again at its end
        reading = look("/v1/threads/t/runs/run_1", RUN | {"status": status, "usage": usage})
        assert (reading.usage, reading.once, reading.usage_source) == (None, False, UsageSource.NONE)


def test_a_step_of_a_run_is_a_part_of_it() -> None:
    step = {"id": "step_1", "object": "thread.run.step", "status": "completed", "usage": USED}
    assert look("/v1/threads/t/runs/run_1", step).usage is None


def test_a_training_is_its_base_models_tokens_under_a_variant() -> None:
    job = {"id": "ftjob-1", "model": "gpt-4o-mini", "status": "succeeded", "trained_tokens": 5768}
    reading = look("/v1/fine_tuning/jobs/ftjob-1", job)
    assert (reading.usage, reading.variant, reading.response_model) == (
        Usage(input_tokens=5768),
        "training",
        "gpt-4o-mini",
    )
    assert (reading.once, reading.response_id, reading.raw_usage) == (True, "ftjob-1", {"trained_tokens": 5768})
    assert look("/v1/fine_tuning/jobs/ftjob-1", job | {"status": "running"}).usage_source is UsageSource.NONE


def test_films_are_milliseconds_of_a_size() -> None:
    film = {"id": "video_1", "object": "video", "model": "sora-2", "status": "completed", "seconds": "8"}
    reading = look("/v1/videos/video_1", film | {"size": "1280x720"})
    assert (reading.usage, reading.variant) == (Usage(video_output_ms=8000), "1280x720")
    assert (reading.once, reading.response_id) == (True, "video_1")
    assert look("/v1/videos/video_1", film | {"status": "failed"}).usage is None
    job = {"id": "task_1", "status": "succeeded", "model": "sora", "n_seconds": 5, "n_variants": 2}
    reading = look("/openai/v1/video/generations/jobs/task_1", job | {"height": 480, "width": 854}, "azure")
    assert (reading.usage, reading.variant) == (Usage(video_output_ms=10_000), "854x480")


def test_xai_names_a_film_in_the_path_only() -> None:
    film = {"status": "done", "video": {"duration": 6}, "model": "grok-imagine-video"}
    reading = look("/v1/videos/v-1", film | {"usage": {"cost_in_usd_ticks": 3_000_000_000}}, "xai")
    assert (reading.usage, reading.once, reading.response_id) == (Usage(video_output_ms=6000), True, "v-1")
    assert reading.reported_cost == Decimal("0.3")
    assert look("/v1/videos/v-1", {"status": "pending"}, "xai", status=202).usage_source is UsageSource.NONE


def test_a_deferred_completion_tells_once_when_it_is_there() -> None:
    completion = {"id": "c-1", "model": "grok-4", "choices": [], "usage": USED}
    reading = look("/v1/chat/deferred-completion/d-1", completion, "xai")
    assert (reading.usage, reading.once, reading.response_id) == (Usage(input_tokens=7, output_tokens=2), True, "c-1")


def test_a_background_response_tells_once_at_every_look() -> None:
    response = {"id": "resp_1", "status": "completed", "background": True, "model": "gpt-5", "usage": USED}
    reading = look("/v1/responses/resp_1", response)
    assert (reading.once, reading.repeats, reading.response_id) == (True, False, "resp_1")
    assert look("/v1/responses/resp_1", response | {"background": False}).repeats
