"""Clouds with a route of their own around what others tell too: Cloudflare, Databricks, Snowflake, Aleph Alpha."""

from typing import Any

from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.openai import OpenAIChat
from metering.core.dialects.quirks import read_usage
from metering.core.dialects.told import Layout, Told
from metering.core.usage import Usage


class _Run(Told):
    """OpenAI's usage object inside `result`; in a stream at the top."""

    def count(self, raw: dict[str, Any]) -> Usage | None:
        return read_usage(raw, "cloudflare", "")


_CHAT = OpenAIChat()
_ALEPH_ALPHA = Told(
    Layout(
        places={"input_tokens": (("num_tokens_prompt_total",),), "output_tokens": (("num_tokens_generated",),)},
        holds=("num_tokens_prompt_total", "num_tokens_generated"),
    )
)
_CHAT_TOTALS: dict[str, Any] = {
    "input_total": "`usage.prompt_tokens`",
    "output_total": "`usage.completion_tokens`",
    "stream_usage": "last `usage` that says something",
}
_UNSEEN = "by its documents, no recorded answer"

DIALECTS = (
    Dialect(
        name="cloudflare.run",
        routes=(
            Route("POST", "ai/run/{part}/{part}/{model}"),
            Route("POST", "workers-ai/{part}/{part}/{model}"),
        ),
        meaning=_Run(Layout(inside=("result",), model="")),
        spoken_by="Cloudflare Workers AI, also behind its AI Gateway",
        input_total="`result.usage.prompt_tokens`",
        output_total="`result.usage.completion_tokens`",
        stream_usage="the last event",
        gaps=f"{_UNSEEN}; pictures, sound and vectors tell nothing; neurons are told nowhere",
    ),
    Dialect(
        name="databricks.invocations",
        operation_name="chat",
        routes=(Route("POST", "serving-endpoints/{model}/invocations"),),
        meaning=_CHAT,
        spoken_by="Databricks",
        gaps=_UNSEEN,
        **_CHAT_TOTALS,
    ),
    Dialect(
        name="snowflake.complete",
        operation_name="chat",
        routes=(Route("POST", "cortex/inference:complete"),),
        meaning=_CHAT,
        spoken_by="Snowflake Cortex",
        gaps=f"{_UNSEEN}; what a guard reads is in no total",
        **_CHAT_TOTALS,
    ),
    Dialect(
        name="snowflake.embed",
        operation_name="embeddings",
        routes=(Route("POST", "cortex/inference:embed"),),
        meaning=_CHAT,
        spoken_by="Snowflake Cortex",
        input_total="`usage.total_tokens`",
        gaps=_UNSEEN,
    ),
    Dialect(
        name="aleph-alpha.complete",
        operation_name="text_completion",
        routes=tuple(
            Route("POST", path, at="aleph") for path in ("complete", "evaluate", "embed", "semantic_embed", "explain")
        ),
        meaning=_ALEPH_ALPHA,
        spoken_by="Aleph Alpha",
        input_total="`num_tokens_prompt_total`",
        output_total="`num_tokens_generated`",
        stream_usage="the last event",
        gaps="only `complete`, whole, was seen in a recording",
    ),
)
