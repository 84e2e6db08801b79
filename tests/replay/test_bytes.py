"""Every recorded exchange through the relay: the bytes are the upstream's, and one row has the expected usage."""

import http.client
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.clients.conftest import new_trace
from tests.replay.recorded import OURS, SHARED, Recorded, check_rows, load
from tests.replay.stage import Stage, open_stage


def ask(stage: Stage, recorded: Recorded, *, direct: bool, headers: dict[str, str]) -> tuple[object, ...]:
    """Send the recorded request; status, headers and body of the answer."""
    base = urlsplit(stage.base(recorded, direct=direct))
    assert base.hostname
    connection = http.client.HTTPConnection(base.hostname, base.port, timeout=20)
    method = recorded.recording.method
    sent = json.dumps(recorded.recording.request_body).encode() if method == "POST" else None
    try:
        connection.request(method, base.path + recorded.path, sent, headers)
        answer = connection.getresponse()
        return answer.status, answer.reason, answer.getheaders(), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("folder", [OURS, SHARED], ids=["ours", "shared"])
def test_bytes_are_the_same_and_one_row_is_right(tmp_path: Path, folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"no recordings beside the project: {folder} is absent")
    exchanges = list(load(folder))
    traces: dict[str, Recorded] = {}
    with open_stage(tmp_path, exchanges) as stage:
        for recorded in exchanges:
            trace_id, headers = new_trace()
            headers["content-type"] = "application/json"
            traces[trace_id] = recorded
            direct = ask(stage, recorded, direct=True, headers=headers)
            assert ask(stage, recorded, direct=False, headers=headers) == direct, recorded.name
        events = stage.events()
    wrong = {
        recorded.name: found
        for trace_id, recorded in traces.items()
        if (found := check_rows(events.get(trace_id, []), recorded))
    }
    assert wrong == {}
