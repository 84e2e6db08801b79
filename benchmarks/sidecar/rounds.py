"""Runs the cases: for each, everything is started afresh, and the contestants take turns."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.sidecar.case import QUIET, Case
from benchmarks.sidecar.contestants import CaseFailed, Contestant, Site, nginx, pinned, running, sidecar
from benchmarks.sidecar.figures import Figures, read_figures
from benchmarks.sidecar.order import Order, Told
from benchmarks.sidecar.peers import peer
from metering.lab.programs import ask_command, free_port

WARM_SECONDS = 0.3
PEER_WARM_SECONDS = 2.0  # theirs compile and open connections for longer


class Machine:
    """Which cores the proxies get, and which the ends; the peers that are there."""

    def __init__(self, peers: dict[str, Path]) -> None:
        self.cores = sorted(os.sched_getaffinity(0))
        self.peers = peers

    def split(self, workers: int) -> tuple[frozenset[int], frozenset[int]]:
        """A core for each worker, the others for the ends; all for all where there are too few."""
        everything = frozenset(self.cores)
        if len(self.cores) <= workers:
            return everything, everything
        return frozenset(self.cores[:workers]), frozenset(self.cores[workers:])


def run_case(
    machine: Machine, case: Case, names: Sequence[str], rounds: int, seconds: float
) -> dict[str, list[Figures]]:
    """Contestant → its rounds."""
    found: dict[str, list[Figures]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)  # nginx' workers are another user
        site, upstream_pid = stack.enter_context(_open_site(machine, case, Path(folder)))
        contestants = {name: stack.enter_context(_open(name, machine, site)) for name in names}
        answered = dict.fromkeys(names, 0)
        for name, contestant in contestants.items():
            warm_seconds = PEER_WARM_SECONDS if name in machine.peers else WARM_SECONDS
            answered[name] += _load(case, site, contestant, upstream_pid, WARM_SECONDS, warm_seconds).answered
        for number in range(case.rounds or rounds):
            turn = list(names[number % len(names) :]) + list(names[: number % len(names)])
            for name in turn:  # nobody always runs after the same other
                told = _load(case, site, contestants[name], upstream_pid, case.warm_seconds or WARM_SECONDS, seconds)
                if told.failed or not (told.calls or told.chunks):
                    raise CaseFailed(f"{told.failed} calls failed on {name}: figures would mean nothing")
                answered[name] += told.answered
                found[name].append(read_figures(told, case.due_per_second))
        for name, contestant in contestants.items():
            if contestant.spool and (recorded := _count_recorded(contestant.spool)) < answered[name]:
                raise CaseFailed(f"{answered[name]} calls were answered, but {name} recorded {recorded}")
    return found


@contextmanager
def _open_site(machine: Machine, case: Case, folder: Path) -> Iterator[tuple[Site, int]]:
    proxy_cores, end_cores = machine.split(case.workers)
    certificate = _make_certificate(folder) if case.tls else None
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.sidecar.upstream", str(port)]
    if certificate:
        command += [str(certificate), str(folder / "key.pem")]
    with running(command, end_cores, folder / "upstream.log", port=port) as pid:
        site = Site(
            folder=folder,
            upstream=port,
            certificate=certificate,
            workers=case.workers,
            proxy_cores=proxy_cores,
            end_cores=end_cores,
        )
        yield site, pid


def _open(name: str, machine: Machine, site: Site) -> AbstractContextManager[Contestant]:
    if name in machine.peers:
        return peer(name, machine.peers[name], site)
    known: dict[str, Callable[[Site], AbstractContextManager[Contestant]]] = {
        "direct": lambda _: nullcontext(Contestant(port=site.upstream, path="/v1/chat/completions")),
        "nginx": nginx,
        "sidecar": sidecar,
        "power": partial(sidecar, durability="power"),
        "shipping": partial(sidecar, ships=True),
    }
    return known[name](site)


def _load(
    case: Case, site: Site, contestant: Contestant, upstream_pid: int, warm_seconds: float, seconds: float
) -> Told:
    order = Order(
        port=contestant.port,
        path=contestant.path,
        model=contestant.model,
        headers=contestant.headers,
        kind=case.kind,
        connections=case.connections,
        pace=case.pace,
        prompt_bytes=case.prompt_bytes,
        beside=case.beside,
        beside_pace=QUIET,
        warm_seconds=warm_seconds,
        seconds=seconds,
        pids=contestant.pids | {"upstream": [upstream_pid]},
    )
    command = [sys.executable, "-m", "benchmarks.sidecar.load", msgspec.json.encode(order).decode()]
    done = subprocess.run(pinned(command, site.end_cores), capture_output=True, text=True, check=False)
    if done.returncode:
        raise CaseFailed(f"the load on port {contestant.port} ended: {done.stderr[-300:]}")
    return msgspec.json.decode(done.stdout, type=Told)


def _count_recorded(spool: Path) -> int:
    """Calls with a final record. A few more than were answered to the end: each load hangs up on its last ones."""
    reports = ask_command(["spool", "inspect", str(spool)], os.environ)
    return sum(segment["finals"] for report in reports for segment in report["segments"])


def _make_certificate(folder: Path) -> Path:
    """A certificate of the upstream's own, for this case only."""
    made = folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made
