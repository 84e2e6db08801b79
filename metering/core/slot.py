"""What was counted, as values: whose usage (`Dimension`) and how much of it in a span of time (`SlotTotal`)."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from metering.core.usage import Meter


class Dimension(msgspec.Struct, frozen=True, kw_only=True):
    """Who and what: every request-level fact that a price, an owner or a mark on a line can depend on.

    `None` = nobody said.
    """

    dimension_id: int
    team: str | None
    project: str | None
    environment: str | None
    principal: str | None
    credential_id: str | None
    provider_name: str
    deployment: str | None
    region: str | None
    operation_name: str
    model: str | None  # the model to price: the one that answered, else the one asked for
    service_tier: str | None
    variant: str | None
    context_band: int  # tokens; a rung of `CONTEXT_LADDER_TOKENS` or 0
    usage_source: str
    outcome: str


class CountedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One of the events behind a counted quantity: a call, or a part of one. Its dimension is known."""

    event_id: UUID
    started_at: datetime
    ended_at: datetime | None
    dialect: str
    request_model: str | None
    response_model: str | None
    response_id: str | None
    streamed: bool
    status: int | None
    attempt: int
    trace_id: str | None
    tags: dict[str, str]
    estimator: str | None  # what counted, where the usage is an estimate
    part_of: UUID | None  # the call's event, where this is what another model took in it
    reported_cost: Decimal | None  # USD, what the provider says
    raw_usage: dict[str, Any] | None  # what the provider said
    quantities: dict[Meter, int]  # what was counted; zero quantities are left out


class SlotTotal(msgspec.Struct, frozen=True, kw_only=True):
    """One dimension's usage between two instants at which prices may change."""

    dimension: Dimension
    segment_start_at: datetime  # aware UTC; the segment ends at the next boundary, or with the period
    calls: int  # 0 where only parts of calls are in it
    quantities: dict[Meter, int]  # zero quantities are left out


DIMENSION_FIELDS = tuple(name for name in Dimension.__struct_fields__ if name != "dimension_id")
QUANTITY_FIELDS = tuple(f"{meter}_quantity" for meter in Meter)
