"""The arithmetic of `python -m benchmarks.sidecar`, and one tiny run of its two ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sidecar.figures import Figures, added_us, check_bars, compare_to_nginx, compare_to_peers, read_figures
from benchmarks.sidecar.order import Told
from benchmarks.sidecar.report import summarize_run
from benchmarks.sidecar.wire import Pace, content_length, read_pace, request, stamped_chunk

ROOT = Path(__file__).resolve().parents[2]


def _figures(cpu_us: float, *, p50: float = 0.0, p99: float = 0.0, rss_mb: float = 10.0) -> Figures:
    told = Told(
        seconds=2.0,
        calls=0 if p50 else 1000,
        answered=1000,
        chunks=1000 if p50 else 0,
        failed=0,
        reads=500,
        cpu_ns={"proxy": round(cpu_us * 1e6), "supervisor": 500_000, "load": 10**9, "upstream": 10**9},
        rss_mb=rss_mb,
        pss_mb=rss_mb / 2,
        whole_us=(0.0, 0.0),
        first_us=(0.0, 0.0),
        chunk_us=(p50, p99),
        late_us=(0.0, 0.0),
    )
    return read_figures(told, due_per_second=1000.0 if p50 else 0.0)


ROUNDS = {
    "json_c32": {
        "nginx": [_figures(10), _figures(20), _figures(40)],
        "sidecar": [_figures(20), _figures(60), _figures(80)],
        "tensorzero": [_figures(100), _figures(100), _figures(100)],
        "litellm": [_figures(1000), _figures(3000), _figures(1000)],
    },
    "paced200": {
        "nginx": [_figures(10, p50=50, p99=100), _figures(10, p50=60, p99=200)],
        "sidecar": [_figures(12, p50=140, p99=400, rss_mb=30), _figures(14, p50=190, p99=300, rss_mb=50)],
    },
    "open10": {"sidecar": [_figures(20), _figures(20)], "nginx": [_figures(10), _figures(10)]},
    "open1000": {"sidecar": [_figures(21), _figures(23)], "nginx": [_figures(10), _figures(10)]},
}


def test_figures_are_by_unit_of_work() -> None:
    call, chunk = _figures(25), _figures(25, p50=70)
    assert (call["cpu_us"], call["supervisor_cpu_us"], call["per_second"], call["kept_up"]) == (25, 0.5, 500, 0)
    assert (chunk["cpu_us"], chunk["reads_per_unit"], chunk["kept_up"]) == (25, 0.5, 0.5)
    assert (call["proxy_busy"], call["ends_busy"]) == (0.0125, 1.0)


def test_ratios_are_taken_round_by_round() -> None:
    assert compare_to_nginx(ROUNDS) == {
        "json_c32_cpu": [2, 3, 2],
        "paced200_cpu": [1.2, 1.4],
        "paced200_chunk_p50": [140 / 50, 190 / 60],
        "paced200_chunk_p99": [4, 1.5],
        "open10_cpu": [2, 2],
        "open1000_cpu": [2.1, 2.3],
        "rss": [3, 5],
    }
    assert compare_to_peers(ROUNDS, ["litellm", "portkey"]) == {"json_c32_cpu_litellm": [0.02, 0.02, 0.08]}
    assert added_us(ROUNDS, "paced200", "sidecar", "nginx", "chunk_p50_us") == (90 + 130) / 2


def test_bars() -> None:
    found = [(bar.figure, bar.met) for bar in check_bars(ROUNDS)]
    assert found == [
        (2, True),  # JSON
        (None, None),  # streams were not measured
        (pytest.approx(1.3), True),  # paced: CPU
        (110, False),  # p50
        (2.75, False),  # p99
        (0.6, False),  # TensorZero
        (0.02, True),  # LiteLLM
        (40, True),  # memory
        (pytest.approx(1.1), True),  # flat
    ]


def test_the_document_says_ratios_bars_and_figures() -> None:
    run = summarize_run(ROUNDS, absent=["portkey"], failed={}, seconds=2.0)
    assert run["ratios_to_nginx"]["json_c32_cpu"] == 2
    assert run["spreads"]["json_c32_cpu"] == [2, 3]
    assert run["paced200_chunk_p50_added_us"] == 110
    assert run["cases"]["json_c32"]["sidecar"]["cpu_us"] == {"median": 60, "min": 20, "max": 80}
    assert json.dumps(run)


def test_a_request_says_how_it_is_to_be_answered() -> None:
    asked = Pace(chunks=100, us=20_000, phases=8)
    sent = request("/v1/chat/completions", "m", {"Authorization": "Bearer x"}, asked, 2048)
    head, _, body = sent.partition(b"\r\n\r\n")
    assert read_pace(sent) == asked
    assert content_length(head + b"\r\n") == len(body)
    assert 2000 < len(body) < 2100
    size, _, rest = stamped_chunk(1, 2).partition(b"\r\n")
    assert int(size, 16) == len(rest) - 2


def test_a_tiny_run() -> None:
    words = ["--quick", "--cases", "json_c32", "--rounds", "1", "--seconds", "0.2", "--output", "json"]
    command = [sys.executable, "-m", "benchmarks.sidecar", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # also if a call that was answered is not in the spool
    assert json.loads(done.stdout)["cases"]["json_c32"]["sidecar"]["cpu_us"]["median"] > 0
