"""A whole path as processes: an emulator (or another model server), a sidecar in front of it, its shipper.

The demo, the replays that prove the books and the tests with real clients all run on one of these.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from metering.errors import MeteringError
from metering.lab.programs import POLL_SECONDS, Program, ask_command, free_port, parent_option, start_emulator
from metering.lab.sidecar_plan import PlannedKey, SidecarPlan

COUNT_POLL_SECONDS = 0.1


class Stack:
    """Running programs in one folder. `environ` is what they get; it names the ledger and the state folder."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.environ = dict(environ)
        self.emulator: Program | None = None
        self.sidecar: Program | None = None
        self.config = folder / "sidecar.toml"
        self.spool_dir = folder / "spool"
        self.port = self.admin_port = 0  # the sidecar's
        self.upstream = ""

    @property
    def url(self) -> str:
        """Where the sidecar listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(
        self,
        *,
        keys: Sequence[PlannedKey] = (),
        upstream: str | None = None,
        workers: int = 1,
        durability: str = "process",
        segment_bytes: int = 64 * 2**20,
        emulator_options: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        """Start the emulator, unless `upstream` names another model server, and the sidecar before it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if upstream is None:
            self.emulator, emulator_port = start_emulator(self.environ, self.folder, *emulator_options)
            upstream = f"http://127.0.0.1:{emulator_port}"
        self.upstream = upstream
        self.port, self.admin_port = port or free_port(), free_port()
        plan = SidecarPlan(
            listen_port=self.port,
            admin_port=self.admin_port,
            spool_dir=self.spool_dir,
            upstream=upstream,
            keys=keys,
            workers=workers,
            durability=durability,
            segment_bytes=segment_bytes,
        )
        self.config.write_text(plan.to_toml(), encoding="utf-8")
        self.start_sidecar()

    def start_sidecar(self) -> None:
        """Start the sidecar (again); returns when it takes calls."""
        words = ("sidecar", "--config", str(self.config), *parent_option())
        self.sidecar = Program(words, self.environ, self.folder / "sidecar.log")
        self.sidecar.wait_for_port("127.0.0.1", self.port)

    def stop(self) -> None:
        """Stop everything, the sidecar first: it drains and ships what it has."""
        for program in (self.sidecar, self.emulator):
            if program is not None:
                program.stop()
        self.sidecar = self.emulator = None

    def count_events(self, events: int, within_seconds: float) -> int:
        """Count what is shipped, until `events` are counted: how many were. `MeteringError` if fewer come in time."""
        deadline = time.monotonic() + within_seconds
        counted = 0
        while True:
            counted += int(ask_command(["count"], self.environ)["events"])
            if counted >= events:
                return counted
            if time.monotonic() > deadline:
                raise MeteringError(
                    f"only {counted} of {events} calls were shipped and counted in {within_seconds:.0f} s:"
                    f" see {self.folder / 'sidecar.log'}"
                )
            time.sleep(COUNT_POLL_SECONDS)

    def wait_until_shipped(self, is_shipped: Callable[[], bool], within_seconds: float) -> None:
        """Return when `is_shipped()`; `MeteringError` if it isn't in time."""
        deadline = time.monotonic() + within_seconds
        while not is_shipped():
            if time.monotonic() > deadline:
                raise MeteringError(f"not everything was shipped in {within_seconds:.0f} s: see {self.folder}")
            time.sleep(POLL_SECONDS)
