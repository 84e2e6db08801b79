"""The import rule is kept by contracts in pyproject.toml; here each contract is seen to fail on a planted violation."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
# (contract, file that gets one more line, that line)
PLANTED = [
    ("layers", "core/money.py", "import metering.ledger.engine"),
    ("layers", "errors.py", "import metering.core.money"),
    ("layers", "ledger/engine.py", "import metering.jobs"),
    ("layers", "sidecar/config.py", "import metering.jobs"),
    ("layers", "lab/words.py", "import metering.sidecar.config"),
    ("layers", "ledger/engine.py", "import metering.cli"),
    ("settings", "ledger/engine.py", "import metering.settings"),
    ("settings", "sidecar/config.py", "import metering.settings"),
    ("sql", "cli/context.py", "import psycopg"),
    ("sql", "jobs/__init__.py", "import sqlalchemy.orm"),
    ("sql", "core/money.py", "from alembic import command"),
    ("pure-core", "core/money.py", "import os.path"),
    ("pure-core", "core/usage.py", "from time import time"),
    ("pure-core", "core/event.py", "import logging"),
    ("light-worker", "sidecar/worker.py", "import polars"),
    ("light-worker", "sidecar/config.py", "import metering.ledger.engine"),
    ("synchronous", "ledger/engine.py", "import asyncio"),
]
FORBIDDEN_NAMES = re.compile(r"util|helper|manager|process|mapper|handle|misc|common")


@pytest.fixture(scope="module")
def copied_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "metering", copy / "metering", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def _broken_contracts(checkout: Path, *contracts: str) -> set[str]:
    """The ids of the broken ones among `contracts` (all by default) in `checkout`."""
    chosen = [word for contract in contracts for word in ("--contract", contract)]
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", *chosen],
        cwd=checkout,
        env={"PYTHONPATH": str(checkout), "NO_COLOR": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    broken = {name for name, contract in CONTRACTS.items() if f"{contract['name']} BROKEN" in done.stdout}
    assert bool(broken) == bool(done.returncode), done.stdout + done.stderr
    return broken


def test_the_code_keeps_every_contract(copied_package: Path) -> None:
    assert _broken_contracts(copied_package) == set()


@pytest.mark.parametrize(("contract", "file", "line"), PLANTED)
def test_a_planted_violation_breaks_the_contract(copied_package: Path, contract: str, file: str, line: str) -> None:
    target = copied_package / "metering" / file
    original = target.read_text()
    target.write_text(f"{original}\n{line}\n")
    try:
        assert _broken_contracts(copied_package, contract) == {contract}
    finally:
        target.write_text(original)


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract for contract, _, _ in PLANTED} == set(CONTRACTS)


def test_every_room_is_under_contract() -> None:
    rooms = {f"metering.{folder.parent.name}" for folder in (ROOT / "metering").glob("*/__init__.py")}
    layered = set(re.findall(r"metering\.\w+", " ".join(CONTRACTS["layers"]["layers"])))
    assert rooms <= layered
    assert rooms - {"metering.cli"} == set(CONTRACTS["settings"]["source_modules"])
    assert rooms - {"metering.ledger"} <= set(CONTRACTS["sql"]["source_modules"])


def test_module_names_say_what_is_inside() -> None:
    names = {str(path.relative_to(ROOT)) for path in (ROOT / "metering").rglob("*.py")}
    assert {name for name in names if FORBIDDEN_NAMES.search(name)} == set()
