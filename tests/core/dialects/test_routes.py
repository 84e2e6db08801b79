import pytest

from metering.core.dialects import DIALECTS, classify


@pytest.mark.parametrize(
    ("path", "dialect", "operation_name"),
    [
        ("/v1/chat/completions", "openai.chat", "chat"),
        ("/chat/completions", "openai.chat", "chat"),
        ("/v1/chat/completions/", "openai.chat", "chat"),
        ("/api/v1/chat/completions", "openai.chat", "chat"),
        ("/compatible-mode/v1/chat/completions", "openai.chat", "chat"),
        ("/client/v4/accounts/38bc/ai/v1/chat/completions", "openai.chat", "chat"),
        ("/models/chat/completions?api-version=2024-05-01-preview", "openai.chat", "chat"),
        ("/v1beta/openai/chat/completions", "openai.chat", "chat"),
        ("/v1/prompts/pp-weather/completions", "openai.chat", "chat"),
        ("/v1/chat", "openai.chat", "chat"),
        ("/v1/completions", "openai.completions", "text_completion"),
        ("/v1/fim/completions", "openai.completions", "text_completion"),
        ("/api/v1/embeddings", "openai.embeddings", "embeddings"),
        ("/openai/v1/responses?api-version=preview", "openai.responses", "chat"),
        ("/v1/responses/compact", "openai.responses.compact", "chat"),
        ("/anthropic/v1/messages?beta=true", "anthropic.messages", "chat"),
        ("/api/chat", "ollama.chat", "chat"),
        ("/local/api/generate", "ollama.generate", "text_completion"),
        ("/api/embed", "ollama.embed", "embeddings"),
        ("/api/embeddings", "ollama.embeddings", "embeddings"),
    ],
)
def test_the_end_of_a_path_says_what_a_call_is(path: str, dialect: str, operation_name: str) -> None:
    operation = classify("POST", path)
    assert (operation.dialect, operation.operation_name, operation.consumes) == (dialect, operation_name, True)
    assert operation.model is None


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "gpt-4o"),
        ("//openai/deployments/my%20deployment/embeddings", "my deployment"),
        ("/deployments/embeddings", None),
    ],
)
def test_azure_names_the_deployment_in_the_path(path: str, model: str | None) -> None:
    assert classify("POST", path).model == model


def test_claude_on_vertex_names_the_model_in_the_path() -> None:
    base = "/v1/projects/p/locations/us-east5/publishers/anthropic/models/"
    operation = classify("POST", base + "claude-sonnet-4@20250514:streamRawPredict")
    assert (operation.dialect, operation.model) == ("anthropic.messages.vertex", "claude-sonnet-4@20250514")
    assert classify("POST", base + "count-tokens:rawPredict").consumes is False
    assert classify("POST", "/v1/publishers/mistralai/models/m:rawPredict").dialect == "unknown"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/gpt-4o"),
        ("GET", "/api/tags"),
        ("POST", "/api/show"),
        ("POST", "/v1/messages/count_tokens?beta=true"),
        ("POST", "/v1/responses/input_tokens"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("POST", "/v1/threads/thread_1/messages"),
        ("DELETE", "/v1/responses/resp_1"),
        ("options", "/v1/chat/completions"),
    ],
)
def test_calls_that_never_consume(method: str, path: str) -> None:
    assert classify(method, path).consumes is False


def test_a_poll_may_be_the_first_to_tell_usage() -> None:
    operation = classify("get", "/v1/responses/resp_1?stream=true")
    assert (operation.dialect, operation.consumes) == ("openai.responses.retrieve", None)


@pytest.mark.parametrize(
    ("method", "path", "provider"),
    [
        ("POST", "/v1/chat", "cohere"),
        ("POST", "/api/v1/chat", ""),
        ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", "google"),
        ("POST", "/model/us.amazon.nova-lite-v1%3A0/converse", "aws"),
        ("PUT", "/v1/chat/completions", "openai"),
        ("POST", "/v1/containers", "openai"),
        ("POST", "", ""),
        ("POST", "/", ""),
        ("POST", "?", ""),
    ],
)
def test_what_is_not_known_is_unknown(method: str, path: str, provider: str) -> None:
    operation = classify(method, path, provider)
    assert (operation.dialect, operation.consumes) == ("unknown", None)


def test_every_dialect_that_consumes_can_be_read() -> None:
    assert [dialect.name for dialect in DIALECTS.values() if dialect.consumes and dialect.meaning is None] == []
