"""A replay sends every call once, counts exactly, and says what failed."""

import json
import subprocess
from pathlib import Path

import pytest

from metering.lab.calls import Call
from metering.lab.programs import command, free_port, start_emulator
from metering.lab.replay import Pace, replay
from metering.lab.tally import expected
from metering.lab.wire import PATHS, RequestWriter, Target

DIALECTS = sorted(PATHS)


def call(number: int, **fields: object) -> Call:
    usual = {
        "at_ms": number,
        "team": f"team-{number % 3}",
        "project": "p",
        "dialect": DIALECTS[number % len(DIALECTS)],
        "model": "m",
        "input_tokens": 100 + number,
        "output_tokens": number,
        "streamed": number % 2 == 0,
    }
    return Call(**{**usual, **fields})  # type: ignore[arg-type]


def test_every_call_is_sent_once_in_every_dialect(tmp_path: Path, bare_environ: dict[str, str]) -> None:
    log = tmp_path / "received"
    program, port = start_emulator(bare_environ, tmp_path, "--call-log", str(log))
    target = Target("127.0.0.1", port, direct=True)
    calls = [call(number) for number in range(300)]
    attempts = tmp_path / "attempts"
    outcome = replay(target, RequestWriter(target, {}, chunks=3), iter(calls), Pace(concurrency=8), log=attempts)
    program.stop()
    assert outcome.tally.groups == expected(calls).groups
    assert outcome.attempts == 300
    sent = [json.loads(line)["call_id"] for line in attempts.read_text().splitlines()]
    received = [line.split() for line in log.read_text().splitlines()]
    assert sorted(sent) == sorted(call_id for what, call_id in received if what == "received")
    assert sorted(sent) == sorted(call_id for what, call_id in received if what == "answered")


def test_failures_and_early_leavers_are_counted_apart(emulator_port: int) -> None:
    target = Target("127.0.0.1", emulator_port, direct=True)
    calls = [
        call(0, dialect="openai.chat"),
        call(1, dialect="openai.chat", fault="error"),
        call(2, dialect="anthropic.messages", fault="cut"),
        call(3, dialect="ollama.chat", fault="stall"),
        call(4, dialect="openai.chat", streamed=True, leaves_early=True),
    ]
    pace = Pace(concurrency=2, call_timeout_seconds=0.3)
    outcome = replay(target, RequestWriter(target, {}, chunks=5), iter(calls), pace)
    total = outcome.tally.total()
    assert (total.calls, total.failed_calls, total.aborted_calls) == (1, 3, 1)
    assert total.input_tokens == 100


def test_a_failed_call_is_sent_again_only_if_asked(emulator_port: int) -> None:
    target = Target("127.0.0.1", emulator_port, direct=True)

    class CutOnce(RequestWriter):
        """The first attempt (number 0 at the end of its id) is cut, the second is not."""

        def render(self, call: Call, call_id: str) -> bytes:
            whole = super().render(call, call_id)
            return (
                whole if not call_id.endswith("0000") else whole.replace(b"host:", b"x-emulate-fault: cut\r\nhost:", 1)
            )

    calls = [call(number) for number in range(10)]
    once = replay(target, CutOnce(target, {}, chunks=2), iter(calls), Pace(concurrency=3))
    assert (once.tally.total().calls, once.tally.total().failed_calls, once.attempts) == (0, 10, 10)
    again = replay(target, CutOnce(target, {}, chunks=2), iter(calls), Pace(concurrency=3, retry=True))
    assert again.tally.groups == expected(calls).groups
    assert again.attempts == 20


def test_the_command_prints_the_exact_sums(tmp_path: Path, emulator_port: int, bare_environ: dict[str, str]) -> None:
    trace = tmp_path / "code.csv"
    lines = [f"2023-11-16 18:17:03.{number:03d},{number},{2 * number}" for number in range(100)]
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines))
    arguments = ["replay", str(trace), "--through", f"http://127.0.0.1:{emulator_port}", "--direct", "--no-progress"]
    done = subprocess.run(
        command([*arguments, "--output", "json"]), env=bare_environ, capture_output=True, check=True, timeout=30
    )
    told = json.loads(done.stdout)
    assert (told["calls"], told["input_tokens"], told["output_tokens"], told["failed_calls"]) == (100, 4950, 9900, 0)
    assert sum(row["calls"] for row in told["by_team"].values()) == 100
    assert sum(row["input_tokens"] for row in told["by_model"].values()) == 4950


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--through", "ftp://x"], "must look like http://"),
        (["--speed", "fast"], "60x"),
        (["--through", "http://127.0.0.1:{free}"], "start it with `metering sidecar`"),
        (["--format", "tarot"], "write auto, azure"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    tmp_path: Path, bare_environ: dict[str, str], options: list[str], said: str
) -> None:
    trace = tmp_path / "code.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,2\n")
    words = [option.replace("{free}", str(free_port())) for option in options]
    done = subprocess.run(
        command(["replay", str(trace), *words]),
        env=bare_environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
