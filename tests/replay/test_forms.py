"""Forms as the SDK writes them, larger than what is kept of a request: the row has what their fields say."""

from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.clients.conftest import new_trace
from tests.replay.media_drivers import HTTP
from tests.replay.recorded import OURS, load
from tests.replay.stage import open_stage

LONG = ("a.wav", b"RIFF\r\n--\r\n" * 70_000)
FIELDS: dict[str, Any] = {"model": "asked-for", "prompt": "hi"}


@pytest.mark.parametrize(
    ("name", "streamed", "more"),
    [
        ("openai.audio.transcriptions/stream", True, {}),
        ("openai.audio.transcriptions/body_seconds", False, {}),
        ("openai.images/body_tokens", False, {"n": 2, "size": "1024x1024", "quality": "low"}),
    ],
)
def test_a_large_form_tells_its_model(tmp_path: Path, name: str, streamed: bool, more: dict[str, Any]) -> None:
    recorded = next(each for each in load(OURS) if each.name == f"{name}.json")
    trace_id, headers = new_trace()
    with open_stage(tmp_path, [recorded]) as stage:
        base = f"{stage.base(recorded, direct=False)}/v1"
        client = OpenAI(base_url=base, api_key="sk-client", default_headers=headers, max_retries=0, http_client=HTTP)
        if more:
            client.images.edit(image=LONG, **FIELDS, **more)
        elif streamed:
            assert list(client.audio.transcriptions.create(file=LONG, stream=True, **FIELDS))
        else:
            client.audio.transcriptions.create(file=LONG, **FIELDS)
        (event,) = stage.events()[trace_id]
    assert event.request_bytes > len(LONG[1])
    assert (event.request_model, event.streamed) == ("asked-for", streamed)
    assert event.variant == ("1024x1024 low" if more else None)
