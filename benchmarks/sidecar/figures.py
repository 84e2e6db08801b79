"""The arithmetic of the benchmark: figures of a round, medians with their spread, ratios, bars. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from benchmarks.sidecar.order import Told

Figures = dict[str, float]
Rounds = Mapping[str, Mapping[str, Sequence[Figures]]]  # case → contestant → figures of its rounds


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """What was promised, and where it stands. `met` is None if it was not measured."""

    bar: str
    at_most: float
    figure: float | None
    met: bool | None


def read_figures(told: Told, due_per_second: float) -> Figures:
    """One round's figures, by unit of work: `cpu_us` is a chunk's where there are chunks, else a call's.

    `due_per_second`: chunks of paced streams that were to come; 0 where nothing is paced.
    """
    units = told.chunks or told.calls
    spent = told.cpu_ns
    ends = spent.get("load", 0) + spent.get("upstream", 0)
    apart = {f"{role}_cpu_us": ns / 1e3 / units for role, ns in spent.items() if role in ("supervisor", "shipper")}
    return {
        "cpu_us": spent.get("proxy", 0) / 1e3 / units,
        **apart,
        "per_second": units / told.seconds,
        "kept_up": units / told.seconds / due_per_second if due_per_second else 0.0,
        "whole_p50_us": told.whole_us[0],
        "whole_p99_us": told.whole_us[1],
        "first_p50_us": told.first_us[0],
        "first_p99_us": told.first_us[1],
        "chunk_p50_us": told.chunk_us[0],
        "chunk_p99_us": told.chunk_us[1],
        "late_p99_us": told.late_us[1],
        "reads_per_unit": told.reads / units,
        "proxy_busy": spent.get("proxy", 0) / 1e9 / told.seconds,
        "ends_busy": ends / 1e9 / told.seconds,
        "rss_mb": told.rss_mb,
        "pss_mb": told.pss_mb,
    }


def summarize(rounds: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Median, least and most of each figure."""
    columns = {name: [figures[name] for figures in rounds] for name in rounds[0]}
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in columns.items()
    }


def divide(rounds: Rounds, case: str, who: str, by: str, figure: str) -> list[float]:
    """`who`'s figure by `by`'s, round by round: what disturbs the machine for longer disturbs both."""
    contestants = rounds.get(case, {})
    pairs = zip(contestants.get(who, ()), contestants.get(by, ()), strict=False)
    return [ours[figure] / theirs[figure] for ours, theirs in pairs if theirs[figure]]


def median_of(values: Iterable[float]) -> float | None:
    """None of nothing."""
    found = list(values)
    return statistics.median(found) if found else None


def compare_to_nginx(rounds: Rounds) -> dict[str, list[float]]:
    """Name of a ratio → its value in each round, for every case that has nginx in it."""
    ratios = {}
    for case, contestants in rounds.items():
        if "nginx" not in contestants:
            continue
        ratios[f"{case}_cpu"] = divide(rounds, case, "sidecar", "nginx", "cpu_us")
        if "power" in contestants:
            ratios[f"{case}_power_cpu"] = divide(rounds, case, "power", "nginx", "cpu_us")
        if contestants["nginx"][0]["chunk_p50_us"]:
            for name in ("chunk_p50", "chunk_p99"):
                ratios[f"{case}_{name}"] = divide(rounds, case, "sidecar", "nginx", f"{name}_us")
    if "paced200" in rounds:
        ratios["rss"] = divide(rounds, "paced200", "sidecar", "nginx", "rss_mb")
    return {name: values for name, values in ratios.items() if values}


def compare_to_peers(rounds: Rounds, peers: Iterable[str]) -> dict[str, list[float]]:
    """Our CPU by each peer's."""
    ratios = {
        f"{case}_cpu_{peer}": divide(rounds, case, "sidecar", peer, "cpu_us") for case in rounds for peer in peers
    }
    return {name: values for name, values in ratios.items() if values}


def added_us(rounds: Rounds, case: str, who: str, over: str, figure: str) -> float | None:
    """The median over rounds of what `who` takes longer than `over`."""
    contestants = rounds.get(case, {})
    pairs = zip(contestants.get(who, ()), contestants.get(over, ()), strict=False)
    return median_of(ours[figure] - theirs[figure] for ours, theirs in pairs)


def check_bars(rounds: Rounds) -> list[Bar]:
    """Every promise with its figure."""

    def ratio(case: str, by: str, figure: str) -> float | None:
        return median_of(divide(rounds, case, "sidecar", by, figure))

    flat = zip(rounds.get("open1000", {}).get("sidecar", ()), rounds.get("open10", {}).get("sidecar", ()), strict=False)
    resident = (
        median_of(figures["rss_mb"] for figures in rounds.get(case, {}).get("sidecar", ()))
        for case in ("paced200", "long200")
    )
    found = [
        ("JSON at 32: CPU a call, times nginx's", 2.5, ratio("json_c32", "nginx", "cpu_us")),
        ("streams: CPU a chunk, times nginx's", 1.5, ratio("stream", "nginx", "cpu_us")),
        ("200 paced streams: CPU a chunk, times nginx's", 1.5, ratio("paced200", "nginx", "cpu_us")),
        (
            "200 paced streams: chunk p50, us over nginx's",
            100.0,
            added_us(rounds, "paced200", "sidecar", "nginx", "chunk_p50_us"),
        ),
        ("200 paced streams: chunk p99, times nginx's", 2.0, ratio("paced200", "nginx", "chunk_p99_us")),
        ("JSON at 32: CPU a call, times TensorZero's", 0.5, ratio("json_c32", "tensorzero", "cpu_us")),
        ("JSON at 32: CPU a call, times LiteLLM's", 0.05, ratio("json_c32", "litellm", "cpu_us")),
        ("200 streams: RSS of a worker, MB", 40.0, max((mb for mb in resident if mb is not None), default=None)),
        (
            "CPU a call beside 1,000 open streams, times beside 10",
            1.1,
            median_of(many["cpu_us"] / few["cpu_us"] for many, few in flat),
        ),
    ]
    return [
        Bar(bar=bar, at_most=most, figure=figure, met=None if figure is None else figure <= most)
        for bar, most, figure in found
    ]
