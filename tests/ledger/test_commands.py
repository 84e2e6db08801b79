"""The ledger's commands, run as a user runs them."""

import subprocess
import sys

import msgspec
from sqlalchemy import Engine, text

from metering.ledger.engine import transaction
from tests.ledger.worlds import ship, some_events


def metering(environ: dict[str, str], url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metering", *words],
        env={**environ, "METERING_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_count_then_verify_then_damage(engine: Engine, database_url: str, command_environ: dict[str, str]) -> None:
    ship(engine, some_events(12))
    done = metering(command_environ, database_url, "count", "--output", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert msgspec.json.decode(done.stdout) == {"batches": 1, "events": 12, "slots": 1}

    done = metering(command_environ, database_url, "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())

    with transaction(engine) as connection:
        connection.execute(text("UPDATE usage_slot SET calls = 99"))
    done = metering(command_environ, database_url, "verify", "--output", "json")
    assert done.returncode == 5
    assert "counting" in done.stderr
    (found,) = [result for result in msgspec.json.decode(done.stdout) if not result["holds"]]
    assert (found["check"], found["rows"][0]["uncounted_calls"]) == ("counting", "-87")


def test_an_unreachable_ledger_is_one_sentence_and_exit_code_3(command_environ: dict[str, str]) -> None:
    done = metering(command_environ, "postgresql://u:s3cret@127.0.0.1:1/x", "migrate")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr


def test_migrate_makes_the_tables_and_the_days_ahead(empty_database_url: str, command_environ: dict[str, str]) -> None:
    done = metering(command_environ, empty_database_url, "migrate")
    assert done.returncode == 0
    assert "8 daily partitions made" in done.stderr


def test_the_embedded_postgres_starts_says_where_and_stops(command_environ: dict[str, str]) -> None:
    def run(word: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "metering", "postgres", word]
        return subprocess.run(words, env=command_environ, capture_output=True, text=True, timeout=60, check=False)

    assert run("status").returncode == 3
    words = [sys.executable, "-m", "metering", "postgres", "start"]
    with subprocess.Popen(words, env=command_environ, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert (run("status").stdout.strip(), run("stop").returncode) == (url, 3)
        server.terminate()
    assert server.returncode == 0
    assert run("status").returncode == 3
