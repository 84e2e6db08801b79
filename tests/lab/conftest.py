"""A running emulator, as its own process, shared by the tests of a file."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.lab.programs import start_emulator

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"


@pytest.fixture(scope="session")
def bare_environ() -> dict[str, str]:
    """Our environment without METERING_*."""
    return {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}


@pytest.fixture(scope="module")
def emulator_port(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Iterator[int]:
    program, port = start_emulator(bare_environ, tmp_path_factory.mktemp("emulator"))
    yield port
    program.stop()


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder of public traces; the test is skipped where they are not at hand."""
    if not TRACES.is_dir():
        pytest.skip("no public traces here: they are looked for in ../shared/traces")
    return TRACES
