"""A sample of the system calls of a spool, each failed in turn; `python -m benchmarks.syscalls` tries them all."""

from pathlib import Path

import pytest

from benchmarks.syscalls import TRACED, WAYS, Step, list_steps, sample, sweep, why_not

SEED = 20261122
SAMPLE = 36


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    if reason := why_not():
        pytest.skip(reason)
    return list_steps(tmp_path_factory.mktemp("steps"))


def test_a_system_call_that_fails_costs_no_call(tmp_path: Path, steps: list[Step]) -> None:
    found = sweep(tmp_path, steps, sample(steps, SAMPLE, SEED))
    assert found.tried + len(found.missed) == SAMPLE
    assert len(found.missed) < SAMPLE // 10
    assert found.wrong == []


def test_the_scenario_makes_the_calls_that_matter(steps: list[Step]) -> None:
    met = {step.name for step in steps}
    assert {"openat", "mkdir", "write", "ftruncate", "fdatasync", "fsync", "fallocate"} <= met <= set(TRACED.split(","))
    assert any(name.startswith("rename") for name in met)
    assert any(name.startswith("unlink") for name in met)
    assert {step.way for step in steps} == set(WAYS)
    segments = {step.what for step in steps if ".seg" in step.what and step.name == "openat"}
    assert len(segments) > 3
