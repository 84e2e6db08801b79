"""Recorded streams whose last event is the usage that was asked for, called without asking, on a route that asks.

The upstream does as providers do: it tells the usage if the request asks for it, and else leaves that event out.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from metering.core.usage import UsageSource
from tests.clients.conftest import new_trace
from tests.replay.drivers import chat, outcome
from tests.replay.recorded import OURS, SHARED, Recorded, check_rows, load
from tests.replay.stage import open_stage


def is_usage_event(frame: bytes) -> bool:
    data = frame.replace(b"\r", b"").strip().removeprefix(b"data:")
    try:
        chunk: Any = json.loads(data)
    except ValueError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and bool(chunk.get("usage"))


def unasked(body: bytes) -> bytes:
    """A stream without the event that tells the usage."""
    separator = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
    *frames, last = body.split(separator)
    ended = [*(frame + separator for frame in frames), last]
    return b"".join(frame for frame in ended if not is_usage_event(frame))


def written(recorded: Recorded, request: bytes) -> bytes:
    body = recorded.recording.body
    return body if b'"include_usage":true' in request else unasked(body)


@pytest.mark.parametrize("folder", [OURS, SHARED], ids=["ours", "shared"])
def test_the_sdk_sees_what_it_would_have_seen_and_usage_is_reported(tmp_path: Path, folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"no recordings beside the project: {folder} is absent")
    exchanges = [
        recorded
        for recorded in load(folder)
        if recorded.recording.operation.dialect == "openai.chat"
        and recorded.path.partition("?")[0].endswith("/chat/completions")
        and recorded.streamed
        and unasked(recorded.recording.body) != recorded.recording.body
    ]
    assert exchanges
    traces: dict[str, Recorded] = {}
    with open_stage(tmp_path, exchanges, route='ask_usage = "on"', written=written) as stage:
        for recorded in exchanges:
            trace_id, headers = new_trace()
            direct = outcome(chat, stage.base(recorded, direct=True), recorded, headers)
            assert outcome(chat, stage.base(recorded, direct=False), recorded, headers) == direct, recorded.name
            traces[trace_id] = recorded
        events = stage.events()
    for trace_id, recorded in traces.items():
        assert check_rows(events[trace_id], recorded) == [], recorded.name
        if recorded.recording.expected_usage:
            assert events[trace_id][0].usage_source in (UsageSource.REPORTED, UsageSource.PARTIAL), recorded.name
