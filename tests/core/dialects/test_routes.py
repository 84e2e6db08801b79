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
        ("/v1/images/variations", "openai.images", "image_generation"),
        ("/openai/v1/audio/speech", "openai.audio.speech", "text_to_speech"),
        ("/v1/audio/translations", "openai.audio.transcriptions", "speech_to_text"),
        ("/v1/chat/moderations", "openai.moderations", "moderation"),
        ("/v1/ocr", "mistral.ocr", "ocr"),
        ("/v1/complete", "anthropic.complete", "text_completion"),
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
        ("/openai/deployments/whisper/audio/transcriptions?api-version=2024-06-01", "whisper"),
        ("/openai/deployments/dall-e-3/images/generations?api-version=2024-02-01", "dall-e-3"),
        ("/openai/deployments/tts-hd/audio/speech?api-version=2025-03-01-preview", "tts-hd"),
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
        ("POST", "/tokenize"),
        ("POST", "/v1/detokenize"),
        ("POST", "/v1/tokenizers/estimate-token-count"),
        ("POST", "/ml/v1/text/tokenization?version=2024-05-31"),
        ("POST", "/api/v1/models/load"),
        ("POST", "/slots/0?action=save"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/get_model_info"),
        ("GET", "/api/v1/generation?id=gen-1"),
        ("POST", "/v1/messages/count_tokens?beta=true"),
        ("POST", "/v1/responses/input_tokens"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("POST", "/v1/threads/thread_1/messages"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/file-1"),
        ("GET", "/openai/files/file-1?api-version=2024-10-21"),
        ("POST", "/v1/uploads/upload_1/parts"),
        ("GET", "/v1/batches?limit=20"),
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages/batches/msgbatch_1"),
        ("POST", "/v1/messages/batches/msgbatch_1/cancel"),
        ("GET", "/v1/batch/jobs"),
        ("POST", "/v1/threads"),
        ("POST", "/openai/threads/thread_1/messages?api-version=2024-05-01-preview"),
        ("GET", "/v1/threads/thread_1/runs"),
        ("GET", "/v1/threads/thread_1/runs/run_1/steps"),
        ("POST", "/v1/assistants"),
        ("POST", "/v1/vector_stores/vs_1/file_batches"),
        ("GET", "/v1/vector_stores/vs_1/files/file_1"),
        ("POST", "/v1/conversations"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/v1/chat/completions/chatcmpl-1"),
        ("POST", "/v1/chat/completions/chatcmpl-1"),
        ("GET", "/v1/fine_tuning/jobs/ftjob-1/events"),
        ("GET", "/v1/videos"),
        ("GET", "/v1/videos/video_1/content"),
        ("POST", "/v1/realtime/client_secrets"),
        ("options", "/v1/chat/completions"),
    ],
)
def test_calls_that_never_consume(method: str, path: str) -> None:
    assert classify(method, path).consumes is False


@pytest.mark.parametrize(
    ("path", "provider", "dialect", "model"),
    [
        ("/v1/chat", "Cohere", "cohere.chat_v1", None),
        ("/v1/chat", "writer", "openai.chat", None),
        ("/v2/chat", "azure", "cohere.chat_v2", None),
        ("/v2/rerank", "cohere", "cohere.rerank", None),
        ("/v2/rerank", "vllm", "rerank", None),
        ("/v2/embed", "cohere", "cohere.embed", None),
        ("/embed", "local", "tei.embed", None),
        ("/api/v1/chat", "", "lmstudio.chat", None),
        ("/ml/v1/deployments/my-id/text/generation_stream?version=2024", "watsonx", "watsonx.generate", "my-id"),
        ("/v1/models/meta/llama-3-70b/predictions", "replicate", "replicate.predictions", "meta/llama-3-70b"),
        ("/v1/deployments/acme/painter/predictions", "replicate", "replicate.predictions", "acme/painter"),
        ("/v1/listen?language=en&model=nova-3", "deepgram", "deepgram.listen", "nova-3"),
        ("/v1/speak", "deepgram", "deepgram.speak", None),
        ("/models/org/zephyr-7b", "huggingface", "hf.inference", "org/zephyr-7b"),
        ("/models/gpt2", "huggingface", "hf.inference", "gpt2"),
        ("/models/org/zephyr-7b", "other", "unknown", None),
        ("/hf-inference/models/org/small/pipeline/fill-mask", "huggingface", "hf.inference", "org/small"),
        ("/pipeline/fill-mask/bert-base", "huggingface", "hf.inference", "bert-base"),
        ("/generate", "sglang-pool", "sglang.generate", None),
        ("/generate", "local", "tgi.generate", None),
        ("/", "my-tgi", "tgi.generate", None),
        ("/completion", "local", "llamacpp.completion", None),
        ("/a/ai/run/@cf/meta/llama-3.1-8b", "cloudflare", "cloudflare.run", "@cf/meta/llama-3.1-8b"),
        ("/serving-endpoints/my%20llama/invocations", "databricks", "databricks.invocations", "my llama"),
        ("/api/v2/cortex/inference:complete", "snowflake", "snowflake.complete", None),
        ("/complete", "aleph-alpha", "aleph-alpha.complete", None),
    ],
)
def test_a_familys_own_paths(path: str, provider: str, dialect: str, model: str | None) -> None:
    operation = classify("POST", path, provider)
    assert (operation.dialect, operation.model) == (dialect, model)


def test_a_look_consumes_nothing_itself() -> None:
    asked, looked = classify("POST", "/v1/predictions"), classify("GET", "/v1/predictions/p-1")
    assert (asked.dialect, looked.dialect) == ("replicate.predictions", "replicate.predictions")
    assert (asked.consumes, looked.consumes) == (True, None)


def test_providers_that_share_a_path_speak_their_own() -> None:
    assert classify("GET", "/v1/batches/b", "xai").consumes is False
    assert classify("GET", "/v1/batches/b", "openai").dialect == "openai.batches"
    assert classify("GET", "/v1/batches/b/results?limit=9", "my-xai").dialect == "xai.batches.results"
    assert classify("GET", "/v1/videos/v", "xai").dialect == "xai.videos"
    assert classify("GET", "/v1/videos/v", "openai").dialect == "openai.videos"
    assert classify("POST", "/v1/conversations", "mistral").consumes is None
    assert classify("POST", "/v1/conversations", "openai").consumes is False


def test_a_path_may_name_what_is_asked_about() -> None:
    assert classify("GET", "/openai/files/file-1/content?api-version=1").item == "file-1"
    assert classify("GET", "/v1/messages/batches/a%20b/results").item == "a b"
    assert classify("POST", "/v1/threads/t/runs/run_1/submit_tool_outputs").item == "run_1"
    assert classify("POST", "/v1/threads/runs").item is None


def test_a_poll_may_be_the_first_to_tell_usage() -> None:
    operation = classify("get", "/v1/responses/resp_1?stream=true")
    assert (operation.dialect, operation.consumes) == ("openai.responses.retrieve", None)


@pytest.mark.parametrize(
    ("method", "path", "provider"),
    [
        ("POST", "/v1beta/models/gemini-2.5-flash:novelVerb", "google"),
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
    assert [
        dialect.name for dialect in DIALECTS.values() if dialect.consumes and not (dialect.meaning or dialect.session)
    ] == []


@pytest.mark.parametrize(
    ("path", "provider", "dialect", "model"),
    [
        ("/v1/realtime?model=gpt-realtime", "openai", "openai.realtime_ws", "gpt-realtime"),
        ("/v1/realtime?call_id=rtc_1", "openai", "openai.realtime_ws", None),
        ("/openai/v1/realtime?model=ours", "azure", "openai.realtime_ws", "ours"),
        ("/openai/realtime?api-version=1&deployment=our%20own", "azure", "openai.realtime_ws", "our own"),
        ("/voice-live/realtime?api-version=1&model=gpt-realtime%0a", "azure", "azure.voice_live_ws", "gpt-realtime"),
        ("/v1/realtime?model=grok-voice", "xai", "xai.realtime_ws", "grok-voice"),
        (
            "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k",
            "google",
            "gemini.live_ws",
            None,
        ),
        ("/ws/google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent", "google", "gemini.live_ws", None),
    ],
)
def test_realtime(path: str, provider: str, dialect: str, model: str | None) -> None:
    operation = classify("GET", path, provider)
    assert (operation.dialect, operation.model) == (dialect, model)


def test_headers_are_asked_for_where_a_provider_sends_them() -> None:
    def asked(provider: str, path: str = "/v1/chat/completions") -> tuple[str, ...]:
        return tuple(classify("POST", path, provider).headers)

    assert asked("openai") == ()
    assert asked("LiteLLM-proxy") == ("x-litellm-response-cost",)
    assert asked("cohere", "/v2/embed") == ("num_tokens", "num-tokens")
    assert asked("litellm", "/v2/embed") == ("num_tokens", "num-tokens", "x-litellm-response-cost")
