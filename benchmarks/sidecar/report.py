"""What a run says: one document, or tables."""

import os
import platform
import subprocess
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.sidecar.case import CASES, PEERS
from benchmarks.sidecar.contestants import find_nginx
from benchmarks.sidecar.figures import (
    Rounds,
    added_us,
    check_bars,
    compare_to_nginx,
    compare_to_peers,
    divide,
    median_of,
    summarize,
)

LATENCIES = ("whole_p50_us", "whole_p99_us", "first_p50_us", "first_p99_us", "chunk_p50_us", "chunk_p99_us")
SHOWN = (
    "cpu_us",
    "per_second",
    "reads_per_unit",
    *LATENCIES,
    "proxy_busy",
    "ends_busy",
    "headroom",
    "rss_mb",
    "pss_mb",
)


def summarize_run(rounds: Rounds, *, absent: Sequence[str], failed: dict[str, str], seconds: float) -> dict[str, Any]:
    """The document: ratios and bars first, then every figure."""
    to_nginx = compare_to_nginx(rounds)
    to_peers = compare_to_peers(rounds, PEERS)
    says = {case.name: case.says for case in CASES}
    return {
        "ratios_to_nginx": _medians(to_nginx),
        "paced200_chunk_p50_added_us": _rounded(added_us(rounds, "paced200", "sidecar", "nginx", "chunk_p50_us")),
        "ratios_to_peers": _medians(to_peers),
        "bars": [msgspec.to_builtins(bar) | {"figure": _rounded(bar.figure)} for bar in check_bars(rounds)],
        "spreads": {name: [_rounded(min(all_)), _rounded(max(all_))] for name, all_ in (to_nginx | to_peers).items()},
        "absent": list(absent),
        "failed": failed,
        "machine": describe_machine(),
        "window_seconds": seconds,
        "rounds": {case: len(next(iter(contestants.values()))) for case, contestants in rounds.items()},
        "cases": {
            case: {"says": says[case]} | {name: _figures(rounds, case, name) for name in contestants}
            for case, contestants in rounds.items()
        },
    }


def _figures(rounds: Rounds, case: str, name: str) -> dict[str, Any]:
    """Medians with spreads, what is added over direct, and how much more direct does than this one."""
    found: dict[str, Any] = {
        figure: {what: _rounded(value) for what, value in values.items()}
        for figure, values in summarize(rounds[case][name]).items()
        if values["max"]
    }
    if name != "direct" and "direct" in rounds[case]:
        found["headroom"] = {"median": _rounded(median_of(divide(rounds, case, "direct", name, "per_second")))}
        found["added_over_direct"] = {
            figure: _rounded(added_us(rounds, case, name, "direct", figure)) for figure in LATENCIES if figure in found
        }
    return found


def _medians(ratios: dict[str, list[float]]) -> dict[str, float | None]:
    return {name: _rounded(median_of(values)) for name, values in ratios.items()}


def _rounded(value: float | None) -> float | None:
    """Four digits: the spread is larger than what they leave out."""
    return None if value is None else float(f"{value:.4g}")


def describe_machine() -> dict[str, Any]:
    """Facts without which figures say little."""
    nginx = find_nginx()
    version = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr if nginx else ""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "kernel": platform.release(),
        "nginx": version.strip().rpartition("/")[2] or None,
    }


def print_table(run: dict[str, Any]) -> None:
    """Tables for people."""
    for case, contestants in run["cases"].items():
        print(f"\n{case}: {contestants['says']} ({run['rounds'][case]} rounds of {run['window_seconds']:g} s)")
        rows = {name: figures for name, figures in contestants.items() if name != "says"}
        shown = [figure for figure in SHOWN if any(figure in figures for figures in rows.values())]
        print(f"  {'':10} " + " ".join(f"{figure.removesuffix('_mb'):>13}" for figure in shown))
        for name, figures in rows.items():
            print(f"  {name:10} " + " ".join(f"{_cell(figures.get(figure)):>13}" for figure in shown))
    print("\nThe sidecar by nginx:")
    for name, ratio in run["ratios_to_nginx"].items():
        low, high = run["spreads"][name]
        print(f"  {name:28} {ratio:>8.3g}  ({low:.3g}–{high:.3g})")
    for name, ratio in run["ratios_to_peers"].items():
        print(f"  {name:28} {ratio:>8.3g}")
    print("\nBars:")
    for bar in run["bars"]:
        met = {True: "met", False: "MISSED", None: "not measured"}[bar["met"]]
        figure = "–" if bar["figure"] is None else f"{bar['figure']:.4g}"
        print(f"  {bar['bar']:56} {figure:>8} of {bar['at_most']:<6g} {met}")
    if run["absent"]:
        print(f"\nnot installed: {', '.join(run['absent'])}")
    print(f"machine: {run['machine']}")


def _cell(values: dict[str, float] | None) -> str:
    return "–" if values is None else f"{values['median']:,.4g}"
