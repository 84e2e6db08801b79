"""One inference call as one row: `UsageEvent`, and the id that carries its start time.

The id is a UUIDv7 minted before the first byte is forwarded. `started_at` is read back from it, so the id
and the day's partition can never disagree, and a re-sent event always meets its earlier self.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID, SafeUUID

import msgspec

from metering.core.usage import Usage, UsageSource

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_new, _set = object.__new__, object.__setattr__  # a UUID refuses to be set by the usual means
_SAFETY = SafeUUID.unknown  # looking up a member of an enum costs as much as the rest of minting an id

# A threshold that lies on this ladder can be priced from rollups; one off it is re-counted from events.
CONTEXT_LADDER_TOKENS = (32_000, 128_000, 200_000, 256_000, 272_000, 512_000, 1_000_000)


class Outcome(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"  # the upstream's answer ended as HTTP says it should, status below 400
    ABORTED = "aborted"  # the client left first
    FAILED = "failed"  # status 400 or above, an error inside the stream, or the upstream broke off
    INTERRUPTED = "interrupted"  # the sidecar stopped before the end was seen


class Attribution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who a call belongs to. `None` = nobody said; such usage shows up as unallocated."""

    credential_id: str | None = None
    principal: str | None = None
    team: str | None = None
    project: str | None = None
    environment: str | None = None
    tags: dict[str, str] = {}


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. No field can hold a prompt or a completion.

    Field names are OpenTelemetry `gen_ai` attributes, snake_cased, where one exists. Times are aware UTC.
    `raw_usage` is the provider's own usage object: numbers, short strings, nesting, nothing else.
    """

    event_id: UUID
    provider_name: str
    operation_name: str = "unknown"  # chat, text_completion, embeddings, generate_content, …, or unknown
    dialect: str = "unknown"  # the wire format: openai.chat, anthropic.messages, ollama.chat, …
    outcome: Outcome
    usage_source: UsageSource
    usage: Usage | None = None
    raw_usage: dict[str, Any] | None = None
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    deployment: str | None = None
    region: str | None = None
    service_tier: str | None = None  # the served one, not the requested one; `batch` for what came by a batch
    variant: str | None = None  # what else of the request decides a price: the size and quality of images, say
    estimator: str | None = None  # what counted, with its version, where `usage_source` is estimated
    reported_cost: Decimal | None = None  # what the provider says the call cost, in USD
    # The answer tells the usage of something that other answers tell too: `response_id` names it, count it once.
    once: bool = False
    part_of: UUID | None = None  # the event of the call, where this is what another model took in it
    streamed: bool = False
    status: int | None = None  # HTTP status; None if no response head was seen
    first_token_at: datetime | None = None
    ended_at: datetime | None = None
    request_bytes: int = 0  # body bytes, as on the wire
    response_bytes: int = 0
    attempt: int = 0  # the SDK's own retry count, 0 for the first try
    trace_id: str | None = None
    attribution: Attribution = Attribution()

    @property
    def started_at(self) -> datetime:
        """When the call began (UTC, to the millisecond), as its id says."""
        return started_at(self.event_id)

    @property
    def model(self) -> str | None:
        """The model to price: the one that answered, else the one that was asked for."""
        return self.response_model or self.request_model


def mint_event_id(unix_ms: int, random_74_bits: int) -> UUID:
    """A UUIDv7 (RFC 9562) for a call that starts at `unix_ms`; the caller brings clock and randomness."""
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | 0b10 << 62
    value |= (random_74_bits >> 62 & 0xFFF) << 64 | random_74_bits & (1 << 62) - 1
    # What `UUID(int=value)` does, without looking at arguments that are not given: one is minted a call.
    event_id = _new(UUID)
    _set(event_id, "int", value)
    _set(event_id, "is_safe", _SAFETY)
    return event_id


def started_at(event_id: UUID) -> datetime:
    """The start time inside a UUIDv7, aware UTC. `ValueError` for any other kind of UUID."""
    if event_id.version != 7:
        raise ValueError(f"{event_id} is not a UUIDv7: the start time is read from the id")
    return EPOCH + timedelta(milliseconds=event_id.int >> 80)


def context_band(input_tokens: int | None) -> int:
    """The highest rung of the context ladder that `input_tokens` is over; 0 if none.

    >>> context_band(200_000), context_band(200_001)
    (128000, 200000)
    """
    return max((rung for rung in CONTEXT_LADDER_TOKENS if (input_tokens or 0) > rung), default=0)
