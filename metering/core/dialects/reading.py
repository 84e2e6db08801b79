"""The words of the dialects: what a request is, what it says, and what its answer told."""

from typing import Any, Protocol

import msgspec

from metering.core.usage import Usage, UsageSource


class Operation(msgspec.Struct, frozen=True):
    """What a request is, as its method and path say."""

    dialect: str  # the wire format of the answer, or "unknown"
    operation_name: str  # OpenTelemetry gen_ai.operation.name, or "unknown"
    consumes: bool | None  # False: such a call never consumes tokens; None: not known
    model: str | None = None  # from the path, where the dialect puts it there


UNKNOWN_OPERATION = Operation("unknown", "unknown", consumes=None)
IDLE_OPERATION = Operation("unknown", "unknown", consumes=False)


class RequestFacts(msgspec.Struct, frozen=True):
    """What the request body says that metering needs."""

    model: str | None
    streamed: bool | None  # None: not said, or said in a part of the body that was not kept


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer told about itself, read once at its end."""

    usage: Usage | None = None
    usage_source: UsageSource = UsageSource.UNKNOWN
    raw_usage: dict[str, Any] | None = None  # the provider's own object; counts and short words only
    response_model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None  # the served one
    complete: bool = False  # the body or stream ended as the dialect says it ends
    failed: bool = False  # status 400 or above, or an error object in the body or stream
    repeats: bool = False  # the same usage is told by another answer too: count once per `response_id`


class Reader(Protocol):
    """Reads one answer. `feed` keeps bytes and never parses; `finish` parses once. Neither ever raises."""

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body: transfer framing undone, content-encoding not."""

    def finish(self) -> Reading:
        """Say what the answer told. Call it once, when no more bytes will come."""
