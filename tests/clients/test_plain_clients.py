"""curl, requests, httpx and node's fetch through the sidecar: the same bytes and headers, broken answers included."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from metering.lab.programs import ask_command
from tests.clients.conftest import Office, new_trace

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say it."}]}
STREAM = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
ASKED = {"x-emulate-input-tokens": "21", "x-emulate-output-tokens": "1500"}


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_curl_gets_the_same_bytes(office: Office, body: dict[str, Any]) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl on this machine")
    trace_id, trace = new_trace()
    answers = []
    for direct in (True, False):
        headers = [f"{name}: {value}" for name, value in {**ASKED, **trace, "x-team": "curl"}.items()]
        asked = [word for header in headers for word in ("-H", header)]
        url = office.base("/openai", direct=direct) + CHAT
        done = subprocess.run(
            [curl, "-sS", "--fail", "-N", "-i", *asked, "--json", json.dumps(body), url],
            capture_output=True,
            check=True,
        )
        answers.append(done.stdout)
    assert answers[0] == answers[1]
    row = office.row(trace_id)
    assert (row["team"], row["input_tokens"], row["output_tokens"]) == ("curl", 21, 1500)


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_requests_gets_the_same_bytes_and_headers(office: Office, body: dict[str, Any]) -> None:
    trace_id, trace = new_trace()
    with requests.Session() as session:
        direct, through = (
            session.post(office.base("/openai", direct=direct) + CHAT, json=body, headers={**ASKED, **trace})
            for direct in (True, False)
        )
    assert through.content == direct.content
    assert dict(through.headers) == dict(direct.headers)
    assert office.row(trace_id)["output_tokens"] == 1500


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_httpx_gets_the_same_pieces_over_kept_connections(office: Office, body: dict[str, Any]) -> None:
    trace_id, trace = new_trace()
    seen: list[list[Any]] = []
    for direct in (True, False):
        url = office.base("/openai", direct=direct) + CHAT
        with httpx.Client(limits=httpx.Limits(max_connections=1)) as client:
            for _ in range(3):
                with client.stream("POST", url, json=body, headers={**ASKED, **trace}) as answer:
                    seen.append([answer.status_code, answer.headers.raw, list(answer.iter_lines())])
    assert seen[:3] == seen[3:]
    assert [row["output_tokens"] for row in office.rows(trace_id, 3)] == [1500] * 3


def test_requests_streams_a_body_of_unknown_length(office: Office) -> None:
    trace_id, trace = new_trace()
    sent = json.dumps(BODY).encode()
    with requests.Session() as session:
        direct, through = (
            session.post(
                office.base("/openai", direct=direct) + CHAT,
                data=iter((sent[:20], sent[20:])),
                headers={**ASKED, **trace, "content-type": "application/json"},
            )
            for direct in (True, False)
        )
    assert through.content == direct.content
    row = office.row(trace_id)
    assert (row["request_model"], row["output_tokens"]) == ("gpt-4o", 1500)


def fetch(office: Office, body: dict[str, Any], headers: dict[str, str], *, leave: bool = False) -> list[Any]:
    """What node's fetch makes of a call, without the sidecar and then through it; `leave`: through it alone."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    urls = [office.base("/openai", direct=direct) + CHAT for direct in ((False,) if leave else (True, False))]
    asked = {"urls": urls, "headers": {**ASKED, **headers}, "body": json.dumps(body), "leave": leave}
    script = Path(__file__).with_name("fetch.mjs")
    done = subprocess.run([node, str(script), json.dumps(asked)], capture_output=True, check=True)
    answers: list[Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_fetch_gets_the_same_over_kept_connections(office: Office, body: dict[str, Any]) -> None:
    trace_id, trace = new_trace()
    answers = fetch(office, body, {**trace, "content-type": "application/json"})
    assert answers[0]["status"] == 200
    assert answers[:3] == answers[3:]
    assert [row["output_tokens"] for row in office.rows(trace_id, 3)] == [1500] * 3


def test_fetch_that_is_aborted_leaves_an_aborted_row(office: Office) -> None:
    trace_id, trace = new_trace()
    fetch(office, STREAM, {**trace, "x-emulate-pace-ms": "50", "x-emulate-chunks": "200"}, leave=True)
    assert office.row(trace_id)["outcome"] == "aborted"


def test_httpx_gets_the_dialects_own_error_and_nothing_is_charged(office: Office) -> None:
    trace_id, trace = new_trace()
    faulty = {**trace, "x-emulate-fault": "error"}
    body = {**BODY, "max_tokens": 9}
    direct, through = (
        httpx.post(office.base("/anthropic", direct=direct) + "/v1/messages", json=body, headers=faulty)
        for direct in (True, False)
    )
    assert (through.status_code, through.content) == (direct.status_code, direct.content) == (529, direct.content)
    row = office.row(trace_id)
    assert (row["outcome"], row["status"], row["input_tokens"], row["request_quantity"]) == ("failed", 529, None, None)


def test_an_error_inside_a_stream_is_a_failed_call(office: Office) -> None:
    trace_id, trace = new_trace()
    url = office.base("/anthropic", direct=False) + "/v1/messages"
    answer = httpx.post(url, json={**STREAM, "max_tokens": 9}, headers={**ASKED, **trace, "x-emulate-fault": "error"})
    assert answer.status_code == 200
    row = office.row(trace_id)
    assert row["outcome"] == "failed"
    assert (row["usage_source"], row["input_tokens"]) == ("partial", 21)


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_an_answer_that_breaks_off_breaks_off_here_too(office: Office, body: dict[str, Any]) -> None:
    trace_id, trace = new_trace()
    url = office.base("/openai", direct=False) + CHAT
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(url, json=body, headers={**ASKED, **trace, "x-emulate-fault": "cut"})
    row = office.row(trace_id)
    assert (row["outcome"], row["usage_source"], row["input_tokens"]) == ("failed", "unknown", None)


def test_a_client_that_hangs_up_leaves_an_aborted_row(office: Office) -> None:
    trace_id, trace = new_trace()
    url = office.base("/anthropic", direct=False) + "/v1/messages"
    slow = {**ASKED, **trace, "x-emulate-pace-ms": "50", "x-emulate-chunks": "200"}
    with httpx.stream("POST", url, json={**STREAM, "max_tokens": 9}, headers=slow) as answer:
        next(answer.iter_raw())
    row = office.row(trace_id)
    assert (row["outcome"], row["usage_source"], row["input_tokens"]) == ("aborted", "partial", 21)


def test_what_was_booked_is_counted_and_the_books_balance(office: Office) -> None:
    trace_id, trace = new_trace()
    httpx.post(office.base("/openai", direct=False) + CHAT, json=BODY, headers={**ASKED, **trace, "x-team": "balance"})
    period = office.row(trace_id)["started_at"]
    ask_command(["count"], office.stack.environ)
    statement = ask_command(["report", "--period", f"{period:%Y-%m}", "--by", "team"], office.stack.environ)
    (line,) = (line for line in statement["lines"] if line["name"] == "balance")
    assert (line["calls"], line["tokens"]) == (1, 1521)
    assert all(check["holds"] for check in ask_command(["verify"], office.stack.environ))
