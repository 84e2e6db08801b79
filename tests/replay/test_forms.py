"""Forms as the SDK writes them, larger than what is kept of a request: the row has what their fields say."""

from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.clients.conftest import new_trace
from tests.replay.media_drivers import HTTP
from tests.replay.recorded import OURS, load
from tests.replay.stage import open_stage

LONG = ("a.wav", b"RIFF\r\n--\r\n" * 70_000)
FIELDS: dict[str, Any] = {"model": "asked-for", "prompt": "hi"}


# Our recording → whether it is asked for as a stream, and further fields.
CASES: dict[str, tuple[bool, dict[str, Any]]] = {
    "openai.audio.transcriptions/stream": (True, {}),
    "openai.audio.transcriptions/body_seconds": (False, {}),
    "openai.images/body_tokens": (False, {"n": 2, "size": "1024x1024", "quality": "low"}),
}


def test_a_large_form_tells_its_model(tmp_path: Path) -> None:
    forms = [(each, *case) for each in load(OURS) if (case := CASES.get(each.name.removesuffix(".json")))]
    traces: dict[str, tuple[bool, dict[str, Any]]] = {}
    with open_stage(tmp_path, [recorded for recorded, *_ in forms]) as stage:
        for recorded, streamed, more in forms:
            trace_id, headers = new_trace()
            traces[trace_id] = streamed, more
            base = f"{stage.base(recorded, direct=False)}/v1"
            client = OpenAI(base_url=base, api_key="k", default_headers=headers, max_retries=0, http_client=HTTP)
            if more:
                client.images.edit(image=LONG, **FIELDS, **more)
            elif streamed:
                assert list(client.audio.transcriptions.create(file=LONG, stream=True, **FIELDS))
            else:
                client.audio.transcriptions.create(file=LONG, **FIELDS)
        events = stage.events()
    assert len(traces) == len(CASES)
    for trace_id, (streamed, more) in traces.items():
        (event,) = events[trace_id]
        assert event.request_bytes > len(LONG[1])
        assert (event.request_model, event.streamed) == ("asked-for", streamed)
        assert event.variant == ("1024x1024 low" if more else None)
