"""Real SDKs through the real sidecar: the same answers as without it, and one row each with the exact usage."""

from collections.abc import Callable
from typing import Any

import pytest
from anthropic import Anthropic
from ollama import Client as Ollama
from openai import OpenAI

from tests.clients.conftest import Office, new_trace

INPUT, OUTPUT, CACHED = 345, 67, 89
ASKED = {
    "x-emulate-input-tokens": str(INPUT),
    "x-emulate-output-tokens": str(OUTPUT),
    "x-emulate-cached-tokens": str(CACHED),
    "x-emulate-chunks": "5",
}
MESSAGES: list[Any] = [{"role": "user", "content": "How many tokens is this?"}]

# A case takes a base URL and headers, and gives back everything the SDK made of the answer.
Case = Callable[[str, dict[str, str]], Any]


def with_openai(base: str, headers: dict[str, str], use: Callable[[OpenAI], Any]) -> Any:
    with OpenAI(base_url=f"{base}/v1", api_key="sk-client", default_headers=headers, max_retries=0) as client:
        return use(client)


def with_anthropic(base: str, headers: dict[str, str], use: Callable[[Anthropic], Any]) -> Any:
    with Anthropic(base_url=base, api_key="sk-client", default_headers=headers, max_retries=0) as client:
        return use(client)


def with_ollama(base: str, headers: dict[str, str], use: Callable[[Ollama], Any]) -> Any:
    with Ollama(host=base, headers=headers) as client:
        return use(client)


def chat(base: str, headers: dict[str, str]) -> Any:
    return with_openai(
        base, headers, lambda c: c.chat.completions.create(model="gpt-4o", messages=MESSAGES).model_dump()
    )


def chat_stream(base: str, headers: dict[str, str], **options: Any) -> Any:
    def use(client: OpenAI) -> Any:
        with client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, **options) as stream:
            return [chunk.model_dump() for chunk in stream]

    return with_openai(base, headers, use)


def chat_stream_with_usage(base: str, headers: dict[str, str]) -> Any:
    return chat_stream(base, headers, stream_options={"include_usage": True})


def completion(base: str, headers: dict[str, str]) -> Any:
    return with_openai(base, headers, lambda c: c.completions.create(model="gpt-3.5", prompt="Say").model_dump())


def completion_stream(base: str, headers: dict[str, str]) -> Any:
    def use(client: OpenAI) -> Any:
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        with client.completions.create(model="gpt-3.5", prompt="Say", **options) as stream:
            return [chunk.model_dump() for chunk in stream]

    return with_openai(base, headers, use)


def embeddings(base: str, headers: dict[str, str]) -> Any:
    return with_openai(base, headers, lambda c: c.embeddings.create(model="embed-3", input=["one", "two"]).model_dump())


def response(base: str, headers: dict[str, str]) -> Any:
    return with_openai(base, headers, lambda c: c.responses.create(model="gpt-4.1", input="Say").model_dump())


def response_stream(base: str, headers: dict[str, str]) -> Any:
    def use(client: OpenAI) -> Any:
        with client.responses.create(model="gpt-4.1", input="Say", stream=True) as stream:
            return [event.model_dump() for event in stream]

    return with_openai(base, headers, use)


def message(base: str, headers: dict[str, str]) -> Any:
    def use(client: Anthropic) -> Any:
        return client.messages.create(model="claude-test", max_tokens=100, messages=MESSAGES).model_dump()

    return with_anthropic(base, headers, use)


def message_stream(base: str, headers: dict[str, str]) -> Any:
    def use(client: Anthropic) -> Any:
        with client.messages.stream(model="claude-test", max_tokens=100, messages=MESSAGES) as stream:
            texts = list(stream.text_stream)
            return texts, stream.get_final_message().model_dump()

    return with_anthropic(base, headers, use)


def ollama_chat(base: str, headers: dict[str, str]) -> Any:
    return with_ollama(base, headers, lambda c: c.chat("llama3.2:3b", MESSAGES).model_dump())


def ollama_chat_stream(base: str, headers: dict[str, str]) -> Any:
    return with_ollama(
        base, headers, lambda c: [part.model_dump() for part in c.chat("llama3.2:3b", MESSAGES, stream=True)]
    )


def ollama_generate(base: str, headers: dict[str, str]) -> Any:
    return with_ollama(base, headers, lambda c: c.generate("llama3.2:3b", "Say").model_dump())


def ollama_generate_stream(base: str, headers: dict[str, str]) -> Any:
    return with_ollama(
        base, headers, lambda c: [part.model_dump() for part in c.generate("llama3.2:3b", "Say", stream=True)]
    )


def ollama_embed(base: str, headers: dict[str, str]) -> Any:
    return with_ollama(base, headers, lambda c: c.embed("nomic-embed-text", ["one", "two"]).model_dump())


# case, route, dialect, streamed, (input, output, cache read) as booked
CASES = [
    (chat, "/openai", "openai.chat", False, (INPUT, OUTPUT, CACHED)),
    (chat_stream_with_usage, "/openai", "openai.chat", True, (INPUT, OUTPUT, CACHED)),
    (completion, "/openai", "openai.completions", False, (INPUT, OUTPUT, CACHED)),
    (completion_stream, "/openai", "openai.completions", True, (INPUT, OUTPUT, CACHED)),
    (embeddings, "/openai", "openai.embeddings", False, (INPUT, 0, 0)),
    (response, "/openai", "openai.responses", False, (INPUT, OUTPUT, CACHED)),
    (response_stream, "/openai", "openai.responses", True, (INPUT, OUTPUT, CACHED)),
    (message, "/anthropic", "anthropic.messages", False, (INPUT, OUTPUT, CACHED)),
    (message_stream, "/anthropic", "anthropic.messages", True, (INPUT, OUTPUT, CACHED)),
    (ollama_chat, "/ollama", "ollama.chat", False, (INPUT, OUTPUT, CACHED)),
    (ollama_chat_stream, "/ollama", "ollama.chat", True, (INPUT, OUTPUT, CACHED)),
    (ollama_generate, "/ollama", "ollama.generate", False, (INPUT, OUTPUT, CACHED)),
    (ollama_generate_stream, "/ollama", "ollama.generate", True, (INPUT, OUTPUT, CACHED)),
    (ollama_embed, "/ollama", "ollama.embed", False, (INPUT, 0, 0)),
]


@pytest.mark.parametrize(
    ("case", "route", "dialect", "streamed", "booked"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_an_sdk_notices_nothing_and_its_call_is_booked(
    office: Office, case: Case, route: str, dialect: str, streamed: bool, booked: tuple[int, int, int]
) -> None:
    trace_id, trace = new_trace()
    through = case(office.base(route, direct=False), {**ASKED, **trace, "x-metering-key": office.secret})
    assert through == case(office.base(route, direct=True), ASKED)
    row = office.row(trace_id)
    tokens = tuple(row[name] or 0 for name in ("input_tokens", "output_tokens", "cache_read_input_tokens"))
    assert tokens == booked
    assert (row["dialect"], row["provider_name"], row["streamed"]) == (dialect, route.strip("/"), streamed)
    assert (row["outcome"], row["usage_source"], row["status"]) == ("completed", "reported", 200)
    assert (row["team"], row["project"], row["credential_id"]) == ("search", "ranking", "search-test")


def test_a_stream_that_was_not_asked_for_usage_is_unknown_not_zero(office: Office) -> None:
    trace_id, trace = new_trace()
    through = chat_stream(office.base("/openai", direct=False), {**ASKED, **trace})
    assert through == chat_stream(office.base("/openai", direct=True), ASKED)
    row = office.row(trace_id)
    assert (row["usage_source"], row["outcome"]) == ("unknown", "completed")
    assert row["input_tokens"] is None
    assert row["request_quantity"] == 1


def test_a_key_in_the_base_url_serves_clients_that_only_know_a_base_url(office: Office) -> None:
    trace_id, trace = new_trace()
    base = office.base(f"/k/{office.secret}/openai", direct=False)
    assert chat(base, {**ASKED, **trace}) == chat(office.base("/openai", direct=True), ASKED)
    assert office.row(trace_id)["team"] == "search"


def test_trusted_headers_attribute_a_call_without_a_key(office: Office) -> None:
    trace_id, trace = new_trace()
    message(office.base("/anthropic", direct=False), {**ASKED, **trace, "x-team": "support", "x-project": "triage"})
    row = office.row(trace_id)
    assert (row["team"], row["project"], row["credential_id"]) == ("support", "triage", None)


def test_a_list_of_models_consumes_nothing(office: Office) -> None:
    trace_id, trace = new_trace()
    models = with_openai(office.base("/openai", direct=False), trace, lambda c: [model.id for model in c.models.list()])
    assert models == ["emulated"]
    row = office.row(trace_id)
    assert (row["usage_source"], row["request_quantity"]) == ("none", None)
