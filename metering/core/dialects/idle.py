"""Calls for which no model runs: lists, files, uploads, settings, and looks at what another call made."""

from metering.core.dialects.dialect import Dialect, Route

_LISTED = (
    *("models", "files", "batches", "uploads", "assistants", "threads", "vector_stores", "conversations", "videos"),
    *("fine_tuning/jobs", "batch/jobs", "chat/completions", "evals", "skills", "agents", "containers", "voices"),
    *("language-models", "embedding-models", "image-generation-models", "video-generation-models", "api-key"),
)
_LOOKED_AT = (
    *("models/*", "files/*", "assistants/*", "threads/*", "vector_stores/*", "conversations/*", "skills/*"),
    *("agents/*", "containers/*", "evals/*", "chat/completions/*", "responses/*/input_items", "files/*/url"),
    *("threads/*/messages", "threads/*/messages/*", "threads/*/runs", "threads/*/runs/*/steps"),
    *("threads/*/runs/*/steps/*", "vector_stores/*/files", "vector_stores/*/files/*", "vector_stores/*/file_batches/*"),
    *("vector_stores/*/files/*/content", "conversations/*/items", "conversations/*/items/*"),
    "chat/completions/*/messages",
    *("fine_tuning/jobs/*/events", "fine_tuning/jobs/*/checkpoints", "videos/*/content", "containers/*/files"),
    *("containers/*/files/*", "containers/*/files/*/content", "language-models/*", "image-generation-models/*"),
    *("video/generations/jobs", "video/generations/*", "video/generations/*/content/*"),
)
_STORED = (
    *("files", "uploads", "uploads/*/parts", "uploads/*/complete", "uploads/*/cancel", "threads", "threads/*"),
    *("threads/*/messages", "threads/*/messages/*", "assistants", "assistants/*", "vector_stores", "vector_stores/*"),
    *("vector_stores/*/files", "vector_stores/*/files/*", "vector_stores/*/file_batches"),
    *("vector_stores/*/file_batches/*/cancel", "conversations/*/items", "containers/*/files", "chat/completions/*"),
    *("realtime/sessions", "realtime/transcription_sessions", "realtime/client_secrets", "tokenize-text"),
)
# Servers of one's own: how they are, what they run, what a text is in tokens.
_ASKED = (
    *("health", "healthz", "health_generate", "ping", "ready", "live", "metrics", "version", "info", "props", "slots"),
    *("get_model_info", "get_server_info", "server_info", "sdapi/v1/*", "object_info", "queue", "system_stats"),
    "generation",  # OpenRouter: a look at what a call cost, which its answer told
)
_KEPT_UP = (
    *("tokenize", "detokenize", "decode", "apply-template", "text/tokenization", "tokenizers/estimate-token-count"),
    *("models/load", "models/unload", "models/download", "props", "slots/*", "lora-adapters", "flush_cache"),
    *("load_lora_adapter", "unload_lora_adapter"),
    *(f"sdapi/v1/{verb}" for verb in ("interrupt", "skip", "options", "png-info", "refresh-checkpoints")),
)

IDLE = Dialect(
    name="unknown",
    consumes=False,
    routes=(
        *(Route("GET", path) for path in (*_LISTED, *_LOOKED_AT, *_ASKED)),
        *(Route("POST", path) for path in (*_STORED, *_KEPT_UP)),
        Route("POST", "conversations", not_at="mistral"),  # there a model answers in it
        Route("POST", "conversations/*", not_at="mistral"),
        *(Route("POST", path, at="mistral") for path in ("agents", "agents/*", "libraries", "libraries/*")),
        *(Route("GET", f"api/{word}") for word in ("tags", "ps", "version")),  # Ollama
        *(Route("POST", f"api/{word}") for word in ("show", "pull", "push", "create", "copy")),
    ),
)
