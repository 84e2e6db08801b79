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
    gemini_batch,
    gemini_interactions,
    gemini_live,
    huggingface,
    image_servers,
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
from metering.core.dialects.dialect import Dialect
from metering.core.dialects.idle import IDLE

FAMILIES = (
    openai,
    openai_media,
    realtime,
    openai_jobs,
    openai_more,
    anthropic,
    gemini,
    gemini_batch,
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
    image_servers,
    local_servers,
    clouds,
)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for family in FAMILIES for dialect in family.DIALECTS}
ROUTED = (*DIALECTS.values(), IDLE)
