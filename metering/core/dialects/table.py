"""All dialects there are. A new one is a `Dialect` in its family's module; a new family is a line here."""

from collections.abc import Mapping

from metering.core.dialects import (
    anthropic,
    batches,
    bedrock,
    bedrock_invoke,
    clouds,
    cohere,
    deepgram,
    gemini,
    gemini_interactions,
    gemini_live,
    huggingface,
    local_servers,
    mistral,
    ollama,
    openai,
    openai_jobs,
    openai_media,
    openai_more,
    realtime,
    replicate,
    rerank,
    sagemaker,
    vertex,
    watsonx,
)
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.idle import IDLE

# Tokens counted, servers asked how they are, models loaded: what people do with servers of their own.
_UPKEEP = Dialect(
    name="unknown",
    consumes=False,
    routes=(
        *(Route("POST", word) for word in ("tokenize", "detokenize", "decode", "apply-template", "text/tokenization")),
        *(Route("POST", f"tokenizers/{word}") for word in ("estimate-token-count",)),
        *(
            Route("GET", word)
            for word in ("health", "healthz", "ping", "metrics", "version", "info", "props", "slots", "ready", "live")
        ),
        *(Route("GET", f"{word}") for word in ("health_generate", "get_model_info", "get_server_info", "server_info")),
        *(Route("POST", f"models/{word}") for word in ("load", "unload", "download")),
        *(Route("POST", word) for word in ("props", "slots/*", "lora-adapters", "load_lora_adapter", "flush_cache")),
        Route("GET", "generation"),  # OpenRouter: a look at what a call cost, which its answer told
    ),
)

FAMILIES = (
    openai,
    openai_media,
    realtime,
    openai_jobs,
    openai_more,
    anthropic,
    gemini,
    gemini_interactions,
    gemini_live,
    vertex,
    bedrock,
    bedrock_invoke,
    sagemaker,
    mistral,
    batches,
    ollama,
    cohere,
    rerank,
    watsonx,
    replicate,
    deepgram,
    huggingface,
    local_servers,
    clouds,
)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for family in FAMILIES for dialect in family.DIALECTS}
ROUTED = (*DIALECTS.values(), IDLE, _UPKEEP)
