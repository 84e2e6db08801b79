"""What providers do that no answer tells: take a question for usage or refuse it, stop or go on when a client leaves.

Data, each with where it is from: numbers of recorded exchanges, a server's source, an issue, documentation. What nobody
verified says so. A provider that is not listed is not asked, and is left at once: most are servers of one's own.
"""

from collections.abc import Mapping
from enum import Enum

import msgspec


class Stops(Enum):
    """When a call stops, and its bill with it, because its client has left."""

    ALWAYS = "always"
    STREAMS = "streams"  # streamed calls only: of others the whole answer is billed
    NEVER = "never"
    UNKNOWN = "unknown"


class Provider(msgspec.Struct, frozen=True):
    """One provider."""

    stops: Stops = Stops.UNKNOWN
    stops_from: str = ""
    asked: bool = False  # by `ask_usage = "auto"`
    asked_from: str = ""


_OPENROUTER_SAYS = "openrouter.ai/docs/api-reference/streaming says it of its upstreams; nobody compared a bill"
_UNASKED = "tells usage in a chunk unasked"

PROVIDERS: Mapping[str, Provider] = {
    # clouds
    "anthropic": Provider(Stops.STREAMS, _OPENROUTER_SAYS),
    "azure": Provider(
        Stops.STREAMS, _OPENROUTER_SAYS, asked=True,
        asked_from="9 recordings; older api-versions answer 400 (langgenius/dify#9591), and are asked again without",
    ),
    "azure-foundry": Provider(
        asked_from="6 recordings took it, some models answer 422 (pollinations/pollinations#11509)"
    ),
    "bedrock": Provider(Stops.NEVER, "the whole answer stood on the bill (BerriAI/litellm#34147)"),
    "cerebras": Provider(asked=True, asked_from="recorded with it"),
    "cloudflare": Provider(Stops.STREAMS, _OPENROUTER_SAYS, asked_from="3 recordings took it, none was without"),
    "cohere": Provider(Stops.STREAMS, _OPENROUTER_SAYS),
    "crusoe": Provider(asked=True, asked_from="1 recording"),
    "databricks": Provider(asked_from=_UNASKED),
    "deepseek": Provider(Stops.STREAMS, _OPENROUTER_SAYS, asked_from=_UNASKED),
    "fireworks": Provider(Stops.STREAMS, _OPENROUTER_SAYS),
    "google": Provider(Stops.NEVER, _OPENROUTER_SAYS),
    "groq": Provider(Stops.NEVER, _OPENROUTER_SAYS, asked_from=_UNASKED),
    "huggingface": Provider(Stops.NEVER, _OPENROUTER_SAYS),
    "mistral": Provider(Stops.NEVER, _OPENROUTER_SAYS, asked_from="answers 422 (yetone/avante.nvim#2347)"),
    "openai": Provider(Stops.STREAMS, _OPENROUTER_SAYS, asked=True, asked_from="23 recordings; documented"),
    "openrouter": Provider(Stops.STREAMS, "its documentation: it depends on the upstream", asked_from=_UNASKED),
    "perplexity": Provider(Stops.NEVER, _OPENROUTER_SAYS, asked_from=_UNASKED),
    "replicate": Provider(Stops.NEVER, _OPENROUTER_SAYS),
    "sagemaker": Provider(),
    "snowflake": Provider(asked=True, asked_from="2 recordings"),
    "together": Provider(Stops.STREAMS, _OPENROUTER_SAYS, asked_from=_UNASKED),
    "writer": Provider(asked=True, asked_from="4 recordings"),
    "xai": Provider(Stops.STREAMS, _OPENROUTER_SAYS, asked=True, asked_from="5 recordings"),
    # servers of one's own: what stops is the GPU
    "llamacpp": Provider(
        Stops.ALWAYS, "ggml-org/llama.cpp#4911; a server behind its router went on (#24496)", asked=True,
        asked_from="3 recordings; older than ggml-org/llama.cpp#16052 ignores it",
    ),
    "ollama": Provider(
        Stops.ALWAYS, "its maintainers in ollama/ollama#2876", asked=True, asked_from="10 recordings of /v1"
    ),
    "sglang": Provider(asked=True, asked_from="its source: the dialect of vLLM"),
    "vllm": Provider(
        Stops.ALWAYS, "its maintainers in vllm-project/vllm#32442; one report to the contrary (#54947)", asked=True,
        asked_from="its source; 18 recordings without the question have no usage",
    ),
}  # fmt: skip

# Other names of the same; `_` and `.` count as `-`.
_ALIASES = {
    "amazon-bedrock": "bedrock",
    "aws": "bedrock",
    "aws-bedrock": "bedrock",
    "az-ai-openai": "azure",
    "azure-ai-openai": "azure",
    "azure-openai": "azure",
    "gcp-gemini": "google",
    "gcp-vertex-ai": "google",
    "gemini": "google",
    "llama-cpp": "llamacpp",
    "mistral-ai": "mistral",
    "vertex": "google",
    "vertex-ai": "google",
    "x-ai": "xai",
}


def find_provider(name: str) -> Provider:
    """What is known of the provider a route names; nothing of most names."""
    name = name.lower().replace("_", "-").replace(".", "-")
    return PROVIDERS.get(_ALIASES.get(name, name)) or Provider()
