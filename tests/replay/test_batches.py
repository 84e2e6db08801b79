"""A batch from its creation to its results, by Anthropic's SDK, which fetches them from where the batch says."""

import json
from pathlib import Path
from typing import Any

from anthropic import Anthropic

from metering.core.usage import UsageSource
from tests.clients.conftest import new_trace
from tests.replay.media_drivers import HTTP, MESSAGES
from tests.replay.recorded import OURS, Recorded, load
from tests.replay.stage import Stage, open_stage

BATCH = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 2, "errored": 0, "canceled": 0, "expired": 1},
    "created_at": "2026-08-19T14:47:10Z",
    "expires_at": "2026-08-20T14:47:10Z",
}


def test_a_batch_is_counted_by_its_results_only(tmp_path: Path) -> None:
    results = next(each for each in load(OURS) if each.name == "anthropic.batches.results/results.json")
    poll = Recorded(results.number + 10_000, "poll", results.recording)
    opened: list[tuple[Stage, bool]] = []

    def written(recorded: Recorded, _: bytes) -> bytes:
        if recorded is results:
            return results.recording.body
        stage, direct = opened[-1]
        return json.dumps(BATCH | {"results_url": stage.base(results, direct=direct) + results.path}).encode()

    def batch(*, direct: bool, headers: dict[str, str]) -> list[Any]:
        opened.append((stage, direct))
        client = Anthropic(base_url=stage.base(poll, direct=direct), api_key="sk-client", default_headers=headers,
                           max_retries=0, http_client=HTTP)  # fmt: skip
        asked: Any = {"custom_id": "r-0", "params": {"model": "m", "max_tokens": 9, "messages": MESSAGES}}
        batches = client.messages.batches
        told: list[Any] = [batches.create(requests=[asked]), batches.retrieve("msgbatch_1")]
        told += batches.results("msgbatch_1")
        return [each.model_dump(warnings=False) for each in told]

    trace_id, headers = new_trace()
    with open_stage(tmp_path, [results, poll], written=written) as stage:
        direct, through = (batch(direct=direct, headers=headers) for direct in (True, False))
        events = stage.events()[trace_id]
    for answers in (direct, through):  # where the results are is the one thing that differs
        assert all(answers[at].pop("results_url") for at in (0, 1))
    assert through == direct
    assert [event.usage_source for event in events] == [UsageSource.NONE] * 3 + [UsageSource.REPORTED]
    told = events[-1]
    assert told.usage is not None
    assert (told.usage.input_tokens, told.usage.output_tokens, told.service_tier) == (55, 9, "batch")
    assert (told.once, told.response_id, told.response_model) == (True, "msgbatch_1", "claude-haiku-4-5")
