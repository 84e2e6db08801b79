"""The words of the dialects: what a request is, what it says, and what its answer told."""

from collections.abc import Collection, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from metering.core.dialects.windows import Kept
from metering.core.usage import Usage, UsageSource

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Operation(msgspec.Struct, frozen=True):
    """What a request is, as its method and path say."""

    dialect: str  # the wire format of the answer, or "unknown"
    operation_name: str  # OpenTelemetry gen_ai.operation.name, or "unknown"
    consumes: bool | None  # False: such a call never consumes tokens; None: not known
    model: str | None = None  # from the path, where the dialect puts it there
    streams: bool = False  # every answer comes as a stream, whatever its content type says
    headers: Collection[str] = ()  # of the answer that its reader wants
    item: str | None = None  # the id in the path of what is asked about: a file, a batch, a film
    model_parameter: str = ""  # of the query, that names the model where the path does not


UNKNOWN_OPERATION = Operation("unknown", "unknown", consumes=None)
IDLE_OPERATION = Operation("unknown", "unknown", consumes=False)


class RequestFacts(msgspec.Struct, frozen=True):
    """What the request body says that metering needs."""

    model: str | None
    streamed: bool | None  # None: not said, or said in a part of the body that was not kept
    counts: Usage | None = None  # what the request itself decides: characters to be spoken, images asked for
    variant: str | None = None  # what else of it decides a price: `1024x1024 hd`


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
    variant: str | None = None
    estimator: str | None = None
    reported_cost: Decimal | None = None  # USD, as the provider says
    repeats: bool = False  # the answer to the call that made it told this usage already: it counts nothing
    once: bool = False  # several answers tell this usage, whichever comes first counts: once per `response_id`
    others: tuple["Reading", ...] = ()  # what other models took in the same call: a transcription, an advisor


class Reader(Protocol):
    """Reads one answer. `feed` keeps bytes and never parses; `finish` parses once. Neither ever raises."""

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body: transfer framing undone, content-encoding not."""

    def finish(self) -> Reading:
        """Say what the answer told. Call it once, when no more bytes will come."""

    def kept(self) -> Kept | None:
        """What was kept of the body after `finish`, content-encoding undone; None if nothing can be read from it."""
