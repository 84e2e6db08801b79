"""From method and path to `Operation`: one table, matched by the end of the path.

Gateways and clouds mount the same interface under any prefix (`/openai/v1`, `/api/v1`,
`//openai/deployments/{deployment}`, `/compatible-mode/v1`), so only the last segments say what a call is.
"""

from urllib.parse import unquote

import msgspec

from metering.core.dialects.reading import IDLE_OPERATION, UNKNOWN_OPERATION, Operation

OPENAI_CHAT = Operation("openai.chat", "chat", consumes=True)
OPENAI_COMPLETIONS = Operation("openai.completions", "text_completion", consumes=True)
OPENAI_EMBEDDINGS = Operation("openai.embeddings", "embeddings", consumes=True)
OPENAI_RESPONSES = Operation("openai.responses", "chat", consumes=True)
OPENAI_COMPACT = Operation("openai.responses.compact", "chat", consumes=True)
# A poll consumes nothing itself but may be the first to tell what a background response consumed.
OPENAI_RETRIEVE = Operation("openai.responses.retrieve", "chat", consumes=None)
ANTHROPIC_MESSAGES = Operation("anthropic.messages", "chat", consumes=True)
VERTEX_MESSAGES = Operation("anthropic.messages.vertex", "chat", consumes=True)
OPENAI_INPUT_TOKENS = Operation("openai.responses.input_tokens", "unknown", consumes=False)
ANTHROPIC_COUNT_TOKENS = Operation("anthropic.count_tokens", "unknown", consumes=False)
OLLAMA_CHAT = Operation("ollama.chat", "chat", consumes=True)
OLLAMA_GENERATE = Operation("ollama.generate", "text_completion", consumes=True)
OLLAMA_EMBED = Operation("ollama.embed", "embeddings", consumes=True)
OLLAMA_EMBEDDINGS = Operation("ollama.embeddings", "embeddings", consumes=True)


class Route(msgspec.Struct, frozen=True):
    """The end of a path and what it means. `*` stands for any one segment."""

    method: str
    suffix: tuple[str, ...]
    operation: Operation
    not_at: str = ""  # a provider whose own dialect uses the same path


ROUTES = (
    Route("POST", ("chat", "completions"), OPENAI_CHAT),
    Route("POST", ("prompts", "*", "completions"), OPENAI_CHAT),  # Portkey: a stored prompt
    Route("POST", ("agents", "completions"), OPENAI_CHAT),  # Mistral
    Route("POST", ("completions",), OPENAI_COMPLETIONS),
    Route("POST", ("embeddings",), OPENAI_EMBEDDINGS),
    Route("POST", ("v1", "chat"), OPENAI_CHAT, not_at="cohere"),  # Writer
    Route("POST", ("api", "v1", "chat"), UNKNOWN_OPERATION),  # LM Studio's own interface
    Route("POST", ("responses",), OPENAI_RESPONSES),
    Route("POST", ("responses", "compact"), OPENAI_COMPACT),
    Route("POST", ("responses", "input_tokens"), OPENAI_INPUT_TOKENS),
    Route("POST", ("responses", "*", "cancel"), OPENAI_RETRIEVE),
    Route("GET", ("responses", "*"), OPENAI_RETRIEVE),
    Route("GET", ("responses", "*", "input_items"), IDLE_OPERATION),
    Route("POST", ("messages",), ANTHROPIC_MESSAGES),
    Route("POST", ("threads", "*", "messages"), IDLE_OPERATION),  # OpenAI assistants: text is stored, not read
    Route("POST", ("messages", "count_tokens"), ANTHROPIC_COUNT_TOKENS),
    Route("POST", ("api", "chat"), OLLAMA_CHAT),
    Route("POST", ("api", "generate"), OLLAMA_GENERATE),
    Route("POST", ("api", "embed"), OLLAMA_EMBED),
    Route("POST", ("api", "embeddings"), OLLAMA_EMBEDDINGS),
    Route("GET", ("models",), IDLE_OPERATION),
    Route("GET", ("models", "*"), IDLE_OPERATION),
    *(Route("GET", ("api", word), IDLE_OPERATION) for word in ("tags", "ps", "version")),
    *(Route("POST", ("api", word), IDLE_OPERATION) for word in ("show", "pull", "push", "create", "copy")),
)

# Methods that ask, remove or list; no model runs for them whatever the path.
IDLE_METHODS = frozenset({"HEAD", "OPTIONS", "DELETE"})


def _by_last_segment(routes: tuple[Route, ...]) -> dict[tuple[str, str], list[Route]]:
    """The table as `classify` needs it: by method and last segment, the longest suffix first."""
    table: dict[tuple[str, str], list[Route]] = {}
    for route in sorted(routes, key=lambda route: -len(route.suffix)):
        table.setdefault((route.method, route.suffix[-1]), []).append(route)
    return table


_TABLE = _by_last_segment(ROUTES)


def classify(method: str, path: str, provider: str = "") -> Operation:
    """What a request is, from its method and path (the route's prefix stripped; a query string may follow).

    `provider` is the route's; two providers share paths with others' dialects (`Route.not_at`).
    """
    method = method.upper()
    if method in IDLE_METHODS:
        return IDLE_OPERATION
    segments = [segment for segment in path.partition("?")[0].split("/") if segment]
    if not segments:
        return UNKNOWN_OPERATION
    last = segments[-1]
    if last.endswith(("rawPredict", "RawPredict")):
        return _vertex(segments)
    for key in ((method, last), (method, "*")):
        for route in _TABLE.get(key, ()):
            if _matches(segments, route.suffix):
                if route.not_at and route.not_at in provider.lower():
                    return UNKNOWN_OPERATION
                return _deployed(route.operation, segments)
    return UNKNOWN_OPERATION


def _matches(segments: list[str], suffix: tuple[str, ...]) -> bool:
    if len(segments) < len(suffix):
        return False
    ends = zip(segments[-len(suffix) :], suffix, strict=True)
    return all(want in ("*", segment) for segment, want in ends)


def _deployed(operation: Operation, segments: list[str]) -> Operation:
    """Azure names the deployment in the path; it is what was asked for."""
    if "deployments" not in segments[:-2]:
        return operation
    deployment = unquote(segments[segments.index("deployments") + 1])
    return msgspec.structs.replace(operation, model=deployment)


def _vertex(segments: list[str]) -> Operation:
    """Claude on Vertex: `…/publishers/anthropic/models/{model}@{date}:rawPredict`."""
    if segments[-4:-1] != ["publishers", "anthropic", "models"]:
        return UNKNOWN_OPERATION
    model = unquote(segments[-1].rpartition(":")[0])
    if model == "count-tokens":
        return ANTHROPIC_COUNT_TOKENS
    return msgspec.structs.replace(VERTEX_MESSAGES, model=model)
