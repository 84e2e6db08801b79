"""Rerankers, and Voyage's embeddings: a query and its documents are read, nothing is written."""

from typing import Any

import msgspec

from metering.core.dialects.counts import count, numbers
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.told import Layout, Told
from metering.core.usage import Usage

COMPUTE_TOKENS = "x-compute-tokens"  # text-embeddings-inference: its bodies hold vectors and scores only


class _Rerank(Told):
    """Tokens in `usage`, or units in `meta` at those who speak as Cohere does."""

    def raw_usage(self, answer: Any) -> dict[str, Any]:
        return numbers(answer.usage) or numbers(answer.meta)


_RERANK = _Rerank(
    Layout(
        places={
            "input_tokens": (("total_tokens",), ("prompt_tokens",), ("tokens", "input_tokens")),
            "search_units": (("billed_units", "search_units"), ("search_units",), ("rerank_units",)),  # Pinecone's last
        },
        holds=("usage", "meta"),
        headers={COMPUTE_TOKENS: "input_tokens"},
    )
)


class Voyage(Told):
    """The total holds texts and pixels, which are counted in tokens."""

    def count(self, raw: dict[str, Any]) -> Usage | None:
        usage = super().count(raw)
        texts = count(raw.get("text_tokens"))
        if usage is None or usage.input_tokens is None or texts is None or not raw.get("image_pixels"):
            return usage
        if raw.get("video_pixels"):  # which of the rest was which is not told
            return usage
        return msgspec.structs.replace(usage, image_input_tokens=max(0, usage.input_tokens - texts))


_VOYAGE = Voyage(Layout(places={"input_tokens": (("total_tokens",),)}))

DIALECTS = (
    Dialect(
        name="rerank",
        operation_name="rerank",
        routes=(
            Route("POST", "rerank", not_at="cohere"),
            Route("POST", "reranking"),  # llama.cpp
            Route("POST", "v1/score"),  # vLLM
        ),
        meaning=_RERANK,
        spoken_by="Voyage, Jina, OpenRouter, vLLM, SGLang, llama.cpp, text-embeddings-inference, …",
        input_total="`usage.total_tokens`, or header `x-compute-tokens`",
        also_counts="search units",
        gaps="Jina, Pinecone, vLLM, llama.cpp: by their documents, no recorded answer",
    ),
    Dialect(
        name="voyage.embeddings",
        operation_name="embeddings",
        routes=(Route("POST", "multimodalembeddings"), Route("POST", "contextualizedembeddings")),
        meaning=_VOYAGE,
        spoken_by="Voyage",
        input_total="`usage.total_tokens`",
        also_counts="image tokens",
        gaps="by its documents, no recorded answer",
    ),
)
