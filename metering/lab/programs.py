"""Our own programs as processes: `metering …` started, watched, asked, and stopped again.

The lab drives the product the way a user does, through its command line: it knows no other shell from inside.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from metering.errors import MeteringError

START_SECONDS = 30.0
STOP_SECONDS = 45.0  # longer than the sidecar drains
POLL_SECONDS = 0.02
PORTS = range(20_000, 30_000)


class Program:
    """`metering ARGUMENTS` as a child process; what it says goes to `log`."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._arguments = list(arguments)
        with log.open("ab") as out:
            # A session of its own: a Ctrl-C in the terminal stops us, and we stop the others in the right order.
            self._child = subprocess.Popen(
                command(arguments), env=dict(environ), stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def check(self) -> None:
        """`MeteringError` with its last words if the program has ended."""
        if (code := self._child.poll()) is not None:
            raise MeteringError(f"`metering {self._arguments[0]}` ended with {code}: {last_words(self.log)}")

    def wait_for_port(self, host: str, port: int) -> None:
        """Return when something listens there. `MeteringError` if the program ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not _listens(host, port):
            self.check()
            if time.monotonic() > deadline:
                raise MeteringError(f"`metering {self._arguments[0]}` does not listen on {host}:{port}: see {self.log}")
            time.sleep(POLL_SECONDS)

    def wait_for_file(self, path: Path) -> bytes:
        """The content of a file that the program writes once it is ready."""
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            self.check()
            if time.monotonic() > deadline:
                raise MeteringError(f"`metering {self._arguments[0]}` did not write {path}: see {self.log}")
            time.sleep(POLL_SECONDS)
        return path.read_bytes()

    def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait; kill it and what it started if it doesn't."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._child.pid, signal.SIGKILL)  # its session, so also its workers
                self._child.wait()

    def reap(self) -> int:
        """Wait for a program that was killed."""
        return self._child.wait(STOP_SECONDS)


def command(arguments: Sequence[str]) -> list[str]:
    """The command line that runs `metering ARGUMENTS` with this very Python."""
    return [sys.executable, "-m", "metering", *arguments]


def parent_option() -> tuple[str, str]:
    """Makes a program end when we are gone, also when we were killed and could not stop it."""
    return "--parent", str(os.getpid())


def run_command(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run `metering ARGUMENTS` to its end: its stdout. `MeteringError` with its last words if it fails."""
    done = subprocess.run(command(arguments), env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise MeteringError(f"`metering {' '.join(arguments)}` ended with {done.returncode}: {said}")
    return done.stdout


def ask_command(arguments: Sequence[str], environ: Mapping[str, str]) -> Any:
    """What `metering ARGUMENTS --output json` prints, decoded."""
    said = run_command([*arguments, "--output", "json"], environ)
    try:
        return msgspec.json.decode(said)
    except msgspec.DecodeError:
        raise MeteringError(f"`metering {' '.join(arguments)} --output json` printed no JSON: {said[:200]!r}") from None


def last_words(log: Path) -> str:
    """The last line of a program's log."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on right now.

    Never one that the system gives to outgoing connections: somebody who dials such a port while nobody listens
    may be given the very same one, meet himself, and keep the listener from binding it.
    """
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nobody listens on `port` right now."""
    return not _listens(host, port)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def start_emulator(environ: Mapping[str, str], folder: Path, *options: str) -> tuple[Program, int]:
    """A running emulator and its port; its port file and log are in `folder`."""
    port_file = folder / "emulator.json"
    port_file.unlink(missing_ok=True)
    arguments = ("emulate", "--listen", "127.0.0.1:0", "--json-port-file", str(port_file), *parent_option(), *options)
    program = Program(arguments, environ, folder / "emulator.log")
    port: int = msgspec.json.decode(program.wait_for_file(port_file))["port"]
    return program, port
