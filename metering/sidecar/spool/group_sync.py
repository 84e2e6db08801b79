"""Group commit: one `fdatasync` for all that was appended since the last, in a thread, never in the loop."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

import msgspec

from metering.sidecar.spool.disk import Disk

SYNC_SECONDS = 0.02
RETRY_SECONDS_MAX = 5.0


class SyncJob(msgspec.Struct):
    """What one sync covers. Descriptors in `sealed` are closed by whoever takes the job back."""

    disk: Disk
    fds: list[int]
    sealed: list[int]
    directory_fd: int | None  # set when names were created since the last sync
    upto: int  # the highest sequence in the files when the job was made
    finals: list[bytes] = []  # the JSON of the finals it covers, to be written again if it fails
    finals_dropped: bool = False  # they were too many to keep
    error: OSError | None = None
    ended: bool = False


def run_job(job: SyncJob) -> OSError | None:
    """Sync the job's files, then their names. A file that fails is not tried again: the kernel forgets the
    pages it couldn't write, and a second `fdatasync` would say all is well.
    """
    try:
        for fd in job.fds:
            job.disk.fdatasync(fd)
        if job.directory_fd is not None:
            job.disk.fsync(job.directory_fd)
    except OSError as error:
        return error
    return None


class GroupSync:
    """Runs one job at a time; jobs are made by `take` and given back to `done`, both in the loop's thread.

    A sync costs the kernel 150 to 250 µs, and used to cost as much again in futures and wake-ups, fifty times a
    second. So the thread gets a job through a queue and wakes the loop at its end only where someone waits for it;
    else the tick that begins the next sync takes it back.
    """

    def __init__(
        self, loop: AbstractEventLoop, take: Callable[[], SyncJob], done: Callable[[SyncJob, OSError | None], None]
    ) -> None:
        self._loop = loop
        self._take = take
        self._done = done
        self._jobs: SimpleQueue[SyncJob | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="spool-sync", daemon=True)
        self._timer: TimerHandle | None = None  # none: the last sync began `SYNC_SECONDS` ago or more
        self._running: SyncJob | None = None
        self._told = False  # the thread must tell the loop when the job ends
        self._wanted = False  # something was appended since the last job was taken
        self._urgent = False  # and someone waits for it
        self._failures = 0
        self._thread.start()

    def want(self) -> None:
        """Something was appended: sync it within `SYNC_SECONDS`."""
        self._wanted = True
        if self._timer is None and self._running is None:
            self._wait()

    def want_now(self) -> None:
        """Someone waits for the sync: begin as soon as no other runs."""
        if self._running is not None:
            self._urgent = True
            self._see_end(self._running)
        elif self._failures:
            self.want()
        else:
            self._start()

    def close(self) -> None:
        """Wait for the running job and give it back; begin no other."""
        self._jobs.put(None)
        self._thread.join()
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            job, self._running = self._running, None
            self._done(job, job.error)

    def _wait(self) -> None:
        # A disk that fails every sync must not be given a new segment every 20 ms.
        seconds = min(RETRY_SECONDS_MAX, SYNC_SECONDS * 4**self._failures)
        self._timer = self._loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._running is not None:
            self._see_end(self._running)
        elif self._wanted:
            self._start()

    def _start(self) -> None:
        job = self._take()
        self._wanted = self._urgent = self._told = False
        self._running = job
        if self._timer is None:
            self._timer = self._loop.call_later(SYNC_SECONDS, self._tick)
        self._jobs.put(job)

    def _see_end(self, job: SyncJob) -> None:
        """Take the job back now if it has ended, else as soon as it does."""
        self._told = True  # before looking, as the thread looks after it has ended: neither misses the other
        if job.ended:
            self._finish(job)

    def _work(self) -> None:
        """The thread."""
        while (job := self._jobs.get()) is not None:
            job.error = run_job(job)
            job.ended = True
            if self._told:
                try:
                    self._loop.call_soon_threadsafe(self._finish, job)
                except RuntimeError:
                    continue  # the loop has ended; `close` takes the outcome

    def _finish(self, job: SyncJob) -> None:
        if self._running is not job:
            return  # taken back before
        self._running = None
        self._failures = self._failures + 1 if job.error else 0
        if job.error and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._done(job, job.error)
        if self._wanted and not self._failures and (self._urgent or self._timer is None):
            self._start()
        elif self._wanted:
            self.want()
