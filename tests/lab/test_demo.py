"""The demo, as a user runs it: once for a summary, then again and staying up for a call of their own."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from metering.lab.demo import three_lines
from metering.lab.programs import command
from metering.lab.scenario import bundled
from metering.lab.tally import expected

SECONDS = 120


@pytest.fixture(scope="module")
def demo_environ(bare_environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """A state folder for both runs: short, and enterable for the account Postgres runs as under root."""
    folder = Path(tempfile.mkdtemp(prefix="metering-demo-", dir="/tmp"))
    folder.chmod(0o711)
    yield {**bare_environ, "METERING_STATE_DIR": str(folder)}
    shutil.rmtree(folder)


def test_once_prints_a_summary_in_which_everything_is_accounted_for(demo_environ: dict[str, str]) -> None:
    done = subprocess.run(
        command(["demo", "--once", "--output", "json"]),
        env=demo_environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    calls = bundled().calls()
    answered = expected(call for call in calls if not (call.fault or call.leaves_early)).by("team")
    assert (told["calls"], told["events"]) == (len(calls), len(calls))
    assert (told["failed_calls"], told["aborted_calls"], told["unknown_calls"]) == (2, 1, 1)
    assert told["tokens_by_team"] == {
        team or "unallocated": sums.input_tokens + sums.output_tokens for team, sums in answered.items()
    }
    assert told["unpriced_tokens"] > 0
    assert told["unallocated_tokens"] == told["tokens_by_team"]["unallocated"]
    assert float(told["cost"]["USD"]) > 0
    assert told["equal"]
    assert told["verified"]


def test_it_stays_up_for_a_call_of_ones_own_and_stops_cleanly(demo_environ: dict[str, str]) -> None:
    demo = subprocess.Popen(
        command(["demo"]), env=demo_environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stdout
    said: list[str] = []
    for line in demo.stdout:
        said.append(line)
        if line.startswith("try it"):
            break
    url = re.findall(r"base URL +(\S+)", "".join(said))[0]
    key = re.findall(r"key +(\S+)", "".join(said))[0]
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    answer = httpx.post(f"{url}/chat/completions", json=body, headers={"x-metering-key": key})
    demo.send_signal(signal.SIGTERM)
    _, stderr = demo.communicate(timeout=SECONDS)
    assert answer.json()["usage"]["prompt_tokens"] == 1
    assert demo.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert [line for line in said if "unallocated" in line]
    assert [line for line in said if "(unpriced)" in line]
    assert not _still_running(demo_environ["METERING_STATE_DIR"])


def test_the_three_lines_can_be_pasted() -> None:
    base, key, curl = three_lines("http://127.0.0.1:1", "mk_demo_x")
    assert base.endswith("http://127.0.0.1:1/openai/v1")
    assert key.endswith("mk_demo_x")
    words = shlex.split(curl.removeprefix("try it"))
    assert words[:4] == ["curl", "http://127.0.0.1:1/openai/v1/chat/completions", "-H", "x-metering-key: mk_demo_x"]
    assert json.loads(words[-1])["messages"][0]["role"] == "user"


def _still_running(state_dir: str) -> list[str]:
    """Command lines that name the state folder: programs the demo left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if state_dir in words:
                found.append(words)
    return found
