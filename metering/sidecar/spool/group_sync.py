"""Group commit: one `fdatasync` for all that was appended since the last, in a thread, never in the loop."""

import os
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

SYNC_SECONDS = 0.02
RETRY_SECONDS_MAX = 5.0


class SyncJob(msgspec.Struct):
    """What one sync covers. Descriptors in `sealed` are closed by whoever takes the job back."""

    fds: list[int]
    sealed: list[int]
    directory_fd: int | None  # set when names were created since the last sync
    upto: int  # the highest sequence in the files when the job was made


def run_job(job: SyncJob) -> OSError | None:
    """Sync the job's files, then their names. A file that fails is not tried again: the kernel forgets the
    pages it couldn't write, and a second `fdatasync` would say all is well.
    """
    try:
        for fd in job.fds:
            os.fdatasync(fd)
        if job.directory_fd is not None:
            os.fsync(job.directory_fd)
    except OSError as error:
        return error
    return None


class GroupSync:
    """Runs one job at a time; jobs are made by `take` and given back to `done`, both in the loop's thread."""

    def __init__(
        self, loop: AbstractEventLoop, take: Callable[[], SyncJob], done: Callable[[SyncJob, OSError | None], None]
    ) -> None:
        self._loop = loop
        self._take = take
        self._done = done
        self._executor = ThreadPoolExecutor(1, "spool-sync")
        self._timer: TimerHandle | None = None
        self._running: tuple[SyncJob, Future[OSError | None]] | None = None
        self._wanted = False  # something was appended while a job ran
        self._urgent = False  # and someone waits for it
        self._failures = 0

    def want(self) -> None:
        """Something was appended: sync it within `SYNC_SECONDS`."""
        self._wanted = True
        if self._timer is None and self._running is None:
            self._timer = self._loop.call_later(self._delay(), self._start)

    def want_now(self) -> None:
        """Someone waits for the sync: begin as soon as no other runs."""
        if self._running is not None or self._failures:
            self._urgent = True
            self.want()
            return
        self._start()

    def close(self) -> None:
        """Wait for the running job and give it back; begin no other."""
        self._executor.shutdown(wait=True)
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            job, ended = self._running
            self._running = None
            self._done(job, ended.result())

    def _delay(self) -> float:
        # A disk that fails every sync must not be given a new segment every 20 ms.
        return float(min(RETRY_SECONDS_MAX, SYNC_SECONDS * 4**self._failures))

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wanted = self._urgent = False
        job = self._take()
        ended = self._executor.submit(run_job, job)
        self._running = job, ended
        ended.add_done_callback(self._tell_loop)

    def _tell_loop(self, ended: "Future[OSError | None]") -> None:
        try:
            self._loop.call_soon_threadsafe(self._finish, ended)
        except RuntimeError:
            return  # the loop has ended; `close` takes the outcome

    def _finish(self, ended: "Future[OSError | None]") -> None:
        if self._running is None or self._running[1] is not ended:
            return  # `close` took it
        job, self._running = self._running[0], None
        error = ended.result()
        self._failures = self._failures + 1 if error else 0
        self._done(job, error)
        if self._urgent:
            self.want_now()
        elif self._wanted:
            self.want()
