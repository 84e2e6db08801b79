"""What a worker counts for its operator, and how the supervisor adds workers up.

A histogram is a list: a count for each bucket (not cumulative; the last but one has no upper bound), then the sum of
all values. Two index operations a value is what a call can afford.
"""

from collections.abc import Iterable, Sequence

import msgspec

from metering.core.usage import TOKEN_METERS, Meter

# Upper bounds of buckets. Tokens and durations as the OpenTelemetry `gen_ai` conventions advise.
TOKEN_BOUNDS = tuple(4**power for power in range(14))
DURATION_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
HELD_LEAST = 0.00005
HELD_BOUNDS = (HELD_LEAST, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0, 10.0)
METERS = tuple(meter.value for meter in TOKEN_METERS)
PARTS = tuple(meter for meter in METERS if meter not in (Meter.INPUT, Meter.OUTPUT))
MODELS_MAX = 100
OTHER = "other"


Histogram = list[float]


def histogram(bounds: Sequence[float]) -> Histogram:
    """An empty one."""
    return [0] * (len(bounds) + 2)


def add_histograms(mine: Histogram, theirs: Histogram) -> Histogram:
    """Both together."""
    return [left + right for left, right in zip(mine, theirs, strict=True)]


class CallKind(msgspec.Struct, frozen=True):
    """What calls are told apart by. Each field has few values: `model` is capped, the rest is ours or configured."""

    route: str
    provider: str
    operation: str
    model: str
    server_address: str
    server_port: int
    outcome: str
    status_class: str  # "2xx", …, or "none": no answer's head came
    usage_source: str


class CallCount(msgspec.Struct):
    """What calls of one kind came to. Times in seconds."""

    kind: CallKind
    calls: int = 0
    upstream_seconds: float = 0.0  # from sending to the last byte of the answer
    parts: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(PARTS, 0))  # tokens by other meters
    input_tokens: Histogram = msgspec.field(default_factory=lambda: histogram(TOKEN_BOUNDS))
    output_tokens: Histogram = msgspec.field(default_factory=lambda: histogram(TOKEN_BOUNDS))
    duration: Histogram = msgspec.field(default_factory=lambda: histogram(DURATION_BOUNDS))
    first: Histogram = msgspec.field(default_factory=lambda: histogram(FIRST_BOUNDS))

    def add(self, other: "CallCount") -> None:
        """Count `other` in."""
        self.calls += other.calls
        self.upstream_seconds += other.upstream_seconds
        for meter, quantity in other.parts.items():
            self.parts[meter] += quantity
        for name in ("input_tokens", "output_tokens", "duration", "first"):
            setattr(self, name, add_histograms(getattr(self, name), getattr(other, name)))


class Tally(msgspec.Struct):
    """A worker's counters since it began, and its gauges."""

    unmetered_calls: int = 0  # forwarded, and no record of them could be written
    late_finals: int = 0  # finals the spool could not write at once
    refused_requests: int = 0  # answered by the sidecar itself; never forwarded
    estimates_made: int = 0  # calls counted by their texts
    estimates_refused_away: int = 0  # the estimator ended before it had answered
    estimates_refused_full: int = 0  # too many wait already
    estimates_refused_late: int = 0  # no answer in time
    estimates_refused_uncountable: int = 0  # no text in what was kept, or none that can be counted
    upstream_retries: int = 0  # sent again because a pooled connection had gone stale
    usage_asked: int = 0  # usage was asked for in the client's stead
    usage_refused: int = 0  # and the upstream refused that: sent again as the client sent it
    spool_corrupt_records: int = 0  # met at the start
    spool_interrupted_calls: int = 0  # of a former writer, finished at the start
    request_held: Histogram = msgspec.field(default_factory=lambda: histogram(HELD_BOUNDS))
    answer_held: Histogram = msgspec.field(default_factory=lambda: histogram(HELD_BOUNDS))
    call_counts: list[CallCount] = []
    # of this moment:
    calls_in_flight: int = 0
    estimates_waiting: int = 0
    client_connections: int = 0
    upstream_connections: int = 0
    spool_degraded: int = 0
    spool_full: int = 0


GAUGES = (
    "calls_in_flight",
    "estimates_waiting",
    "client_connections",
    "upstream_connections",
    "spool_degraded",
    "spool_full",
)
COUNTERS = (
    "unmetered_calls",
    "late_finals",
    "refused_requests",
    "estimates_made",
    "estimates_refused_away",
    "estimates_refused_full",
    "estimates_refused_late",
    "estimates_refused_uncountable",
    "upstream_retries",
    "usage_asked",
    "usage_refused",
    "spool_corrupt_records",
    "spool_interrupted_calls",
)


class Totals:
    """What all workers counted, those that ended too: never less than before.

    A worker that was killed counts as it last said it stood, at most a second before.
    """

    def __init__(self) -> None:
        self.ended = Tally()  # what those counted that ended
        self._models: set[str] = set()

    def keep(self, last: Tally) -> None:
        """A worker ended that last stood there."""
        self.ended = self._sum([self.ended, last])
        for name in GAUGES:
            setattr(self.ended, name, 0)

    def with_running(self, tallies: Iterable[Tally]) -> Tally:
        """The sum over the ended workers and these."""
        return self._sum([self.ended, *tallies])

    def _sum(self, tallies: Iterable[Tally]) -> Tally:
        total = Tally()
        kinds: dict[CallKind, CallCount] = {}
        for tally in tallies:
            for name in COUNTERS + GAUGES:
                setattr(total, name, getattr(total, name) + getattr(tally, name))
            total.request_held = add_histograms(total.request_held, tally.request_held)
            total.answer_held = add_histograms(total.answer_held, tally.answer_held)
            for count in tally.call_counts:
                kind = self._capped(count.kind)
                kinds.setdefault(kind, CallCount(kind)).add(count)
        total.call_counts = list(kinds.values())
        return total

    def _capped(self, kind: CallKind) -> CallKind:
        """Workers cap the models each for itself; together they may know more."""
        if kind.model in self._models or kind.model == OTHER:
            return kind
        if len(self._models) < MODELS_MAX:
            self._models.add(kind.model)
            return kind
        return msgspec.structs.replace(kind, model=OTHER)


def decode_tally(line: bytes) -> Tally | None:
    """What a worker said about itself; None if it was cut off."""
    try:
        return msgspec.json.decode(line, type=Tally)
    except msgspec.DecodeError:
        return None
