"""One server process: made, started, found again, stopped. Only for who holds the transition (see `embedded`)."""

import os
import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from metering.errors import EmbeddedPostgresError
from metering.ledger.postgres_binaries import Binaries, find_binaries
from metering.ledger.postgres_home import Home, reachable_binaries, socket_folder

SUPERUSER = "postgres"
START_SECONDS = 60
STOP_SECONDS = 30
LOG_BYTES_MAX = 8 * 2**20
NO_SUCH_PROCESS = 2**31 - 2  # above the largest process number of any kernel
# What a killed server's last children cause; they leave within moments of noticing that it is gone.
PASSING = ("pre-existing shared memory block", "is another postmaster")


class Server:
    """The server of a home, seen by whoever holds the transition."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._socket = socket_folder(home)

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._socket), safe='')}&port=5432"

    def answers(self) -> bool:
        """Whether the server takes connections; one that is full does, one that starts or recovers does not."""
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            return "too many clients" in str(error) or "connection slots are reserved" in str(error)
        return True

    def serve(self, database: str, settings: Mapping[str, str]) -> None:
        """Have the server run and hold `database`; one that is killed meanwhile is started again, a few times."""
        for attempts_left in (2, 1, 0):
            if not self.answers():
                self._launch(settings)
            try:
                self._create_database(database)
            except psycopg.Error as error:
                if not attempts_left:
                    said = str(error).partition("\n")[0]
                    log = self._home.log
                    raise EmbeddedPostgresError(f"the embedded Postgres does not serve ({said}): see {log}") from None
            else:
                return

    def _launch(self, settings: Mapping[str, str]) -> None:
        """Make the data folder if there is none, and start; returns when connections are taken."""
        binaries = reachable_binaries(self._home, find_binaries(self._data_major()))
        if self._data_major() is None:
            self._initialise(binaries)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            complaint = "it is still starting or recovering" if self._pid() else self._start(binaries, settings)
            late = time.monotonic() > deadline
            if complaint and (late or not self._passing(complaint)):
                said = " ".join(complaint.split())
                raise EmbeddedPostgresError(f"the embedded Postgres did not start ({said}): see {self._home.log}")
            time.sleep(0.05)

    def _create_database(self, name: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def shut_down(self) -> None:
        """Stop a running server: clients are disconnected, data is flushed. Nothing to do if none runs."""
        if self._pid() is None:
            return
        pg_ctl = reachable_binaries(self._home, find_binaries(self._data_major())).folder / "pg_ctl"
        for mode in ("fast", "immediate"):
            words = (pg_ctl, "stop", "-D", self._home.data, "-m", mode, "-w", "-t", str(STOP_SECONDS))
            self._home.run(*words, seconds=STOP_SECONDS + 10)
            if self._pid() is None:
                self._remove_far_socket_folder()
                return
        raise EmbeddedPostgresError(f"the embedded Postgres did not stop: see {self._home.log}")

    def _remove_far_socket_folder(self) -> None:
        """Leave nothing in /tmp; made again at the next start."""
        if self._socket.parent != self._home.place:
            shutil.rmtree(self._socket, ignore_errors=True)

    def _data_major(self) -> int | None:
        """The major version that made the data; None if there is no data yet."""
        try:
            return int((self._home.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise EmbeddedPostgresError(
                f"the data in {self._home.data} can't be used ({error}): it belongs to another user or is damaged"
            ) from None

    def _initialise(self, binaries: Binaries) -> None:
        """Make the data folder aside and put it in place by a rename, so that a kill leaves no half of one."""
        unfinished = self._home.place / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._home.own(unfinished)
        # The C locale exists everywhere and sorts as Python does. No password: the socket's folder is private.
        words = ("-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject")
        status, said = self._home.run(*self._home.named(), binaries.folder / "initdb", "-D", unfinished, *words)
        if status:
            why = said.splitlines()[-1] if said else f"status {status}"
            raise EmbeddedPostgresError(
                f"initdb could not make {self._home.data} ({why}): run metering as a user with an entry in the system's"
                " list of users and a writable METERING_STATE_DIR, or set METERING_DATABASE_URL to a server"
            )
        try:
            unfinished.rename(self._home.data)
        except OSError as error:
            raise EmbeddedPostgresError(f"{self._home.data} is in the way ({error.strerror}): move it away") from None

    def _start(self, binaries: Binaries, settings: Mapping[str, str]) -> str | None:
        """One attempt; None or why it failed."""
        self._disown_leavings()
        self._roll_log()
        options = {"listen_addresses": "", "unix_socket_directories": str(self._socket), "port": "5432", **settings}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        size_before = self._home.log.stat().st_size
        status, said = self._home.run(
            *(binaries.folder / "pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-o", shlex.join(words)),
            # Relative, for pg_ctl hands them to a shell without escaping what a folder's name may contain.
            *("-D", self._home.data.name, "-l", self._home.log.name),
            folder=self._home.place,
            seconds=START_SECONDS + 10,
        )
        if not status:
            return None
        with self._home.log.open("rb") as log:
            log.seek(size_before)
            lines = log.read().decode(errors="replace").splitlines()
        return next((line for line in lines if "FATAL" in line or "PANIC" in line), said or f"status {status}")

    @staticmethod
    def _passing(complaint: str) -> bool:
        return complaint.startswith("it is still") or any(words in complaint for words in PASSING)

    def _roll_log(self) -> None:
        log = self._home.log
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.rename(log.with_suffix(".log.1"))
        log.touch(mode=0o600)
        self._home.own(log)

    def _noted_pid(self) -> int | None:
        """The process number in `postmaster.pid`, alive or not."""
        try:
            return int((self._home.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def _pid(self) -> int | None:
        """The running server's process number; None if the noted one is gone or is another program's now."""
        pid = self._noted_pid()
        return pid if pid is not None and _is_server(pid, self._home) else None

    def _disown_leavings(self) -> None:
        """Make a killed server's lock files harmless: their number may be another program's now, or a zombie's.

        Postgres would take either for a running server. `postmaster.pid` is not removed: its other lines let
        Postgres see whether children of the old server still live.
        """
        for leaving in self._socket.glob(".s.PGSQL.*"):
            leaving.unlink(missing_ok=True)
        pid = self._noted_pid()
        if pid is not None and _is_alive(pid):
            path = self._home.data / "postmaster.pid"
            rest = path.read_text().split("\n", 1)[1:]
            path.write_text("\n".join([str(NO_SUCH_PROCESS), *rest]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_server(pid: int, home: Home) -> bool:
    """Whether process `pid` is the server of this home, alive."""
    process = Path("/proc", str(pid))
    if not Path("/proc/self").exists():  # a Mac
        return _is_alive(pid) and "postgres" in home.run("/bin/ps", "-p", str(pid), "-o", "comm=")[1]
    try:
        # Dead and not yet reaped counts as gone: PID 1 may be slow to notice.
        dead = process.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z"
        named = process.joinpath("comm").read_text().strip() == "postgres"
        return named and not dead and process.joinpath("cwd").readlink() == home.data.resolve()
    except PermissionError:  # a container without the right to look: a Postgres is taken for ours
        return True
    except OSError:
        return False
