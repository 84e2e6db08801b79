"""Mistakes of an operator, one process each: one sentence that says what to do, the right exit code, no traceback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """
[sidecar]
listen = "127.0.0.1:0"
admin = "off"
[[route]]
path = "/openai"
upstream = "http://127.0.0.1:9"
provider = "openai"
"""
TWO_PRICES = """
[[price]]
provider = "openai"
model = "gpt-5"
meter = "input"
price = "2.00"
effective_from = 2026-01-01
[[price]]
provider = "openai"
model = "gpt-5"
meter = "input"
price = "3.00"
effective_from = 2026-06-01
"""
SHORT_HASH = '[[key]]\nid = "search"\nhash = "sha256:12"\n'


def _refused(environ: dict[str, str], code: int, *words: str) -> str:
    """What `metering WORDS` says, which must be one sentence, when it ends with `code`."""
    command = [sys.executable, "-m", "metering", *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("metering: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.removeprefix("metering: ").strip()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("admin", "admn"), "[sidecar]: unknown key 'admn'; did you mean 'admin'?"),
        (GOOD.replace('upstream = "http://127.0.0.1:9"', ""), "[[route]] 1 has no upstream: give it one"),
        (GOOD + SHORT_HASH, "[[key]] 1: hash must be sha256: and 64 hex digits"),
        (GOOD + "path = [", "not valid TOML"),
        (None, "is not there: write it after deploy/sidecar.example.toml"),
    ],
    ids=["unknown key", "no upstream", "bad key", "no TOML", "no file"],
)
def test_in_the_sidecars_file(command_environ: dict[str, str], tmp_path: Path, text: str | None, sentence: str) -> None:
    config = tmp_path / "sidecar.toml"
    if text is not None:
        config.write_text(text)
    said = _refused(command_environ, 2, "sidecar", "--config", str(config))
    assert said.startswith(str(config))
    assert sentence in said


@pytest.mark.parametrize("words", [("sidecar", "--config", "{config}"), ("api", "--listen", "127.0.0.1:{port}")])
def test_a_port_that_somebody_has(
    command_environ: dict[str, str], database_url: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "sidecar.toml"
        config.write_text(GOOD.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        filled = [word.format(config=config, port=port) for word in words]
        said = _refused({**command_environ, "METERING_DATABASE_URL": database_url}, 2, *filled)
    assert f"127.0.0.1:{port}" in said


def test_prices_that_overlap(command_environ: dict[str, str], database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(TWO_PRICES)
    environ = {**command_environ, "METERING_DATABASE_URL": database_url}
    said = _refused(environ, 2, "prices", "import", str(file))
    assert "two prices for openai/gpt-5/input" in said


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "/none"),
        ("dialects", "check", "/none"),
        ("api", "--token-file", "/none"),
    ],
    ids=" ".join,
)
def test_a_file_that_is_not_there(command_environ: dict[str, str], words: tuple[str, ...]) -> None:
    assert "/none" in _refused(command_environ, 2, *words)


def test_a_spool_that_is_not_there(command_environ: dict[str, str]) -> None:
    assert "name the [spool] dir" in _refused(command_environ, 4, "spool", "inspect", "/none")


@pytest.mark.parametrize(
    ("code", "words"),
    [(2, ("demo", "--once")), (3, ("report", "--period", "2026-10")), (4, ("sidecar", "--config", "{config}"))],
    ids=["demo", "report", "sidecar"],
)
def test_a_state_folder_that_can_not_be(
    command_environ: dict[str, str], tmp_path: Path, code: int, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    config = tmp_path / "sidecar.toml"
    config.write_text(GOOD)
    environ = {**command_environ, "METERING_STATE_DIR": str(tmp_path / "file" / "state")}
    said = _refused(environ, code, *(word.format(config=config) for word in words))
    assert "METERING_STATE_DIR" in said or "[spool] dir" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_folder_of_somebody_else(command_environ: dict[str, str]) -> None:
    said = _refused({**command_environ, "METERING_STATE_DIR": "/etc"}, 2, "demo", "--once")
    assert "METERING_STATE_DIR" in said
