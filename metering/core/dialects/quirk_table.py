"""How servers that speak the OpenAI dialects differ, as data. `quirks.py` reads by it.

Each row names our own recording that shows it (`shown_by`, in tests/recordings: without the row it reads differently,
which a test sees) and where it comes from (`seen_at`: provider and number of a recorded exchange, or a document).
"""

from collections.abc import Callable

import msgspec

from metering.core.usage import Usage


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which some server differs."""

    shown_by: str
    seen_at: str


class Place(Row, frozen=True, kw_only=True):
    """Where a count may stand. Of several places of one field the first that holds a count is taken."""

    field: str  # of `Usage`
    path: tuple[str, ...]
    times: int = 1  # seconds become milliseconds


class Surplus(Row, frozen=True, kw_only=True):
    """A total that is larger than input + output by exactly these sub-counts: they stand outside."""

    input_parts: tuple[str, ...] = ()  # add them to the input
    output_parts: tuple[str, ...] = ()  # add them to the output


class Override(Row, frozen=True, kw_only=True):
    """A provider and models for which the comparison of totals is not enough, and what holds instead."""

    provider: str = ""  # part of the route's provider name
    marker: str = ""  # a member of the usage object that only this provider sends
    model: str = ""  # part of the model's name
    reads: Callable[[Usage, int | None], Usage]

    def holds(self, provider: str, model: str) -> bool:
        """Whether it holds for this provider and model whatever the usage object says."""
        named = self.provider in provider.lower() if self.provider else not self.marker
        return named and self.model in model.lower()


class Cost(Row, frozen=True, kw_only=True):
    """Where the provider says what the call cost, in USD times ten to the `exponent`."""

    path: tuple[str, ...]
    exponent: int = 0
    zero_tells: bool = True  # whether a zero says that the call was free


class Header(Row, frozen=True, kw_only=True):
    """A header of the answer that tells what the body may leave out."""

    provider: str  # part of the route's provider name: no other call looks at its headers for this
    name: str
    field: str  # of `Usage`, or REPORTED_COST


class Variant(Row, frozen=True, kw_only=True):
    """A word of the usage object that decides a price."""

    member: str
    prefix: str


REPORTED_COST = "reported_cost"


def _reasoning_outside(usage: Usage, _total: int | None) -> Usage:
    written = (usage.output_tokens or 0) + (usage.reasoning_output_tokens or 0)
    return msgspec.structs.replace(usage, output_tokens=written)


def _research_outside(usage: Usage, total: int | None) -> Usage:
    """Neither side, nor the total, holds what was thought and what was read of the pages that are cited."""
    read = (usage.input_tokens or 0) + (usage.document_input_tokens or 0)
    return _reasoning_outside(msgspec.structs.replace(usage, input_tokens=read), total)


def _thinking_hidden(usage: Usage, total: int | None) -> Usage:
    """What the total has more than both sides was thought; it stands in no other member."""
    hidden = (total or 0) - (usage.input_tokens or 0) - (usage.output_tokens or 0)
    if hidden <= 0:
        return usage
    reasoning = (usage.reasoning_output_tokens or 0) + hidden
    written = (usage.output_tokens or 0) + hidden
    return msgspec.structs.replace(usage, output_tokens=written, reasoning_output_tokens=reasoning)


# The details of both sides: chat's and responses' names, and the singular that some use. Container → its own row.
_INPUT_DETAILS = {
    "prompt_tokens_details": ("openai.chat/all_details", "openai/038, openrouter/005, azure-foundry/003"),
    "input_tokens_details": ("openai.responses/all_details", "openai/202, openrouter/063"),
    "prompt_token_details": ("openai.chat/writer_singular_details", "writer/002"),
    "input_token_details": ("openai.responses/singular_details", "openai/017"),
}
_OUTPUT_DETAILS = {
    "completion_tokens_details": ("openai.chat/all_details", "openai/047, openrouter/005"),
    "output_tokens_details": ("openai.responses/all_details", "openai/201, openrouter/062"),
    "completion_token_details": ("openai.chat/writer_singular_details", "writer/002"),
    "output_token_details": ("openai.responses/singular_details", "realtime answers spell it so"),
}


def _inside(field: str, details: dict[str, tuple[str, str]], name: str) -> tuple[Place, ...]:
    return tuple(
        Place(field=field, path=(container, name), shown_by=shown_by, seen_at=seen_at)
        for container, (shown_by, seen_at) in details.items()
    )


def _at_root(field: str, name: str, shown_by: str, seen_at: str, *, times: int = 1) -> Place:
    return Place(field=field, path=(name,), shown_by=shown_by, seen_at=seen_at, times=times)


_TOOLS, _XAI_TOOLS = "openai.responses/xai_tools", "server_side_tool_usage_details"

QUIRKS: tuple[Row, ...] = (
    _at_root("input_tokens", "prompt_tokens", "openai.chat/odd_usage", "openai/047"),
    _at_root("input_tokens", "input_tokens", "openai.responses/all_details", "openai/202"),
    _at_root("output_tokens", "completion_tokens", "openai.chat/odd_usage", "openai/047"),
    _at_root("output_tokens", "output_tokens", "openai.responses/all_details", "openai/202"),
    *_inside("cache_read_input_tokens", _INPUT_DETAILS, "cached_tokens"),
    _at_root("cache_read_input_tokens", "prompt_cache_hit_tokens", "openai.chat/deepseek_hit_and_miss", "deepseek/001"),
    _at_root(
        "cache_read_input_tokens", "cached_tokens", "openai.chat/together_cached", "together/002, huggingface/014"
    ),
    _at_root("cache_read_input_tokens", "num_cached_tokens", "openai.chat/mistral_num_cached", "mistral/011"),
    _at_root(
        "cache_read_input_tokens", "cache_read_input_tokens", "openai.chat/databricks_anthropic_names", "databricks/004"
    ),
    *_inside("cache_write_input_tokens", _INPUT_DETAILS, "cache_write_tokens"),
    Place(
        field="cache_write_input_tokens",
        path=("prompt_tokens_details", "cache_creation_tokens"),
        shown_by="openai.chat/litellm_cost_in_header",
        seen_at="LiteLLM's documents",
    ),
    _at_root(
        "cache_write_input_tokens",
        "cache_creation_input_tokens",
        "openai.chat/databricks_anthropic_names",
        "databricks/004, vercel-gateway/001",
    ),
    *_inside("audio_input_tokens", _INPUT_DETAILS, "audio_tokens"),
    _at_root("audio_input_tokens", "audio_prompt_tokens", "openai.chat/foundry_audio_prompt", "azure-foundry/003"),
    _at_root(
        "audio_input_ms",
        "prompt_audio_seconds",
        "openai.chat/mistral_audio_outside",
        "mistral/008, mistral/020",
        times=1000,
    ),
    *_inside("image_input_tokens", _INPUT_DETAILS, "image_tokens"),
    *_inside("video_input_tokens", _INPUT_DETAILS, "video_tokens"),
    *_inside("reasoning_output_tokens", _OUTPUT_DETAILS, "reasoning_tokens"),
    _at_root(
        "reasoning_output_tokens", "reasoning_tokens", "openai.chat/perplexity_research", "Perplexity's documents"
    ),
    _at_root("document_input_tokens", "citation_tokens", "openai.chat/perplexity_research", "Perplexity's documents"),
    *_inside("audio_output_tokens", _OUTPUT_DETAILS, "audio_tokens"),
    *_inside("image_output_tokens", _OUTPUT_DETAILS, "image_tokens"),
    *_inside("accepted_prediction_output_tokens", _OUTPUT_DETAILS, "accepted_prediction_tokens"),
    *_inside("rejected_prediction_output_tokens", _OUTPUT_DETAILS, "rejected_prediction_tokens"),
    _at_root("web_search_requests", "num_search_queries", "openai.chat/perplexity_research", "Perplexity's documents"),
    Place(
        field="web_search_requests",
        path=("server_tool_use_details", "web_search_requests"),
        shown_by="openai.chat/openrouter_search_and_cost",
        seen_at="openrouter/005, openrouter/048",
    ),
    Place(field="web_search_requests", path=(_XAI_TOOLS, "web_search_calls"), shown_by=_TOOLS, seen_at="xai/032"),
    Place(field="file_search_requests", path=(_XAI_TOOLS, "file_search_calls"), shown_by=_TOOLS, seen_at="xai/032"),
    Place(
        field="code_execution_requests",
        path=(_XAI_TOOLS, "code_interpreter_calls"),
        shown_by=_TOOLS,
        seen_at="xai/032",
    ),
    # All of them together: what the three above don't name is left.
    _at_root("tool_requests", "num_server_side_tools_used", _TOOLS, "xai/032"),
    _at_root("search_sources", "num_sources_used", "openai.chat/xai_reasoning_outside", "xai/002"),
    Surplus(output_parts=("reasoning_output_tokens",), shown_by="openai.chat/xai_reasoning_outside", seen_at="xai/002"),
    Surplus(input_parts=("audio_input_tokens",), shown_by="openai.chat/mistral_audio_outside", seen_at="mistral/020"),
    Surplus(
        input_parts=("cache_read_input_tokens", "cache_write_input_tokens"),
        shown_by="openai.chat/databricks_anthropic_names",
        seen_at="gateways that pass Anthropic's exclusive counts on under OpenAI's names",
    ),
    Override(
        provider="vercel",
        marker="market_cost",
        model="google/",
        reads=_reasoning_outside,
        shown_by="openai.chat/vercel_google_reasoning_outside",
        seen_at="vercel-gateway/002",
    ),
    Override(
        marker="citation_tokens",
        reads=_research_outside,
        shown_by="openai.chat/perplexity_research",
        seen_at="Perplexity's documents",
    ),
    Override(
        provider="google", reads=_thinking_hidden, shown_by="openai.chat/google_hidden_thinking", seen_at="google-gla"
    ),
    Override(
        model="gemini", reads=_thinking_hidden, shown_by="openai.chat/gemini_hidden_thinking", seen_at="google-gla"
    ),
    Cost(path=("cost", "total_cost"), shown_by="openai.chat/perplexity_cost", seen_at="perplexity/001"),
    Cost(path=("cost",), shown_by="openai.chat/openrouter_search_and_cost", seen_at="openrouter/005, avian/002"),
    Cost(
        path=("cost_in_usd_ticks",),
        exponent=-10,
        zero_tells=False,  # Azure Foundry sends one with each answer of Grok
        shown_by="openai.chat/xai_reasoning_outside",
        seen_at="xai/002, azure-foundry/016",
    ),
    Header(
        provider="litellm",
        name="x-litellm-response-cost",
        field=REPORTED_COST,
        shown_by="openai.chat/litellm_cost_in_header",
        seen_at="litellm-proxy/001",
    ),
    Header(
        provider="fireworks",
        name="fireworks-cached-prompt-tokens",
        field="cache_read_input_tokens",
        shown_by="openai.chat/fireworks_cached_in_header",
        seen_at="Fireworks' documents",
    ),
    Variant(
        member="search_context_size",
        prefix="search context",
        shown_by="openai.chat/perplexity_cost",
        seen_at="perplexity/001",
    ),
)
