"""A program started by the lab ends with it, even when the lab is killed and can stop nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LAB = """
import os, sys, time
from pathlib import Path
from metering.lab.programs import start_emulator
program, _ = start_emulator(os.environ, Path(sys.argv[1]))
print(program.pid, flush=True)
time.sleep(600)
"""
WAIT_SECONDS = 60


def test_an_emulator_ends_when_the_lab_is_killed(tmp_path: Path, command_environ: dict[str, str]) -> None:
    words = [sys.executable, "-c", LAB, str(tmp_path)]
    with subprocess.Popen(words, env=command_environ, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout is not None
        emulator = int(lab.stdout.readline())
        lab.kill()
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        while _is_alive(emulator):
            assert time.monotonic() < deadline, "the emulator runs on without anybody to stop it"
            time.sleep(0.05)
    finally:
        if _is_alive(emulator):
            os.kill(emulator, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    """Whether it runs; one that ended and was not asked for by its new parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
