"""What a dialect is: which requests speak it, how it is read, and what is said of it to people."""

from typing import Any

import msgspec

from metering.core.dialects.counts import word
from metering.core.dialects.found import Meaning
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.dialects.sessions import SessionMeaning


class Route(msgspec.Struct, frozen=True):
    """A method and the end of a path, in segments. Gateways and clouds mount the same interface under any prefix.

    `*` stands for any one segment, `{id}` for one that names what is asked about, `{model}` for one that names the
    model; `{model}:verb` is Google's way. A name of several segments has a `{part}` for each before its last.
    """

    method: str
    path: str
    at: str = ""  # only at providers with this in their name …
    not_at: str = ""  # … or at all but them: a few share a path with another's dialect
    looks: bool = False  # it consumes nothing itself, and may tell what another call consumed
    query: str = ""  # the parameter that names the model, where neither path nor body does

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments."""
        return tuple(self.path.split("/"))


class RequestMeaning:
    """What the members of a request body mean: model and stream, and what else the request itself decides.

    Stateless. `streamed`: what a body that is whole means by not saying it.
    """

    members: tuple[str, ...] = ("model", "stream")

    def __init__(self, *, streamed: bool = False) -> None:
        self.streamed = streamed

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        """The facts in the members found; `whole`: there are no others."""
        return self.facts(members.get("model"), members.get("stream"), operation, whole=whole)

    def facts(self, model: object, stream: object, operation: Operation, *, whole: bool) -> RequestFacts:
        """Model and stream."""
        if stream is None and whole:
            stream = self.streamed
        return RequestFacts(word(model) or operation.model, stream if isinstance(stream, bool) else None)


MODEL_AND_STREAM = RequestMeaning()


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One wire format, complete."""

    name: str  # on the row: provider family and interface
    operation_name: str = "unknown"  # OpenTelemetry gen_ai.operation.name
    routes: tuple[Route, ...] = ()
    consumes: bool | None = True  # False: such a call never consumes; None: it may tell what another call consumed
    meaning: Meaning | None = None  # None: the answer tells nothing that is metered
    request: RequestMeaning = MODEL_AND_STREAM
    streams: bool = False  # every answer that is none of an error is a stream
    session: SessionMeaning | None = None  # of what goes through a WebSocket
    spoken_by: str = ""  # whose interface it is, and who else serves it
    # Where the counts stand, for people:
    input_total: str = "–"
    output_total: str = "–"
    stream_usage: str = "–"  # "–": it never streams
    also_counts: str = "–"
    gaps: str = "–"

    @property
    def operation(self) -> Operation:
        """What a request that speaks it is."""
        headers = self.meaning.headers if self.meaning else ()
        return Operation(self.name, self.operation_name, consumes=self.consumes, streams=self.streams, headers=headers)
