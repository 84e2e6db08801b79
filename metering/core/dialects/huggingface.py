"""Hugging Face: its hosted pipelines, and the servers it makes for texts (TGI) and for vectors (TEI).

What they tell stands mostly in headers: a pipeline's answer is a picture, a vector or a list of labels.
"""

from collections.abc import Mapping
from typing import Any

from metering.core.dialects.counts import milliseconds, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found
from metering.core.dialects.rerank import COMPUTE_TOKENS
from metering.core.dialects.told import Layout, Told

COMPUTE_TIME = "x-compute-time"
_TOKENS = {"x-prompt-tokens": "input_tokens", "x-generated-tokens": "output_tokens"}


class Generate(Told):
    """TGI's `details`, which come if they were asked for, or SGLang's `meta_info`: both serve `/generate`."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        places = {
            "input_tokens": (("details", "input_length"), ("meta_info", "prompt_tokens")),
            "output_tokens": (("details", "generated_tokens"), ("meta_info", "completion_tokens")),
            "cache_read_input_tokens": (("meta_info", "cached_tokens"),),
        }
        super().__init__(Layout(places=places, holds=("details", "meta_info"), headers=headers))

    def take(self, answer: Any, found: Found) -> None:
        super().take(answer, found)
        if isinstance(answer.meta_info, dict):  # in each frame of a stream, with what was consumed so far
            found.response_id = word(answer.meta_info.get("id")) or found.response_id
            found.final = bool(answer.meta_info.get("finish_reason"))


class Hosted(Generate):
    """Hugging Face sells time, and tells it in seconds; a TGI behind it tells milliseconds."""

    def header_counts(self, headers: Mapping[str, str]) -> dict[str, int]:
        counts, took = super().header_counts(headers), headers.get(COMPUTE_TIME, "")
        told = milliseconds(took)
        if told is not None:
            counts["compute_ms"] = told if "." in took else told // 1000
        return counts


_GENERATE = Generate(_TOKENS)
_HOSTED = Hosted({**_TOKENS, "x-compute-characters": "input_characters", COMPUTE_TIME: "compute_ms"})
_VECTORS = Told(Layout(headers={COMPUTE_TOKENS: "input_tokens"}))

DIALECTS = (
    Dialect(
        name="hf.inference",
        routes=(
            Route("POST", "models/{part}/{model}", at="hugging"),
            Route("POST", "models/{model}", at="hugging"),
            Route("POST", "models/{part}/{model}/pipeline/*"),
            Route("POST", "pipeline/*/{part}/{model}"),
            Route("POST", "pipeline/*/{model}", at="hugging"),
        ),
        meaning=_HOSTED,
        spoken_by="Hugging Face",
        input_total="`details.input_length`, or header `x-prompt-tokens`",
        output_total="`details.generated_tokens`, or header `x-generated-tokens`",
        also_counts="machine time and characters, from headers",
        stream_usage="the last event",
        gaps="tokens are told by text generation only",
    ),
    Dialect(
        name="tgi.generate",
        operation_name="text_completion",
        routes=(
            Route("POST", "generate"),
            Route("POST", "generate_stream"),
            *(Route("POST", "", at=name) for name in ("tgi", "hugging")),
        ),
        meaning=_GENERATE,
        spoken_by="text-generation-inference, and SGLang under any other name",
        input_total="`details.input_length`, or header `x-prompt-tokens`",
        output_total="`details.generated_tokens`, or header `x-generated-tokens`",
        stream_usage="the last event, if `details` were asked for",
        gaps="by its documents, no recorded answer; without `details` a stream tells nothing",
    ),
    Dialect(
        name="sglang.generate",
        operation_name="text_completion",
        routes=(Route("POST", "generate", at="sglang"), Route("POST", "encode", at="sglang")),
        meaning=_GENERATE,
        spoken_by="SGLang",
        input_total="`meta_info.prompt_tokens`",
        output_total="`meta_info.completion_tokens`",
        stream_usage="each event, so far; the last has a `finish_reason`",
        gaps="by its documents, no recorded answer",
    ),
    Dialect(
        name="tei.embed",
        operation_name="embeddings",
        routes=(
            *(Route("POST", f"embed{kind}", not_at="cohere") for kind in ("", "_all", "_sparse")),
            *(Route("POST", path, at="tei") for path in ("predict", "similarity")),
        ),
        meaning=_VECTORS,
        spoken_by="text-embeddings-inference",
        input_total="header `x-compute-tokens`",
        gaps="by its source, no recorded answer",
    ),
)
