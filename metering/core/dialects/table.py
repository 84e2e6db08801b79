"""All dialects there are. A new one is a `Dialect` in its family's module; a new family is a line here."""

from collections.abc import Mapping

from metering.core.dialects import (
    anthropic,
    batches,
    mistral,
    ollama,
    openai,
    openai_jobs,
    openai_media,
    openai_more,
)
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.idle import IDLE

# Paths of somebody's own interface that look like another's.
_FOREIGN = Dialect(name="unknown", consumes=None, routes=(Route("POST", "api/v1/chat"),))  # LM Studio's own

FAMILIES = (openai, openai_media, openai_jobs, openai_more, anthropic, mistral, batches, ollama)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for family in FAMILIES for dialect in family.DIALECTS}
ROUTED = (*DIALECTS.values(), IDLE, _FOREIGN)
