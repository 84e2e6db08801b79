"""What programs use: CPU from the kernel's own clock of a process, memory from /proc."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def cpu_ns(pids: Iterable[int]) -> dict[int, int]:
    """User + system time of each process so far, threads that have ended included; without those that are gone.

    Not from /proc/PID/stat, which counts in 10 ms: a process has a clock in ns (clock_getcpuclockid(3)).
    """
    found = {}
    for pid in pids:
        with suppress(OSError):
            found[pid] = time.clock_gettime_ns(~pid << 3 | 2)
    return found


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident and proportional set size."""
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0])
    return fields["Rss"] / 1024, fields["Pss"] / 1024


def family(pid: int) -> list[int]:
    """A process and all that came from it."""
    found = [pid]
    with suppress(FileNotFoundError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                found += family(int(child))
    return found


def command_line(pid: int) -> str:
    """As it was started; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except FileNotFoundError:
        return ""
