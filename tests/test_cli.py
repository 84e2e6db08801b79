"""The command line as a process: sentences and exit codes for people, light commands for machines."""

import subprocess
import sys

from metering.cli import COMMANDS


def _run(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metering", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)


def test_help_names_every_command(command_environ: dict[str, str]) -> None:
    done = _run({**command_environ, "COLUMNS": "120", "NO_COLOR": "1"}, "--help")
    assert done.returncode == 0
    assert [command for command in COMMANDS if f" {command} " not in done.stdout] == []


def test_help_lists_the_commands_in_the_order_of_a_first_day(command_environ: dict[str, str]) -> None:
    listed = _run(command_environ, "--help").stdout.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ")] == list(COMMANDS)
    assert "..." not in listed  # every first sentence fits


def test_words_in_brackets_are_not_swallowed_as_markup(command_environ: dict[str, str]) -> None:
    assert "[[key]]" in _run(command_environ, "keys", "mint", "--help").stdout
    assert "[spool] dir" in _run(command_environ, "spool", "inspect", "--help").stdout


def test_the_version(command_environ: dict[str, str]) -> None:
    done = _run(command_environ, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("metering")


def test_every_command_explains_itself(command_environ: dict[str, str]) -> None:
    code = """
import sys
from metering.cli import COMMANDS, main
for command in COMMANDS:
    sys.argv = ["metering", command, "--help"]
    try:
        main()
    except SystemExit as end:
        print(f"{command} exits with {end.code}")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=command_environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [name for name in COMMANDS if f"\n{name} exits with 0\n" not in done.stdout] == []
    assert [name for name in COMMANDS if f"Usage: metering {name} " not in done.stdout] == []


def test_an_unknown_command_exits_with_2(command_environ: dict[str, str]) -> None:
    done = _run(command_environ, "maters")
    assert done.returncode == 2
    assert "No such command 'maters'" in done.stderr


def test_an_unknown_setting_is_one_sentence(command_environ: dict[str, str]) -> None:
    done = _run({**command_environ, "METERING_BILING_ZONE": "UTC"}, "migrate")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("metering: unknown setting METERING_BILING_ZONE: known are")
    assert len(done.stderr.splitlines()) == 1


def test_an_unreachable_database_is_one_sentence_without_the_password(command_environ: dict[str, str]) -> None:
    url = "postgresql://meter:hunter2@127.0.0.1:1/metering?connect_timeout=2"
    done = _run({**command_environ, "METERING_DATABASE_URL": url}, "migrate")
    assert done.returncode == 3
    assert done.stderr.startswith("metering: ")
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr


def test_a_named_server_replaces_the_embedded_one(command_environ: dict[str, str], database_url: str) -> None:
    environ = {**command_environ, "METERING_DATABASE_URL": database_url}
    code = "from metering.cli.context import ledger_url\nwith ledger_url() as url: print(url)"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == database_url


def test_the_sidecar_command_loads_neither_frames_nor_sql(command_environ: dict[str, str]) -> None:
    code = """
import sys
sys.argv = ["metering", "sidecar", "--help"]
from metering.cli import main
try:
    main()
finally:
    heavy = {"polars", "sqlalchemy", "alembic", "fastapi", "genai_prices"} & set(sys.modules)
    print("loaded", sorted(heavy), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], env=command_environ, capture_output=True, text=True, check=True)
    assert done.stderr == "loaded []\n"
