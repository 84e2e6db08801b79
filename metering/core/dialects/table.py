"""All dialects there are. A new one is a `Dialect` in its family's module; a new family is a line here."""

from collections.abc import Mapping

from metering.core.dialects import anthropic, gemini, gemini_interactions, ollama, openai, vertex
from metering.core.dialects.dialect import Dialect, Route

# Calls that every server knows and for which no model runs: lists, and the upkeep of local models.
_IDLE = Dialect(
    name="unknown",
    consumes=False,
    routes=(
        Route("GET", "models"),
        Route("GET", "models/*"),
        Route("GET", "responses/*/input_items"),
        Route("POST", "threads/*/messages"),  # OpenAI assistants: text is stored, not read
        *(Route("GET", f"api/{word}") for word in ("tags", "ps", "version")),
        *(Route("POST", f"api/{word}") for word in ("show", "pull", "push", "create", "copy")),
    ),
)
# Paths of somebody's own interface that look like another's.
_FOREIGN = Dialect(name="unknown", consumes=None, routes=(Route("POST", "api/v1/chat"),))  # LM Studio's own

FAMILIES = (openai, anthropic, ollama, gemini, gemini_interactions, vertex)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for family in FAMILIES for dialect in family.DIALECTS}
ROUTED = (*DIALECTS.values(), _IDLE, _FOREIGN)
