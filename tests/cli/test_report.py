"""The money commands as processes: what people and programs get, and one sentence with an exit code for mistakes."""

import csv
import io
import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from sqlalchemy import Engine

from metering.core.event import Attribution
from metering.core.usage import Usage, UsageSource
from metering.ledger.slots import count_batches
from tests.ledger.worlds import an_event, ship

CONTRACT = """
[[price]]
provider = "openai"
model = "gpt-5"
meter = "input"
price = "2.00"
effective_from = 2026-01-01
[[price]]
provider = "openai"
model = "gpt-5"
meter = "output"
price = "10"
"""


# Runs one command after the other in one process: each is the real command line, and Python starts only once.
SCRIPT = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from metering.cli import main
results = []
for words in json.load(sys.stdin):
    sys.argv = ["metering", *words]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    results.append((code, out.getvalue(), err.getvalue()))
json.dump(results, sys.stdout)
"""
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def run(environ: dict[str, str], url: str, *commands: tuple[str, ...]) -> list[Done]:
    """Run `commands` on the ledger at `url`."""
    environ = {**environ, "METERING_DATABASE_URL": url, "NO_COLOR": "1"}
    script = [sys.executable, "-c", SCRIPT]
    asked = json.dumps(commands)
    done = subprocess.run(script, input=asked, env=environ, capture_output=True, text=True, check=True, timeout=120)
    return [Done(*each) for each in json.loads(done.stdout)]


def from_csv(done: Done) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(done.out)))


def write(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


USAGE = Usage(input_tokens=1_500_000, output_tokens=100_000, reasoning_output_tokens=25_000)
RED = [an_event(n, usage=USAGE, attribution=Attribution(team="red")) for n in range(2)]


def test_import_says_what_it_did(
    engine: Engine, command_environ: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    ship(engine, RED)
    contract = write(tmp_path, "own.toml", CONTRACT)
    teams = write(tmp_path, "t.csv", "team,cost_center\nred,cc\nblue,cc\n")
    first, again, placed, shown, early, empty = run(
        command_environ,
        database_url,
        ("prices", "import", contract, "--output", "json"),
        ("prices", "import", "--from", contract, "--output", "json"),
        ("teams", "import", teams),
        ("teams", "show", "--output", "csv"),
        ("report", "--period", "2026-10"),
        ("explain", "--period", "2026-10", "--line", "red"),
    )
    assert [json.loads(each.out)[0]["changed"] for each in (first, again)] == [True, False]
    assert placed.err == "2 assignments in force\n"
    assert [row["team"] for row in from_csv(shown)] == ["blue", "red"]
    assert "1 shipped batches are not counted yet: run `metering count`" in early.err
    assert (empty.code, empty.err) == (2, "metering: no line 'red' in 2026-10 by team: there are none at all\n")


def test_a_report_and_an_explained_line(
    engine: Engine, command_environ: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    ship(engine, [*RED, an_event(7, request_model="mystery")])
    count_batches(engine, 10)
    asked = ("--period", "2026-10")
    red = ("explain", *asked, "--line", "red")
    of_input = ("--provider", "openai", "--model", "gpt-5", "--meter", "input", "--at", "2026-10-01")
    _, table, by_team, explained, told, short, charges, shown, checked = run(
        command_environ,
        database_url,
        ("prices", "import", write(tmp_path, "own.toml", CONTRACT)),
        ("report", *asked),
        ("report", *asked, "--output", "csv"),
        (*red, "--meter", "reasoning_output", "--output", "json"),
        red,
        (*red, "--groups", "0"),
        (*red, "--output", "csv"),
        ("prices", "show", *of_input, "--output", "json"),
        ("prices", "check", *asked, "--output", "csv"),
    )
    assert all(text in table.out for text in ("3,000,000", "8.00 USD", "unallocated (unpriced)"))
    assert "metering: no price for 107 input of openai/mystery: add it" in table.err
    assert [(row["name"], row["status"], row["cost"]) for row in from_csv(by_team)] == [
        ("red", "usage", "8.00"),
        ("unallocated", "unpriced", ""),
        ("total", "total", "8.00"),
    ]
    assert "not in the cost: 117 tokens without a price\nwithout an owner: 117 unallocated tokens\n" in table.out
    assert_explained(json.loads(explained.out))
    assert "8.00 USD, rounded once from 8, 2 calls" in told.out
    assert "reasoning_output has no price of its own" in told.out
    assert (
        "2026-10-01 00:00 to 2026-11-01 00:00 UTC; team red; chat; over 1,000,000 input tokens; usage reported"
        in told.out
    )
    assert "1 group of calls; everything adds up to the line\n" in told.out
    assert str(RED[1].event_id) in told.out
    assert (
        "8.00 USD, rounded once from 8, 2 calls\n1 group of calls; everything adds up to the line; not shown: the 1"
        in short.out
    )
    assert str(RED[1].event_id) not in short.out
    assert [row["contracted_cost"] for row in from_csv(charges)] == ["6", "1.5", "0.5"]
    assert [row["unit_price"] for row in json.loads(shown.out)] == ["2"]
    assert checked.code == 1
    assert [row["sku"] for row in from_csv(checked)] == ["openai/mystery/input", "openai/mystery/output"]


IMAGES = """
[[price]]
provider = "openai"
model = "gpt-image-1"
meter = "image"
per = "1"
price = "0.04"
[[price]]
provider = "openai"
model = "gpt-image-1"
meter = "image"
per = "1"
price = "0.08"
variant = "1024x1024 hd"
[[price]]
provider = "openai"
model = "whisper-1"
meter = "audio_input_ms"
per = "hour"
price = "0.36"
"""


def test_what_is_not_a_token_is_shown_in_its_own_units(
    engine: Engine, command_environ: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    drawn = an_event(
        1,
        request_model="gpt-image-1",
        usage=Usage(output_images=2),
        variant="1024x1024 hd",
        reported_cost=Decimal("0.175"),
    )
    heard = an_event(
        2,
        request_model="whisper-1",
        usage=Usage(audio_input_ms=3700),
        usage_source=UsageSource.ESTIMATED,
        estimator="frames 1",
        part_of=drawn.event_id,
    )
    read = an_event(3, request_model="ocr", usage=Usage(input_pages=12, tool_requests=1))
    cohere = an_event(4, usage=Usage(input_tokens=9, billed_input_tokens=2))
    ship(engine, [drawn, heard, read, cohere])
    count_batches(engine, 10)
    asked = ("--period", "2026-10")
    _, table, told, values, by_model = run(
        command_environ,
        database_url,
        ("prices", "import", write(tmp_path, "own.toml", CONTRACT + IMAGES)),
        ("report", *asked),
        ("explain", *asked, "--line", "unallocated"),
        ("explain", *asked, "--line", "gpt-image-1", "--by", "model", "--output", "json"),
        ("report", *asked, "--by", "model", "--output", "csv"),
    )
    assert all(text in table.out for text in ("images", "audio input time", "3.7 s", "0.16 USD", " yes "))
    assert "not in the cost: 1 tool request, 12 pages without a price\n" in table.out
    assert "no price for 12 pages of openai/ocr" in table.err
    assert "unbilled_input of" not in table.err
    assert "variant 1024x1024 hd" in told.out
    assert "0.08 USD per 1 Image" in told.out
    assert "UTC: 2 images, 1 request; the provider says 0.175 USD" in told.out
    assert "0.36 USD per 1 Hour" in told.out
    assert f"3.7 s of audio input; estimated by frames 1; part of {drawn.event_id}" in told.out
    assert "the provider does not bill these" in told.out
    (event,) = json.loads(values.out)[0]["groups"][0]["events"]
    assert (event["cost"], event["currency"], event["reported_cost"]) == ("0.16", "USD", "0.175")
    estimated = {row["name"]: (row["calls"], row["estimated"], row["estimated_calls"]) for row in from_csv(by_model)}
    assert [estimated[name] for name in ("whisper-1", "gpt-image-1", "total")] == [
        ("0", "yes", "0"),
        ("1", "no", "0"),
        ("3", "yes", "0"),
    ]


def assert_explained(explanations: Any) -> None:
    (explained,) = explanations
    assert explained["adds_up"] is True
    (group,) = explained["groups"]
    (charge,) = group["charges"]
    told = (charge["priced_as"], charge["fell_back_over"], charge["contracted_unit_price"], charge["price"]["source"])
    assert told == ("output", ["reasoning_output"], "10", "own.toml [[price]] 2")
    assert {event["event_id"] for event in group["events"]} == {str(event.event_id) for event in RED}


MISTAKES = {
    ("report", "--period", "october"): "--period 'october' is not a period: write 2026, 2026-10 or 2026-10-05",
    ("report", "--period", "2026-10", "--by", "teams"): "can't gather by 'teams': choose one of cost-center,",
    ("explain", "--period", "2026-10", "--line", "x", "--meter", "tokens"): "unknown meter 'tokens': known are input,",
    ("prices", "show", "--at", "noon"): "--at 'noon' is not a time",
    ("prices", "import", "/none.toml"): "price file /none.toml can't be read: No such file",
    ("prices", "check", "--period", "10"): "'10' is not a period",
    ("teams", "import", "/none.csv"): "team file /none.csv can't be read",
    ("api", "--listen", "0.0.0.0:0"): "--listen 0.0.0.0:0 is open to other machines: give --token-file",
    ("api", "--listen", "here"): "--listen 'here' must be HOST:PORT",
}


def test_a_mistake_is_one_sentence_and_exit_code_2(command_environ: dict[str, str], tmp_path: Path) -> None:
    twice = write(tmp_path, "own.toml", CONTRACT + CONTRACT.replace("2026-01-01", "2026-06-01"))
    mistakes = MISTAKES | {("prices", "check", twice): "two prices for openai/gpt-5/"}
    ended = run(command_environ, NOWHERE, *mistakes)
    for done, said in zip(ended, mistakes.values(), strict=True):
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"metering: {said}")
        assert len(done.err.splitlines()) == 1
    assert "overlap: own.toml [[price]] " in ended[-1].err


def test_the_api_serves_until_it_is_told_to_stop(command_environ: dict[str, str], database_url: str) -> None:
    command = [sys.executable, "-m", "metering", "api", "--listen", "127.0.0.1:0"]
    environ = {**command_environ, "METERING_DATABASE_URL": database_url}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().removeprefix("listening on ").strip()
        assert httpx.get(f"{url}/readyz", trust_env=False, timeout=30).json() == {"status": "ready"}
        statement: Any = httpx.get(f"{url}/v1/statements/2026-10", trust_env=False, timeout=30).json()
        assert statement["lines"] == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
