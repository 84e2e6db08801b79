"""Further answers in the shape of OpenAI's chat: moderations, and completions that are fetched later."""

from typing import Any

from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found
from metering.core.dialects.openai import OpenAIChat
from metering.core.usage import Usage


class Moderations(OpenAIChat):
    """Free where no usage is told (OpenAI), else paid by the token (Mistral)."""

    def usage(self, found: Found) -> Usage | None:
        usage = super().usage(found)
        found.idle = usage is None and not found.failed
        return usage


class DeferredCompletion(OpenAIChat):
    """xAI: nothing until it is there, then the whole completion."""

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        super().read_members(members, found)
        found.once = True

    def read(self, text: bytes, found: Found) -> bool:
        found.once = True
        return super().read(text, found)

    def usage(self, found: Found) -> Usage | None:
        usage = super().usage(found)
        found.idle = usage is None
        return usage


DIALECTS = (
    Dialect(
        name="openai.moderations",
        operation_name="moderation",
        routes=(
            *(Route("POST", f"{kind}moderations") for kind in ("", "chat/")),
            *(Route("POST", f"{kind}classifications", at="mistral") for kind in ("", "chat/")),
        ),
        meaning=Moderations(),
        spoken_by="OpenAI (free), Azure, Mistral",
        input_total="`prompt_tokens`; without usage it is free",
        output_total="`completion_tokens`",
    ),
    Dialect(
        name="xai.chat.deferred",
        operation_name="chat",
        routes=(Route("GET", "chat/deferred-completion/{id}"),),
        consumes=None,
        meaning=DeferredCompletion(),
        spoken_by="xAI",
        input_total="`prompt_tokens`",
        output_total="`completion_tokens` + reasoning",
        gaps="a completion nobody fetches is not told",
    ),
)
