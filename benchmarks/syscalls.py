"""Every system call that changes or reads a spool, failed in turn: by a kill, by EIO and by ENOSPC.

    python -m benchmarks.syscalls --output json|table [--quick]

A small program opens a spool that has calls left open, appends, rotates, syncs, ships, retires, and starts again.
It is traced once with strace to list its calls on the spool's folder; then it runs once for each of them and each
way to fail, and a fresh start looks at what is left: none lost, none double, none unexpected.
`--seed` and `--quick` choose a sample of 60; a failure names the call, which `--only NUMBER` tries alone.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from metering.core.event import Outcome, UsageEvent, mint_event_id
from metering.core.usage import UsageSource
from metering.errors import SpoolError
from metering.sidecar.ship.retire import Retention
from metering.sidecar.spool.reader import SpoolReader
from metering.sidecar.spool.writer import SpoolWriter

TRACED = "openat,mkdir,write,pwrite64,ftruncate,fallocate,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat"
WAYS = {"kill": "signal=KILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
START = 1_790_000_000
SEGMENT_BYTES = 1_400
ATTEMPTS = 4
SAMPLE = 60
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")

Rows = dict[int, set[str]]  # number of a call → the outcomes of its rows


class Step(msgspec.Struct, frozen=True):
    """One system call on the spool, and a way to fail it."""

    name: str
    ordinal: int  # among all calls of that name
    what: str  # as strace tells it
    way: str


# ── the program that is traced ────────────────────────────────────────────────────────────────────────


def event(number: int, *, is_final: bool) -> UsageEvent:
    """A record of call `number`."""
    return UsageEvent(
        event_id=mint_event_id(START * 1000 + number, number),
        provider_name="openai",
        outcome=Outcome.COMPLETED if is_final else Outcome.INTERRUPTED,
        usage_source=UsageSource.UNKNOWN,
        request_model="gpt-4o",
    )


def tell(*words: object) -> None:
    """Say what was done, in one write: whoever listens knows it even if this is killed next."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def run_scenario(directory: Path) -> None:
    """Two lives of a writer with a shipper beside it."""
    position = 0
    for life in range(2):
        try:
            writer = SpoolWriter.open(
                directory, segment_bytes=SEGMENT_BYTES, max_bytes=1 << 20, wall_clock=partial(int, START + life)
            )
        except SpoolError:
            continue
        for number in range(10 * life, 10 * life + 6):
            _append(writer, number, is_final=False)
            if number % 3:
                _append(writer, number, is_final=True)
            if number % 2:
                _try(writer.sync)
        position = _ship(directory, position)
        writer.close()


def _append(writer: SpoolWriter, number: int, *, is_final: bool) -> None:
    tell("try", number)
    append = writer.append_final if is_final else writer.append_open
    try:
        append(event(number, is_final=is_final))
    except SpoolError:
        return
    tell("final" if is_final else "open", number)


def _try(act: Callable[[], None]) -> None:
    try:
        act()
    except SpoolError:
        return


def _ship(directory: Path, position: int) -> int:
    """Tell what a shipper would bring to the ledger, and retire what is told."""
    try:
        reader = SpoolReader(directory, position)
        batch = reader.read()
        tell("ship", batch.position, *rows_of([record.payload for _, record in batch.finals]))
        reader.accept(batch)
        Retention().retire(directory, reader.finished_segments(), set())
    except OSError:
        return position
    return batch.position


def rows_of(payloads: list[bytes]) -> list[str]:
    """`number:outcome` of each record."""
    events = [msgspec.json.decode(payload, type=UsageEvent) for payload in payloads]
    return [f"{one.event_id.int & 0xFFFFFFFF}:{one.outcome.value}" for one in events]


# ── tracing it ────────────────────────────────────────────────────────────────────────────────────────


def why_not() -> str | None:
    """Why no call can be made to fail here; None if it can."""
    if not shutil.which("strace"):
        return "strace is not installed: it makes chosen system calls fail"
    run = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return None if run.returncode == 0 else f"strace may not trace here: {run.stderr.strip().splitlines()[0]}"


def prepare(directory: Path) -> None:
    """A spool as a killed writer left it: three calls, two of them without an end, and half a line."""
    writer = SpoolWriter.open(directory, segment_bytes=SEGMENT_BYTES, max_bytes=1 << 20, wall_clock=lambda: START - 1)
    for number in (100, 101, 102):
        writer.append_open(event(number, is_final=False))
    writer.append_final(event(101, is_final=True))
    writer.close()
    (newest,) = sorted(directory.glob("*.seg"))[-1:]
    with newest.open("ab") as file:
        file.write(b'0badc0de 77 O {"event')


def trace(directory: Path, log: Path, *inject: str) -> "subprocess.CompletedProcess[str]":
    """Run the scenario under strace; the log has a line for each call of `TRACED`, with paths."""
    words = ["strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={TRACED}"]
    program = [sys.executable, "-m", "benchmarks.syscalls", "--scenario", str(directory)]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([*words, *inject, *program], capture_output=True, text=True, check=False, env=environ)


def list_steps(folder: Path) -> list[Step]:
    """Every call on the spool's folder that the scenario makes, in each way to fail."""
    directory, log = folder / "whole", folder / "whole.log"
    prepare(directory)
    run = trace(directory, log)
    if run.returncode:
        raise RuntimeError(f"the scenario fails untouched: {run.stderr}")
    counts: Counter[str] = Counter()
    steps: list[Step] = []
    for line in log.read_text().splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        counts[found[1]] += 1
        if str(directory) in line:
            what = line[found.start(1) :].replace(str(directory), "").partition(" = ")[0]
            steps += [Step(found[1], counts[found[1]], what, way) for way in WAYS]
    shutil.rmtree(directory)
    return steps


class Missed(Exception):
    """The call that was to fail was not met: on a busy machine two threads take turns in another order."""


def try_step(folder: Path, number: int, step: Step) -> str | None:
    """Fail one call; what is wrong afterwards, None if nothing is. `Missed` if it was not met in some attempts."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _try_once(folder, number, step)
        except Missed:
            pass
    return _try_once(folder, number, step)


def _try_once(folder: Path, number: int, step: Step) -> str | None:
    directory, log = folder / f"step-{number}", folder / f"step-{number}.log"
    prepare(directory)
    try:
        run = trace(directory, log, "-e", f"inject={step.name}:{WAYS[step.way]}:when={step.ordinal}")
        text = log.read_text()
        hit = [line for line in text.splitlines() if "(INJECTED)" in line]
        if step.way != "kill" and (not hit or str(directory) not in hit[0]):
            raise Missed
        if step.way == "kill" and "killed by SIGKILL" not in text:
            raise Missed
        if "Traceback" in run.stderr:
            return run.stderr.strip().splitlines()[-1]
        return judge(directory, run.stdout)
    finally:
        shutil.rmtree(directory)
        log.unlink(missing_ok=True)


def judge(directory: Path, told: str) -> str | None:
    """Start anew and compare the rows with what the program told; what is wrong, None if nothing is."""
    SpoolWriter.open(directory, wall_clock=lambda: START + 9).close()
    rows: Rows = {}
    heard: dict[str, set[int]] = {"try": {100, 101, 102}, "open": {100, 101, 102}, "final": {101}}
    position = 0
    for line in told.splitlines():
        word, *rest = line.split()
        if word == "ship":
            position = int(rest[0])
            _add(rows, rest[1:])
        else:
            heard[word].add(int(rest[0]))
    _add(rows, rows_of([record.payload for _, record in SpoolReader(directory, position).read().finals]))
    completed = {number for number, outcomes in rows.items() if outcomes == {Outcome.COMPLETED.value}}
    wrong = {
        "lost": heard["open"] - set(rows),
        "lost the truth about": heard["final"] - completed,
        "two truths about": {number for number, outcomes in rows.items() if len(outcomes) > 1},
        "unexpected": set(rows) - heard["try"],
    }
    return "; ".join(f"{name} {sorted(numbers)}" for name, numbers in wrong.items() if numbers) or None


def _add(rows: Rows, words: list[str]) -> None:
    for word in words:
        number, outcome = word.split(":")
        rows.setdefault(int(number), set()).add(outcome)


def sample(steps: list[Step], size: int, seed: int) -> list[int]:
    """Numbers of some steps: one of each system call and way, then any."""
    dice = random.Random(seed)
    order = list(range(len(steps)))
    dice.shuffle(order)
    first = {(steps[number].name, steps[number].way): number for number in order}
    rest = [number for number in order if number not in first.values()]
    return sorted([*first.values(), *rest][:size])


class Found(msgspec.Struct):
    """What a sweep tells."""

    calls: int  # system calls on the spool
    tried: int
    by_call: dict[str, int]
    missed: list[int]  # steps that could not be tried: their call was not met
    wrong: list[dict[str, object]]  # empty if every promise held


def sweep(folder: Path, steps: list[Step], numbers: list[int]) -> Found:
    """Try the steps, two at a time."""
    missed: list[int] = []

    def attempt(number: int) -> str | None:
        try:
            return try_step(folder, number, steps[number])
        except Missed:
            missed.append(number)
            return None

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(attempt, numbers))
    by_call = Counter(f"{steps[number].name} {steps[number].way}" for number in numbers if number not in missed)
    wrong = [
        {"number": number, "call": steps[number].what, "way": steps[number].way, "found": what}
        for number, what in zip(numbers, found, strict=True)
        if what
    ]
    return Found(len(steps) // len(WAYS), len(numbers) - len(missed), by_call, sorted(missed), wrong)


def main() -> int:
    """Run it; 0 if every promise held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.syscalls", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", choices=("json", "table"), default="table")
    parser.add_argument("--quick", action="store_true", help=f"a sample of {SAMPLE}")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--only", type=int, help="one step by its number")
    parser.add_argument("--scenario", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scenario:
        run_scenario(options.scenario)
        return 0
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="metering-syscalls-") as name:
        folder = Path(name)
        steps = list_steps(folder)
        numbers = [options.only] if options.only is not None else list(range(len(steps)))
        if options.quick:
            numbers = sample(steps, SAMPLE, options.seed)
        found = sweep(folder, steps, numbers)
    if options.output == "json":
        print(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        print_table(found)
    return 5 if found.wrong or len(found.missed) > found.tried // 10 else 0


def print_table(found: Found) -> None:
    """For a terminal."""
    counts = {
        "calls": found.calls,
        "tried": found.tried,
        **dict(sorted(found.by_call.items())),
        "missed": len(found.missed),
        "wrong": len(found.wrong),
    }
    for name, count in counts.items():
        print(f"{name:24} {count:>8}")
    for one in found.wrong:
        print(one)


if __name__ == "__main__":
    sys.exit(main())
