"""A Postgres of our own, so that nothing has to be installed: `with running(directory) as url:`.

It listens on a Unix socket in a private folder only. Several processes may use it at once: the first starts it,
the last stops it, and the kernel forgets a killed user by itself (its lock goes with it). A server that was
killed is started again by the next `start`; what was committed is there.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from metering.errors import EmbeddedPostgresError
from metering.ledger.postgres_home import make_folders, open_home
from metering.ledger.postgres_server import Server

DATABASE = "metering"
LOCK_SECONDS = 240  # longer than a first start may take: initdb, then the start itself


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """Use the embedded Postgres of `directory`: yields the URL of its database `metering`."""
    postgres = EmbeddedPostgres(directory)
    url = postgres.start()
    try:
        yield url
    finally:
        postgres.stop()


class EmbeddedPostgres:
    """One user of the embedded Postgres of `directory`; safe beside other users in any process.

    `settings` are server settings for a start (`{"fsync": "off"}`). All methods raise `EmbeddedPostgresError`.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self._directory = directory.absolute()
        self._settings = dict(settings or {})
        self._membership: int | None = None  # file descriptor of the shared lock that makes us a user

    def start(self) -> str:
        """Start the server unless it runs, and return the URL of database `metering`.

        Called again it starts a server that was killed since.
        """
        with self._transition():
            joined = self._join()
            try:
                server = Server(open_home(self._directory))
                server.serve(DATABASE, self._settings)
            except BaseException:
                if joined:
                    self._leave()
                raise
        return server.url(DATABASE)

    def stop(self) -> bool:
        """Stop using the server; the last user stops it. True if the server is stopped now."""
        with self._transition():
            self._leave()
            users = self._open("users.lock")
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            else:
                Server(open_home(self._directory)).shut_down()
                return True
            finally:
                os.close(users)

    @contextmanager
    def _transition(self) -> Iterator[None]:
        """Only one process at a time starts, stops, joins or leaves."""
        make_folders(self._directory)
        lock = self._open("transition.lock")
        deadline = time.monotonic() + LOCK_SECONDS
        try:
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(
                        f"another process has been starting or stopping the Postgres in {self._directory} for"
                        f" {LOCK_SECONDS} s: see {self._directory}/postgres.log, or end that process"
                    )
                time.sleep(0.02)
            yield
        finally:
            os.close(lock)

    def _join(self) -> bool:
        """Become a user; False if we are one already."""
        if self._membership is not None:
            return False
        self._membership = self._open("users.lock")
        # Never waits: the exclusive lock on this file is only held inside a transition, and this is ours.
        fcntl.flock(self._membership, fcntl.LOCK_SH)
        return True

    def _leave(self) -> None:
        # Closed, not unlocked: a forked child that still uses the server shares this lock.
        if self._membership is not None:
            os.close(self._membership)
            self._membership = None

    def _open(self, name: str) -> int:
        try:
            return os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"can't use {self._directory}/{name} ({error.strerror}): the embedded Postgres belongs to another"
                " user; set METERING_STATE_DIR to a folder of your own"
            ) from None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
