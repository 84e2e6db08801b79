"""Counting a worker's calls for its operator: once a call, after its last byte has left.

Measured by `python -m benchmarks.call_counts`: 1.5 µs a call, 1.7 streamed, 0.4 more with cached tokens. So one look-up
finds all that grows, labels are worked out when a kind is first met, durations are differences of times that were taken
anyway, and there is one function, longer than others.
"""

from bisect import bisect_left
from typing import TYPE_CHECKING

from metering.core.event import UsageEvent
from metering.core.usage import Meter, Usage, disjoint_meters
from metering.sidecar.tally import (
    DURATION_BOUNDS,
    FIRST_BOUNDS,
    HELD_BOUNDS,
    HELD_LEAST,
    MODELS_MAX,
    OTHER,
    TOKEN_BOUNDS,
    CallCount,
    CallKind,
    Tally,
)

if TYPE_CHECKING:
    from metering.sidecar.relay.call_record import CallRecord
    from metering.sidecar.relay.routes import Route

UNKNOWN = "unknown"
KNOWN_MAX = 4096
_CACHED, _REASONED = Meter.CACHE_READ_INPUT.value, Meter.REASONING_OUTPUT.value
MODEL_LENGTH_MAX = 128
_Key = tuple["Route", str, str | None, str, int | None, str]


class CallCounts:
    """The part of a `Tally` that grows with every call."""

    def __init__(self, tally: Tally) -> None:
        self._request_held, self._answer_held = tally.request_held, tally.answer_held
        self._counts = tally.call_counts
        self._by_kind: dict[CallKind, CallCount] = {}
        self._known: dict[_Key, CallCount] = {}
        self._models: set[str] = set()

    def count(self, record: "CallRecord", event: UsageEvent, released: float) -> None:
        """A forwarded call is over and its last byte left at `released` (monotonic)."""
        key = (
            # `_value_`: an enum's `value` and its hash are written in Python
            record.route, event.operation_name, event.request_model, event.outcome._value_, event.status,
            event.usage_source._value_,
        )  # fmt: skip
        count = self._known.get(key) or self._meet(key)
        count.calls += 1
        sent, ended = record.sent_at, record.ended
        seconds = ended - record.began
        histogram = count.duration
        histogram[bisect_left(DURATION_BOUNDS, seconds)] += 1
        histogram[-1] += seconds
        if sent:
            count.upstream_seconds += ended - sent
            seconds = sent - record.began
            histogram = self._request_held
            histogram[0 if seconds <= HELD_LEAST else bisect_left(HELD_BOUNDS, seconds)] += 1
            histogram[-1] += seconds
            if record.streamed and record.first:
                seconds = record.first - sent
                histogram = count.first
                histogram[bisect_left(FIRST_BOUNDS, seconds)] += 1
                histogram[-1] += seconds
        seconds = released - ended
        histogram = self._answer_held
        histogram[0 if seconds <= HELD_LEAST else bisect_left(HELD_BOUNDS, seconds)] += 1
        histogram[-1] += seconds
        if event.usage is not None:
            _count_tokens(count, event.usage)

    def count_part(self, record: "CallRecord", event: UsageEvent) -> None:
        """What another model took in a call: its tokens count under its own name, and no call."""
        if event.usage is not None:
            key = (
                record.route, event.operation_name, event.request_model, event.outcome._value_, event.status,
                event.usage_source._value_,
            )  # fmt: skip
            _count_tokens(self._known.get(key) or self._meet(key), event.usage)

    def _meet(self, key: _Key) -> CallCount:
        """The count of a key not met lately. Keys hold what clients and models say, so they are forgotten."""
        route, operation, model, outcome, status, usage_source = key
        upstream = route.config.upstream
        kind = CallKind(
            route=route.name,
            provider=route.config.provider,
            operation=operation,
            model=self._name_model(model, answered=status is not None and status < 400),
            server_address=upstream.host,
            server_port=upstream.port,
            outcome=outcome,
            status_class="none" if status is None else f"{status // 100}xx",
            usage_source=usage_source,
        )
        count = self._by_kind.get(kind)
        if count is None:
            count = self._by_kind[kind] = CallCount(kind)
            self._counts.append(count)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        if kind.model != OTHER:  # a model that fails now may answer later and get a name
            self._known[key] = count
        return count

    def _name_model(self, model: str | None, *, answered: bool) -> str:
        """The model as a label: only what an upstream answered for takes one of the few places."""
        if model is None:
            return UNKNOWN
        if model in self._models:
            return model
        if not answered or len(self._models) >= MODELS_MAX or len(model) > MODEL_LENGTH_MAX:
            return OTHER
        self._models.add(model)
        return model


def _count_tokens(count: CallCount, usage: Usage) -> None:
    tokens = usage.input_tokens
    if tokens is not None:
        histogram = count.input_tokens
        histogram[bisect_left(TOKEN_BOUNDS, tokens)] += 1
        histogram[-1] += tokens
    tokens = usage.output_tokens
    if tokens is not None:
        histogram = count.output_tokens
        histogram[bisect_left(TOKEN_BOUNDS, tokens)] += 1
        histogram[-1] += tokens
    if (
        usage.cache_read_input_tokens
        or usage.reasoning_output_tokens
        or usage.cache_write_input_tokens
        or usage.cache_write_5m_input_tokens
        or usage.cache_write_1h_input_tokens
        or usage.audio_input_tokens
        or usage.image_input_tokens
        or usage.video_input_tokens
        or usage.audio_output_tokens
        or usage.image_output_tokens
        or usage.billed_input_tokens is not None
        or usage.billed_output_tokens is not None
    ):
        _split(count.parts, usage)


def _split(parts: dict[str, int], usage: Usage) -> None:
    """Count what isn't at the plain rate; plain tokens are what the totals leave."""
    cached, reasoned = usage.cache_read_input_tokens or 0, usage.reasoning_output_tokens or 0
    if (
        cached <= (usage.input_tokens or 0)
        and reasoned <= (usage.output_tokens or 0)
        and not (
            usage.cache_write_input_tokens
            or usage.cache_write_5m_input_tokens
            or usage.cache_write_1h_input_tokens
            or usage.cache_read_audio_input_tokens
            or usage.audio_input_tokens
            or usage.image_input_tokens
            or usage.video_input_tokens
            or usage.audio_output_tokens
            or usage.image_output_tokens
        )
        and usage.billed_input_tokens is None
        and usage.billed_output_tokens is None
    ):
        parts[_CACHED] += cached  # what `disjoint_meters` says of most such calls, without its 5 µs
        parts[_REASONED] += reasoned
        return
    for meter, quantity in disjoint_meters(usage).items():
        if meter._value_ in parts:
            parts[meter._value_] += quantity
