"""The fault campaigns in short. What they break is told by the JSON they print, with the seed that breaks it again."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from benchmarks.faults.commits import MOMENTS, plan_strikes
from benchmarks.faults.cuts import cut_everywhere
from benchmarks.faults.kills import plan_kills
from benchmarks.faults.spooled import compare_spooled
from benchmarks.faults.traffic import plan_traffic
from metering.lab.books import BookedCall

ROOT = Path(__file__).resolve().parents[2]


def faults(*words: str) -> dict[str, Any]:
    """What a campaign prints."""
    command = [sys.executable, "-m", "benchmarks.faults", "--output", "json", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    return told


def test_a_dozen_kills_under_load(tmp_path: Path) -> None:
    log = tmp_path / "rounds.jsonl"
    words = ("--seed", "11", "--kills", "12", "--calls", "3000", "--log", str(log))
    told = faults(*words)
    assert sum(told["kills"].values()) == 12
    assert told["received"] > 2000
    assert told["interrupted"] > 0, "no kill met a call in flight"
    assert faults(*words) == told, "a round that is in the log is not played again"
    assert len(log.read_text().splitlines()) == 1


def test_postgres_killed_in_the_middle_of_batches() -> None:
    told = faults("--campaign", "commits", "--seed", "11", "--kills", str(len(MOMENTS)), "--calls", "600")
    assert told["kills"] == dict.fromkeys(MOMENTS, 1)
    assert told["rows"] == told["calls"] == 600
    assert told["committed_unheard"] >= 100, "the batch whose COMMIT was answered, and the answer cut off"


def test_a_connection_cut_behind_every_message(tmp_path: Path, database_url: str, engine: Engine) -> None:
    cuts = cut_everywhere(tmp_path, database_url)
    columns = "trace_id, team, outcome, input_tokens, output_tokens"
    with engine.connect() as connection:
        rows = [BookedCall(*row) for row in connection.execute(text(f"SELECT {columns} FROM usage_event"))]
    found = compare_spooled(cuts.calls, rows)
    assert found.equal, found.to_json()
    assert found.rows == cuts.calls
    assert min(cuts.client_messages, cuts.server_messages) > 30
    assert cuts.totals.confirmed > 0, "no cut came between a COMMIT and its answer"


def test_the_same_seed_is_the_same_campaign() -> None:
    assert plan_kills("7.3", 50, 50_000) == plan_kills("7.3", 50, 50_000) != plan_kills("7.4", 50, 50_000)
    assert plan_strikes("7.3", 50) == plan_strikes("7.3", 50) != plan_strikes("8.3", 50)
    first, again, other = (list(islice(plan_traffic(seed), 100)) for seed in ("7.3", "7.3", "7.4"))
    assert first == again != other
