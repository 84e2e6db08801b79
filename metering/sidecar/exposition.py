"""`/metrics`: everything a sidecar knows about itself as Prometheus text, one table of families.

Names are OpenTelemetry's for what `gen_ai` has a convention for, in Prometheus' form, and `metering_…` for the
rest; `docs/sidecar.md` lists them. No family is labelled by worker: counts are of the sidecar.
"""

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate

import msgspec

from metering.sidecar.ship.status import ShipTotals
from metering.sidecar.spool.backlog import Backlog
from metering.sidecar.tally import (
    DURATION_BOUNDS,
    FIRST_BOUNDS,
    HELD_BOUNDS,
    METERS,
    TOKEN_BOUNDS,
    CallCount,
    Histogram,
    Tally,
)

Labels = tuple[tuple[str, str], ...]

# field of `Tally` → what it says
_COUNTERS = {
    "unmetered_calls": "Calls that were forwarded and could not be recorded",
    "late_finals": "Final records that the spool could not take at once",
    "refused_requests": "Requests the sidecar answered itself",
    "estimates_made": "Calls whose tokens nobody told, counted by their texts",
    "estimates_refused_away": "Calls not counted by their texts: the estimator ended",
    "estimates_refused_full": "Calls not counted by their texts: too many waited",
    "estimates_refused_late": "Calls not counted by their texts: it took too long",
    "estimates_refused_uncountable": "Calls not counted by their texts: none was found that can be",
    "upstream_retries": "Calls sent again because a pooled connection had gone stale",
    "usage_asked": "Calls whose usage was asked for in the client's stead",
    "usage_refused": "Of these, calls refused for it and sent again as the client sent them",
    "spool_corrupt_records": "Damaged records met by a starting worker, now in quarantine",
    "spool_interrupted_calls": "Calls of a worker that was killed, finished by its successor",
}
_GAUGES = {
    "calls_in_flight": "Calls being relayed now",
    "estimates_waiting": "Calls that have ended and are being counted by their texts",
    "client_connections": "Open client connections",
    "upstream_connections": "Open or dialled upstream connections",
    "spool_degraded": "Workers whose disk refuses to sync or to write",
    "spool_full": "Workers whose spool takes no new call",
}
# field of `ShipTotals` → what it says
_SHIPPED = {
    "records": "Calls brought to the ledger",
    "duplicates": "Calls the ledger had already",
    "conflicts": "Calls set aside in the ledger: it had another record of the same id",
    "refused": "Calls set aside in the ledger: no row can hold them",
    "corrupt": "Damaged places met by the shipper, now in quarantine",
    "unreadable": "Whole records that are no event of this version, now in quarantine",
    "failures": "Attempts to ship that failed; they are made again",
}


class Facts(msgspec.Struct):
    """What the supervisor knows by itself. Times in seconds since 1970."""

    started_at: float
    loaded_at: float
    digest: str
    reloads: int = 0
    reloads_failed: int = 0
    retiring: int = 0  # workers that finish what they began
    shipped: ShipTotals = msgspec.field(default_factory=ShipTotals)


def render(tally: Tally, backlog: Backlog, facts: Facts) -> str:
    """All of it."""
    page = Page()
    _add_calls(page, tally)
    for name, says in _COUNTERS.items():
        page.add(f"metering_{name}_total", "counter", says, [((), getattr(tally, name))])
    for name, says in _GAUGES.items():
        page.add(f"metering_{name}", "gauge", says, [((), getattr(tally, name))])
    _add_backlog(page, backlog)
    for name, says in _SHIPPED.items():
        page.add(f"metering_ship_{name}_total", "counter", says, [((), getattr(facts.shipped, name))])
    _add_facts(page, facts)
    return page.text()


def _add_calls(page: "Page", tally: Tally) -> None:
    """What calls are told apart by differs from family to family: models only where tokens and times are."""
    calls = _sum_by(tally.call_counts, lambda count: (*_route(count), *_ending(count)))
    page.add("metering_calls_total", "counter", "Calls relayed, by how they ended and how their usage is known",
             [(labels, count.calls) for labels, count in calls])  # fmt: skip
    by_model = _sum_by(tally.call_counts, _gen_ai)
    page.add("metering_tokens_total", "counter", "Tokens by meter; no token is in two of them",
             [((*labels, ("meter", meter)), quantity)
              for labels, count in by_model for meter, quantity in _meters(count).items() if quantity])  # fmt: skip
    page.add("metering_upstream_seconds_total", "counter", "Time calls spent at the upstream, dialling not included",
             [(labels, count.upstream_seconds) for labels, count in by_model])  # fmt: skip
    page.add_histograms(
        "gen_ai_client_token_usage", "Tokens of a call, cached and reasoning ones included", TOKEN_BOUNDS,
        [((*labels, ("gen_ai_token_type", kind)), getattr(count, f"{kind}_tokens"))
         for labels, count in by_model for kind in ("input", "output")],
    )  # fmt: skip
    ended = _sum_by(tally.call_counts, lambda count: (*_gen_ai(count), ("error_type", _error_type(count))))
    page.add_histograms("gen_ai_client_operation_duration_seconds", "From a request's head to its answer's last byte",
                        DURATION_BOUNDS, [(labels, count.duration) for labels, count in ended])  # fmt: skip
    page.add_histograms("gen_ai_server_time_to_first_token_seconds", "From sending to the first byte of a stream",
                        FIRST_BOUNDS, [(labels, count.first) for labels, count in by_model])  # fmt: skip
    page.add_histograms("metering_request_held_seconds", "From a request's head to sending it upstream",
                        HELD_BOUNDS, [((), tally.request_held)])  # fmt: skip
    page.add_histograms("metering_answer_held_seconds", "From an answer's last byte to letting it go",
                        HELD_BOUNDS, [((), tally.answer_held)])  # fmt: skip


def _add_backlog(page: "Page", backlog: Backlog) -> None:
    oldest = backlog.oldest_unshipped_at
    age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
    page.add("metering_spool_bytes", "gauge", "Bytes of all spool segments", [((), backlog.bytes)])
    page.add("metering_spool_unshipped_records", "gauge", "Records behind the last one shipped, two a call",
             [((), backlog.unshipped_records)])  # fmt: skip
    page.add("metering_spool_oldest_unshipped_seconds", "gauge", "Since the oldest call ended that isn't shipped",
             [((), age)])  # fmt: skip
    page.add("metering_spool_quarantined", "gauge", "Pieces of damage in quarantine", [((), backlog.quarantined)])
    page.add("metering_ship_last_timestamp_seconds", "gauge", "When the ledger last took calls, 0 if never",
             [((), backlog.shipped_at)])  # fmt: skip


def _add_facts(page: "Page", facts: Facts) -> None:
    page.add("metering_workers_retiring", "gauge", "Replaced workers that finish what they began",
             [((), facts.retiring)])  # fmt: skip
    page.add("metering_config_reloads_total", "counter", "Configurations read again, by what came of it",
             [((("result", "ok"),), facts.reloads), ((("result", "failed"),), facts.reloads_failed)])  # fmt: skip
    page.add("metering_config_loaded_timestamp_seconds", "gauge", "Since when the configuration is in force",
             [((), facts.loaded_at)])  # fmt: skip
    page.add("metering_config_info", "gauge", "The configuration in force: the start of its SHA-256",
             [((("digest", facts.digest),), 1)])  # fmt: skip
    page.add("metering_start_timestamp_seconds", "gauge", "When the sidecar started", [((), facts.started_at)])
    page.add("metering_build_info", "gauge", "What runs",
             [((("version", _version()), ("python", platform.python_version())), 1)])  # fmt: skip


def _route(count: CallCount) -> Labels:
    kind = count.kind
    return (("route", kind.route), ("gen_ai_provider_name", kind.provider))


def _ending(count: CallCount) -> Labels:
    kind = count.kind
    return (("outcome", kind.outcome), ("status_class", kind.status_class), ("usage_source", kind.usage_source))


def _gen_ai(count: CallCount) -> Labels:
    kind = count.kind
    return (
        ("gen_ai_operation_name", kind.operation),
        ("gen_ai_provider_name", kind.provider),
        ("gen_ai_request_model", kind.model),
        ("server_address", kind.server_address),
        ("server_port", str(kind.server_port)),
    )


def _error_type(count: CallCount) -> str:
    """As the conventions have it: empty where the call went well, which is no label at all."""
    kind = count.kind
    if kind.outcome == "completed":
        return ""
    return kind.status_class if kind.status_class in ("4xx", "5xx") else kind.outcome


def _meters(count: CallCount) -> dict[str, int]:
    """Every meter's tokens: the plain ones are what the others leave of the totals."""
    parts = dict(count.parts)
    for plain, total in (("input", count.input_tokens[-1]), ("output", count.output_tokens[-1])):
        taken = sum(quantity for meter, quantity in parts.items() if meter.endswith(f"_{plain}"))
        parts[plain] = round(total) - taken
    return {meter: parts[meter] for meter in METERS}


def _sum_by(counts: Iterable[CallCount], label: Callable[[CallCount], Labels]) -> list[tuple[Labels, CallCount]]:
    sums: dict[Labels, CallCount] = {}
    for count in counts:
        sums.setdefault(label(count), CallCount(count.kind)).add(count)
    return sorted(sums.items(), key=lambda item: item[0])


def _version() -> str:
    try:
        return version("metering")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


class Page:
    """Families as text."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, says: str, samples: Iterable[tuple[Labels, float]]) -> None:
        """A family of counters or gauges."""
        self._lines += [f"# HELP {name} {says}", f"# TYPE {name} {kind}"]
        self._lines += [f"{name}{_braces(labels)} {_number(value)}" for labels, value in samples]

    def add_histograms(
        self, name: str, says: str, bounds: Sequence[float], samples: Iterable[tuple[Labels, Histogram]]
    ) -> None:
        """A family of histograms."""
        self._lines += [f"# HELP {name} {says}", f"# TYPE {name} histogram"]
        edges = [*map(_number, bounds), "+Inf"]
        for labels, (*counts, total) in samples:
            if not any(counts):
                continue
            for edge, count in zip(edges, accumulate(counts), strict=True):
                self._lines.append(f"{name}_bucket{_braces((*labels, ('le', edge)))} {_number(count)}")
            self._lines.append(f"{name}_sum{_braces(labels)} {_number(total)}")
            self._lines.append(f"{name}_count{_braces(labels)} {_number(sum(counts))}")

    def text(self) -> str:
        """All of it."""
        return "\n".join(self._lines) + "\n"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) or not value.is_integer() else str(int(value))
