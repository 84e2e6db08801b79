"""The demo: a small company's calls through a real sidecar into a real ledger.

This module knows the scenario and the programs; the ledger's side of it is composed in `metering.cli.demo`.
"""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from metering.lab.replay import Pace, ReplayOutcome, replay
from metering.lab.scenario import Scenario
from metering.lab.stack import Stack
from metering.lab.wire import RequestWriter, read_target

SOURCE_NAME = "demo"  # of the scenario's own prices
CONCURRENCY = 16
GUEST_TEAM = "you"  # whose key the demo shows


def write_price_file(scenario: Scenario, path: Path) -> Path:
    """The operator's own prices, as `metering prices import` reads them."""
    lines = [f"name = {_quoted(SOURCE_NAME)}"]
    for price in scenario.prices:
        fields = msgspec.structs.asdict(price)
        lines += ["[[price]]", *(f"{name} = {_quoted(value)}" for name, value in fields.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_team_file(scenario: Scenario, path: Path) -> Path:
    """The teams and their cost centres, as `metering teams import` reads them."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["team", "cost_center"])
    rows.writerows([team.name, team.cost_center] for team in scenario.teams)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def send(
    stack: Stack, scenario: Scenario, keys: Mapping[str, str], on_progress: Callable[[int], None] = lambda _: None
) -> ReplayOutcome:
    """Send the scenario's calls through the sidecar, as fast as it goes. `keys`: team -> secret."""
    target = read_target(stack.url, direct=False)
    calls = scenario.calls()
    return replay(
        target,
        RequestWriter(target, keys, chunks=6),
        iter(calls),
        Pace(concurrency=CONCURRENCY),
        on_progress=on_progress,
    )


def three_lines(url: str, secret: str) -> tuple[str, str, str]:
    """What a user needs to send a call of their own: base URL, key, and a command to paste."""
    body = '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}'
    call = f"curl {url}/openai/v1/chat/completions -H 'x-metering-key: {secret}'"
    return (
        f"base URL  {url}/openai/v1",
        f"key       {secret}",
        f"try it    {call} -H 'content-type: application/json' -d '{body}'",
    )


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
