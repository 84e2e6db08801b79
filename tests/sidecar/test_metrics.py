"""`/metrics`: read by Prometheus' own parser, true to what happened, bounded, documented."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from metering.core.event import Outcome, UsageEvent, mint_event_id
from metering.core.usage import Usage, UsageSource, disjoint_meters
from metering.sidecar.call_counts import CallCounts
from metering.sidecar.exposition import Facts, render
from metering.sidecar.relay.routes import RouteTable
from metering.sidecar.ship.status import Shipped, ShipStatus, ShipTotals, write_status
from metering.sidecar.spool.backlog import Backlog, measure_backlog
from metering.sidecar.spool.writer import SpoolWriter
from metering.sidecar.tally import METERS, MODELS_MAX, Tally, Totals, decode_tally
from tests.sidecar.rig import get, json_answer, make_config, post, relaying, run, serve, stream_answer

ROUTE = RouteTable(make_config(Path("/nowhere"), "http://models.internal:8000").routes, ()).routes[0]
NOW = 1_767_225_600.0  # 2026-01-01
COUNTS = st.none() | st.integers(0, 1000)
USAGES = st.builds(Usage, **dict.fromkeys(Usage.__struct_fields__, COUNTS))


class Call:
    """What `CallCounts` asks of a call's record. Times as a monotonic clock tells them."""

    def __init__(self, *, sent_at: float = 10.00004, streamed: bool = False) -> None:
        self.route, self.streamed = ROUTE, streamed
        self.began, self.sent_at, self.first, self.ended = 10.0, sent_at, 10.3, 11.5


def event(model: str | None = "gpt-4o", status: int | None = 200, **fields: Any) -> UsageEvent:
    outcome = Outcome.COMPLETED if status and status < 400 else Outcome.FAILED
    known: dict[str, Any] = {"provider_name": "openai", "operation_name": "chat", "outcome": outcome,
                             "usage_source": UsageSource.UNKNOWN, "request_model": model, "status": status}  # fmt: skip
    return UsageEvent(event_id=mint_event_id(int(NOW * 1000), 1), **known | fields)


def count(*calls: tuple[Call, UsageEvent]) -> Tally:
    tally = Tally()
    counts = CallCounts(tally)
    for record, ended in calls:
        counts.count(cast("Any", record), ended, released=11.50002)
    return tally


def families(tally: Tally, backlog: Backlog | None = None, facts: Facts | None = None) -> dict[str, Metric]:
    facts = facts or Facts(started_at=NOW, loaded_at=NOW, digest="0123456789abcdef")
    return {metric.name: metric for metric in parse(render(tally, backlog or Backlog(), facts))}


def parse(text: str) -> Iterable[Metric]:
    return text_string_to_metric_families(text)


def values(metric: Metric, label: str, suffix: str = "") -> dict[str, float]:
    """A family's sums by one label."""
    found: dict[str, float] = {}
    for sample in metric.samples:
        if sample.name.endswith(suffix):
            key = sample.labels.get(label, "")
            found[key] = found.get(key, 0) + sample.value
    return found


def test_prometheus_reads_it_and_its_histograms_add_up() -> None:
    usage = Usage(input_tokens=412, output_tokens=118, cache_read_input_tokens=100, reasoning_output_tokens=18)
    tally = count(
        (Call(), event(usage=usage, usage_source=UsageSource.REPORTED)),
        (Call(streamed=True), event(usage=Usage(input_tokens=1, output_tokens=0))),
        (Call(sent_at=0.0), event(status=None)),
    )
    found = families(tally)
    for metric in found.values():
        assert metric.documentation
        assert len({(sample.name, *sorted(sample.labels.items())) for sample in metric.samples}) == len(metric.samples)
        if metric.type == "histogram":
            check_histogram(metric)
    assert values(found["metering_calls"], "outcome") == {"completed": 2, "failed": 1}
    assert values(found["metering_calls"], "status_class") == {"2xx": 2, "none": 1}
    assert values(found["metering_calls"], "usage_source") == {"reported": 1, "unknown": 2}
    assert values(found["metering_tokens"], "meter") == {
        "input": 313, "cache_read_input": 100, "output": 100, "reasoning_output": 18,
    }  # fmt: skip
    tokens = found["gen_ai_client_token_usage"]
    assert values(tokens, "gen_ai_token_type", "_sum") == {"input": 413, "output": 118}
    assert values(tokens, "gen_ai_token_type", "_count") == {"input": 2, "output": 2}
    duration = found["gen_ai_client_operation_duration_seconds"]
    assert values(duration, "error_type", "_count") == {"": 2, "failed": 1}
    assert values(duration, "error_type", "_sum") == {"": 3.0, "failed": 1.5}
    assert values(duration, "le", "_bucket")["1.28"] == 0
    assert values(duration, "le", "_bucket")["2.56"] == 3
    assert values(found["gen_ai_server_time_to_first_token_seconds"], "le", "_bucket")["0.5"] == 1
    assert values(found["metering_request_held_seconds"], "le", "_bucket")["5e-05"] == 2
    assert values(found["metering_answer_held_seconds"], "le", "_bucket")["5e-05"] == 3


def check_histogram(metric: Metric) -> None:
    series: dict[tuple[tuple[str, str], ...], list[float]] = {}
    counts: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in metric.samples:
        key = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            series.setdefault(key, []).append(sample.value)
        elif sample.name.endswith("_count"):
            counts[key] = sample.value
    for key, buckets in series.items():
        assert buckets == sorted(buckets)
        assert buckets[-1] == counts[key] > 0


@given(st.lists(USAGES, max_size=5))
def test_tokens_are_counted_as_they_are_charged(usages: list[Usage]) -> None:
    charged = dict.fromkeys(METERS, 0)
    for usage in usages:
        for meter, quantity in disjoint_meters(usage).items():
            if meter.value in charged:  # not searches
                charged[meter.value] += quantity
    tally = count(*((Call(), event(usage=usage)) for usage in usages))
    shown = values(families(tally)["metering_tokens"], "meter")
    assert shown == {meter: quantity for meter, quantity in charged.items() if quantity}


def test_labels_are_bounded_whatever_clients_and_models_say() -> None:
    named = [(Call(), event(model=f"model-{number}")) for number in range(MODELS_MAX + 50)]
    wrong = [(Call(), event(model=f"no-such-{number}", status=404)) for number in range(5000)]
    tally = count(*wrong, *named, (Call(), event(model="m" * 200)), (Call(), event(model=None)))
    shown = values(families(tally)["gen_ai_client_operation_duration_seconds"], "gen_ai_request_model", "_count")
    assert len(shown) == MODELS_MAX + 2
    assert (shown["model-0"], shown["unknown"], shown["other"]) == (1, 1, 5051)


def test_workers_together_are_bounded_too() -> None:
    totals = Totals()
    for worker in range(3):
        totals.keep(count(*((Call(), event(model=f"model-{worker}-{number}")) for number in range(80))))
    together = totals.with_running([])
    assert len({found.kind.model for found in together.call_counts}) == MODELS_MAX + 1
    assert sum(found.calls for found in together.call_counts) == 240


def test_label_values_are_escaped() -> None:
    model = 'a"b\\c\nd'
    shown = values(families(count((Call(), event(model=model))))["gen_ai_client_operation_duration_seconds"],
                   "gen_ai_request_model", "_count")  # fmt: skip
    assert shown == {model: 1}


def test_a_tally_is_said_whole_or_not_at_all() -> None:
    tally = count((Call(streamed=True), event(usage=Usage(input_tokens=3))))
    line = msgspec.json.encode(tally)
    assert decode_tally(line) == tally
    assert decode_tally(line[: len(line) // 2]) is None


def test_ended_workers_go_on_counting_but_hold_nothing() -> None:
    totals = Totals()
    ended = count((Call(), event()))
    ended.calls_in_flight, ended.unmetered_calls = 2, 1
    totals.keep(ended)
    together = totals.with_running([count((Call(), event()))])
    assert [found.calls for found in together.call_counts] == [2]
    assert (together.calls_in_flight, together.unmetered_calls) == (0, 1)


def test_every_family_is_documented_and_no_other() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sidecar.md").read_text()
    documented = set(re.findall(r"^\| `((?:metering|gen_ai)_\w+)` \|", page, re.MULTILINE))
    shown = set(re.findall(r"^# TYPE (\w+) ", render(Tally(), Backlog(), Facts(0, 0, "")), re.MULTILINE))
    assert documented == shown


@pytest.mark.parametrize(("script", "model", "streamed"), [
    (serve(json_answer()), "gpt-4o-mini", 0),
    (serve(*stream_answer()), "gpt-4o-mini", 1),
])  # fmt: skip
def test_a_relayed_call_is_counted_with_its_times(tmp_path: Path, script: Any, model: str, streamed: int) -> None:
    async def test() -> Tally:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(post())
            await peer.read_answer()
            await peer.send(get("/openai/v1/models"))
            await peer.read_answer()
            return rig.relay.count()

    tally = run(test())
    by_model = {found.kind.model: found for found in tally.call_counts}
    call = by_model[model]
    assert (call.calls, call.kind.route, call.kind.usage_source) == (1, "/openai", "reported")
    assert (call.input_tokens[-1], call.output_tokens[-1]) == (12, 5)
    assert sum(call.first[:-1]) == streamed
    assert 0 < call.upstream_seconds < call.duration[-1]
    assert sum(tally.request_held[:-1]) == sum(tally.answer_held[:-1]) == 2
    assert tally.request_held[-1] > 0


# ── what waits for the shipper ────────────────────────────────────────────────────────────────────────


def spooled(number: int, ended_at: float | None = None) -> UsageEvent:
    fields: dict[str, Any] = {} if ended_at is None else {"ended_at": datetime.fromtimestamp(ended_at, UTC)}
    return UsageEvent(event_id=mint_event_id(int(NOW * 1000) + number, number), provider_name="openai",
                      outcome=Outcome.COMPLETED, usage_source=UsageSource.NONE, **fields)  # fmt: skip


def shipped_to(directory: Path, position: int) -> None:
    write_status(directory, ShipStatus(position=position, shipped_at=NOW, looked_at=NOW, totals=ShipTotals(records=3)))


@pytest.mark.parametrize("segment_bytes", [4096, 1 << 20])
def test_the_backlog_is_what_stands_behind_the_position(tmp_path: Path, segment_bytes: int) -> None:
    directory = tmp_path / "worker-0"
    spool = SpoolWriter.open(directory, segment_bytes=segment_bytes, max_bytes=1 << 30)
    ends = []
    for number in range(300):
        spool.append_open(spooled(number))
        ends.append(spool.append_final(spooled(number, NOW + number)))
    backlog = measure_backlog(tmp_path)
    assert backlog.oldest_unshipped_at == NOW
    assert backlog.unshipped_records >= 600
    assert backlog.bytes == sum(path.stat().st_size for path in directory.glob("*.seg"))
    for last in (0, 100, 298):
        shipped_to(directory, ends[last])
        backlog = measure_backlog(tmp_path)
        assert backlog.oldest_unshipped_at == NOW + last + 1
        assert backlog.unshipped_records == ends[-1] - ends[last]
    shipped_to(directory, ends[-1])
    spool.append_open(spooled(300))  # a call under way is nothing to ship yet
    backlog = measure_backlog(tmp_path)
    assert (backlog.unshipped_records, backlog.oldest_unshipped_at) == (0, None)
    assert backlog.totals == {"worker-0": ShipTotals(records=3)}
    spool.close()


def test_the_backlog_of_a_spool_whose_writer_started_anew(tmp_path: Path) -> None:
    """Sequences jump at a start: only records count."""
    directory = tmp_path / "worker-0"
    for number in range(2):
        spool = SpoolWriter.open(directory)
        spool.append_final(spooled(number, NOW + number))
        spool.close()
    assert measure_backlog(tmp_path).unshipped_records == 4  # two finals, two headers


def test_an_empty_or_strange_spool_is_no_trouble(tmp_path: Path) -> None:
    assert measure_backlog(tmp_path / "nothing") == Backlog()
    directory = tmp_path / "worker-0"
    directory.mkdir()
    (directory / "00000000000000000001.seg").write_bytes(b"")
    (directory / "00000000000000000009.seg").write_bytes(b"nonsense\nmore of it")
    assert measure_backlog(tmp_path).oldest_unshipped_at is None


def test_shipped_counts_survive_a_new_shipper() -> None:
    shipped = Shipped()
    shipped.look({"worker-0": ShipTotals(records=10), "worker-1": ShipTotals(records=1)})
    shipped.look({"worker-0": ShipTotals(records=2), "worker-1": ShipTotals(records=1)})  # begins again
    shipped.look({"worker-0": ShipTotals(records=5)})
    assert shipped.sum().records == 16
