"""What Cohere's answers mean, versions 1 and 2: what was read and written, and what of it is billed.

`tokens` counts everything; `billed_units` leaves out what Cohere adds to the prompt itself. Tokens of images stand
outside `tokens.input_tokens`, and inside the input that is billed.
"""

from typing import Any

from metering.core.dialects.counts import count
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.told import Layout, Told
from metering.core.usage import Usage

_FAILED = ("finish_reason", ("ERROR", "ERROR_LIMIT", "ERROR_TOXIC"))


class Cohere(Told):
    """Of the members `usage` (version 2) or `meta` (all else)."""

    def count(self, raw: dict[str, Any]) -> Usage | None:
        tokens, billed = _object(raw, "tokens"), _object(raw, "billed_units")
        if not tokens and not billed:
            return None
        told = tokens or billed  # embeddings and version 1's generate tell only what is billed
        images = count(told.get("image_tokens"))
        read, billed_input = count(told.get("input_tokens")), count(billed.get("input_tokens"))
        return Usage(
            input_tokens=_both(read, images),
            output_tokens=count(told.get("output_tokens")),
            cache_read_input_tokens=count(raw.get("cached_tokens")),
            image_input_tokens=images,
            reasoning_output_tokens=count(tokens.get("reasoning_tokens")),
            billed_input_tokens=_both(billed_input, count(billed.get("image_tokens"))),
            billed_output_tokens=count(billed.get("output_tokens")),
            search_units=count(billed.get("search_units")),
        )


def _object(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _both(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other


_V1 = Cohere(Layout(model="", holds=("meta",), inside=("response",), response_id="response_id", fails=_FAILED))
_GENERATE = Cohere(Layout(model="", holds=("meta",), inside=("response",), fails=_FAILED))
_V2 = Cohere(Layout(model="", inside=("delta",), fails=_FAILED))
_UNITS = Cohere(Layout(model="", holds=("meta",)))
_EMBED = Cohere(Layout(model="", holds=("meta",), headers={"num_tokens": "input_tokens", "num-tokens": "input_tokens"}))
_BILLED = "billed tokens"

DIALECTS = (
    Dialect(
        name="cohere.chat_v1",
        operation_name="chat",
        routes=(Route("POST", "v1/chat", at="cohere"),),
        meaning=_V1,
        spoken_by="Cohere",
        input_total="`meta.tokens.input_tokens`",
        output_total="`meta.tokens.output_tokens`",
        also_counts=_BILLED,
        stream_usage="the last line, `stream-end`",
    ),
    Dialect(
        name="cohere.chat_v2",
        operation_name="chat",
        routes=(Route("POST", "v2/chat"),),
        meaning=_V2,
        spoken_by="Cohere, Azure Foundry",
        input_total="`usage.tokens.input_tokens` + `image_tokens`",
        output_total="`usage.tokens.output_tokens`",
        also_counts=_BILLED,
        stream_usage="`message-end`",
    ),
    Dialect(
        name="cohere.embed",
        operation_name="embeddings",
        routes=(Route("POST", "v1/embed"), Route("POST", "v2/embed")),
        meaning=_EMBED,
        spoken_by="Cohere, Azure Foundry",
        input_total="`meta.billed_units.input_tokens` + `image_tokens`, or header `num_tokens`",
        also_counts=_BILLED,
        gaps="an image that is billed as one is not counted; embed jobs are not read",
    ),
    Dialect(
        name="cohere.generate",
        operation_name="text_completion",
        routes=(Route("POST", "v1/generate"), Route("POST", "v1/summarize")),
        meaning=_GENERATE,
        spoken_by="Cohere",
        input_total="`meta.billed_units.input_tokens`",
        output_total="`meta.billed_units.output_tokens`",
        also_counts=_BILLED,
        stream_usage="the last line",
    ),
    Dialect(
        name="cohere.rerank",
        operation_name="rerank",
        routes=(Route("POST", "rerank", at="cohere"),),
        meaning=_UNITS,
        spoken_by="Cohere",
        input_total="not told",
        also_counts="search units",
    ),
    Dialect(
        name="cohere.classify",
        operation_name="classify",
        routes=(Route("POST", "v1/classify"),),
        meaning=_UNITS,
        spoken_by="Cohere",
        input_total="not told",
        gaps="`billed_units.classifications` stands in `raw_usage` only",
    ),
)
