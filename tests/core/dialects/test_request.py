import json

import pytest

from metering.core.dialects import RequestFacts, classify, read_request

CHAT = classify("POST", "/v1/chat/completions")
OLLAMA = classify("POST", "/api/chat")
AZURE = classify("POST", "/openai/deployments/mine/chat/completions")


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (b'{"model":"gpt-4o","messages":[],"stream":true}', RequestFacts("gpt-4o", streamed=True)),
        (b'{"messages":[],"model":"gpt-4o"}', RequestFacts("gpt-4o", streamed=False)),
        (b'{"model":17,"stream":"yes"}', RequestFacts(None, None)),
        (b"not json", RequestFacts(None, None)),
        (b"", RequestFacts(None, None)),
        (b"[]", RequestFacts(None, None)),
        (b"[" * 100_000, RequestFacts(None, None)),
    ],
)
def test_facts_of_a_whole_body(body: bytes, facts: RequestFacts) -> None:
    assert read_request(CHAT, body) == facts


def test_ollama_streams_unless_told_otherwise() -> None:
    assert read_request(OLLAMA, b'{"model":"smollm2"}').streamed is True
    assert read_request(OLLAMA, b'{"model":"smollm2","stream":false}').streamed is False
    assert read_request(OLLAMA, b'{"model":"smollm2","mess').streamed is None


def test_the_deployment_stands_in_for_a_missing_model() -> None:
    assert read_request(AZURE, b'{"messages":[]}').model == "mine"
    assert read_request(AZURE, b'{"model":"gpt-4o"}').model == "gpt-4o"


def test_a_cut_body_tells_what_came_before_the_cut() -> None:
    body = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"\\"model\\":\\"evil\\"'
    assert read_request(CHAT, body) == RequestFacts("gpt-4o", streamed=True)


def test_the_end_of_a_long_body_tells_what_stands_after_the_messages() -> None:
    messages = [{"role": "user", "content": 'say {"model":"evil"} ' * 1000}]
    body = json.dumps(
        {"messages": messages, "model": "gpt-4o", "tools": [{"model": "nested"}], "stream": True}
    ).encode()
    assert read_request(CHAT, body[:500], body[-500:]) == RequestFacts("gpt-4o", streamed=True)


def test_what_fell_between_the_ends_is_not_said() -> None:
    body = json.dumps({"messages": ["x" * 500], "model": "m", "stream": True, "tools": ["y" * 500]}).encode()
    assert read_request(OLLAMA, body[:100], body[-100:]) == RequestFacts(None, None)
