"""What a call's event leaves open: what other models took in it, and a side that nobody told."""

from uuid import UUID

from msgspec.structs import replace

from metering.core.dialects import Reading
from metering.core.event import UsageEvent
from metering.core.usage import UsageSource


def part_of(call: UsageEvent, other: Reading, event_id: UUID) -> UsageEvent:
    """The event of what another model took in `call`."""
    return replace(
        call,
        event_id=event_id,
        part_of=call.event_id,
        usage_source=other.usage_source,
        usage=other.usage,
        raw_usage=other.raw_usage,
        request_model=other.response_model,
        response_model=other.response_model,
        response_id=other.response_id,
        service_tier=other.service_tier,
        variant=other.variant,
        estimator=other.estimator,
        reported_cost=other.reported_cost,
        once=other.once,
        first_token_at=None,
        request_bytes=0,  # they are the call's
        response_bytes=0,
    )


def lacks_a_side(event: UsageEvent) -> bool:
    """Whether the provider told a part only. An Anthropic stream that was cut told at its start what it had written."""
    usage = event.usage
    if usage is None or event.usage_source is not UsageSource.PARTIAL:
        return usage is None
    missing = usage.input_tokens is None or usage.output_tokens is None
    return missing or event.dialect.startswith("anthropic.")
