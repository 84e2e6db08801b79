"""The emulator speaks three dialects as the real ones do, tells exact usage, and breaks when asked to."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions"
ASKED = {"x-emulate-input-tokens": "1234", "x-emulate-output-tokens": "56", "x-emulate-cached-tokens": "34"}


@pytest.fixture(scope="module")
def client(emulator_port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{emulator_port}", timeout=10) as client:
        yield client


def body_of(path: str, **fields: Any) -> dict[str, Any]:
    if path in (CHAT, "/v1/messages", "/api/chat"):
        return {"model": "m", "messages": [{"role": "user", "content": "three words here"}], **fields}
    text = "input" if path == "/v1/responses" else "prompt"
    return {"model": "m", text: "three words here", **fields}


def sse(answer: httpx.Response) -> list[Any]:
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    return [json.loads(event) for event in events if event != "[DONE]"]


def usage_of(path: str, answer: Any) -> tuple[int, int, int]:
    """(inclusive input, output, cached) as each dialect tells them."""
    if path.startswith("/api/"):
        return answer["prompt_eval_count"], answer.get("eval_count", 0), answer.get("prompt_eval_cached_count", 0)
    usage = answer["usage"]
    if path == "/v1/messages":
        cached = usage["cache_read_input_tokens"]
        return usage["input_tokens"] + cached, usage["output_tokens"], cached
    if path == "/v1/responses":
        return usage["input_tokens"], usage["output_tokens"], usage["input_tokens_details"]["cached_tokens"]
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return usage["prompt_tokens"], usage.get("completion_tokens", 0), cached


@pytest.mark.parametrize(
    "path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate"]
)
def test_usage_is_what_the_headers_ask_for(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=body_of(path, stream=False), headers=ASKED)
    assert answer.status_code == 200
    assert usage_of(path, answer.json()) == (1234, 56, 34)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/api/chat", "/v1/responses"])
def test_without_headers_words_are_counted(client: httpx.Client, path: str) -> None:
    assert usage_of(path, client.post(path, json=body_of(path, stream=False)).json()) == (3, 12, 0)


def test_the_answer_is_never_longer_than_allowed(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=body_of(CHAT, max_tokens=5)).json()
    assert answer["usage"]["completion_tokens"] == 5
    assert len(answer["choices"][0]["message"]["content"].split()) == 5


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
def test_embeddings_have_no_output(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={"model": "m", "input": ["one two", "three"]}, headers=ASKED).json()
    assert usage_of(path, answer) == (1234, 0, 0)
    assert len(answer["data"] if path.startswith("/v1") else answer["embeddings"]) == 2


@pytest.mark.parametrize(("path", "include"), [(CHAT, True), (CHAT, False), ("/v1/completions", True)])
def test_openai_streams_tell_usage_only_if_asked(client: httpx.Client, path: str, include: bool) -> None:
    body = body_of(path, stream=True, **({"stream_options": {"include_usage": True}} if include else {}))
    answer = client.post(path, json=body, headers={**ASKED, "x-emulate-chunks": "7"})
    events = sse(answer)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    told = [event for event in events if event.get("usage")]
    assert [event["choices"] for event in told] == ([[]] if include else [])
    if include:
        assert usage_of(path, told[0]) == (1234, 56, 34)
    else:
        assert not any("usage" in event for event in events)


def chat_text(events: list[Any]) -> list[str]:
    return [event["choices"][0]["delta"].get("content", "") for event in events if event["choices"]]


def test_a_stream_comes_in_as_many_pieces_as_asked_for_and_says_what_the_whole_answer_says(
    client: httpx.Client,
) -> None:
    whole = client.post(CHAT, json=body_of(CHAT), headers=ASKED).json()["choices"][0]["message"]["content"]
    streamed = sse(client.post(CHAT, json=body_of(CHAT, stream=True), headers={**ASKED, "x-emulate-chunks": "7"}))
    pieces = [piece for piece in chat_text(streamed) if piece]
    assert len(pieces) == 7
    assert "".join(pieces) == whole
    assert len(whole.split()) == 56


def test_anthropic_streams_tell_input_first_and_the_whole_last(client: httpx.Client) -> None:
    answer = client.post("/v1/messages", json=body_of("/v1/messages", stream=True), headers=ASKED)
    events = sse(answer)
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    assert events[0]["message"]["usage"]["input_tokens"] == 1200
    assert usage_of("/v1/messages", events[-2]) == (1234, 56, 34)


def test_responses_streams_number_their_events_and_end_with_usage(client: httpx.Client) -> None:
    events = sse(client.post("/v1/responses", json=body_of("/v1/responses", stream=True), headers=ASKED))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    assert usage_of("/v1/responses", events[-1]["response"]) == (1234, 56, 34)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_ollama_streams_unless_told_otherwise(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=body_of(path), headers=ASKED)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert usage_of(path, lines[-1]) == (1234, 56, 34)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/api/chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_the_same_request_gets_the_same_bytes(client: httpx.Client, path: str, stream: bool) -> None:
    first, second = (client.post(path, json=body_of(path, stream=stream)).content for _ in range(2))
    assert first == second


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/api/chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_answer_breaks_off(client: httpx.Client, path: str, stream: bool) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(path, json=body_of(path, stream=stream), headers={"x-emulate-fault": "cut"})


def test_a_stalled_stream_says_half_and_then_nothing(client: httpx.Client) -> None:
    faulty = {"x-emulate-fault": "stall"}
    with client.stream("POST", CHAT, json=body_of(CHAT, stream=True), headers=faulty, timeout=0.3) as answer:
        chunks = answer.iter_raw()
        half = next(chunks)
        with pytest.raises(httpx.ReadTimeout):
            b"".join(chunks)
    assert half.startswith(b"data: ")
    assert b"[DONE]" not in half


@pytest.mark.parametrize(("path", "status"), [(CHAT, 500), ("/v1/messages", 529), ("/api/chat", 500)])
def test_errors_have_the_dialects_shape(client: httpx.Client, path: str, status: int) -> None:
    answer = client.post(path, json=body_of(path, stream=False), headers={"x-emulate-fault": "error"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert isinstance(error, str) if path == "/api/chat" else error["message"]


@pytest.mark.parametrize(
    ("path", "marker"), [(CHAT, '"error":'), ("/v1/messages", "event: error"), ("/api/chat", '{"error":')]
)
def test_an_error_in_a_stream_comes_after_status_200(client: httpx.Client, path: str, marker: str) -> None:
    answer = client.post(path, json=body_of(path, stream=True), headers={"x-emulate-fault": "error"})
    assert answer.status_code == 200
    assert marker in answer.text.rstrip().splitlines()[-1] + answer.text
    assert '"done":true' not in answer.text
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/completions"])
def test_usage_can_be_left_out(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=body_of(path), headers={"x-emulate-fault": "no-usage"})
    assert "usage" not in answer.json()


@pytest.mark.parametrize(
    ("path", "body", "headers", "said"),
    [
        (CHAT, b"{", {}, "not a request"),
        ("/v1/messages", b'{"model":5}', {}, "model"),
        (CHAT, b"{}", {"x-emulate-output-tokens": "-1"}, "x-emulate-output-tokens"),
        (CHAT, b"{}", {"x-emulate-fault": "burn"}, "burn"),
    ],
)
def test_a_bad_request_gets_a_sentence(
    client: httpx.Client, path: str, body: bytes, headers: dict[str, str], said: str
) -> None:
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_unknown_paths_and_methods_are_refused(client: httpx.Client) -> None:
    assert client.post("/v2/nothing", json={}).status_code == 404
    assert client.get(CHAT).status_code == 405
    assert client.get("/v1/models").json()["data"][0]["id"] == "emulated"


def test_two_requests_in_one_connection_and_a_body_in_pieces(emulator_port: int) -> None:
    body = json.dumps(body_of(CHAT)).encode()
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % (CHAT.encode(), len(body))
    with socket.create_connection(("127.0.0.1", emulator_port), timeout=5) as line:
        line.sendall(head + b"\r\n" + body[:10])
        line.sendall(body[10:])
        first = line.recv(65536)
        line.sendall(head + b"connection: close\r\n\r\n" + body)
        second = b"".join(iter(lambda: line.recv(65536), b""))
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in second
    assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2]
