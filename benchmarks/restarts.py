"""Restart a sidecar under load, again and again: no call may fail, every call has exactly one row.

    python -m benchmarks.restarts --count 100 --output json [--quick]

Three kinds, `--count` of each: `workers` (SIGHUP: all workers replaced), `config` (SIGHUP with another file, by turns
right and wrong) and `program` (SIGUSR2: the whole sidecar replaced by a new start of the installed version, on the
same sockets). Meanwhile clients call over kept and over new connections, and stream; nothing is sent twice. At the end
SIGTERM, while streams are running. Rows are the final records in the spools; `received` is what the model server got.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.restart_load import Traffic, read_rows

KINDS = ("workers", "config", "program")
CLIENTS = {"kept": 6, "pausing": 6, "fresh": 4, "streams": 8}
WAIT_SECONDS = 60.0
ROUTE = '[[route]]\npath = "/openai"\nupstream = "http://127.0.0.1:{port}"\nprovider = "openai"\n'
# What ends each kind of restart in the log.
HAPPENINGS = {
    "workers": ("config_in_force",),
    "config": ("config_in_force", "config_refused"),
    "program": ("sidecar_serving",),
}


class Sidecar:
    """A running `metering sidecar` and what it says."""

    def __init__(self, folder: Path, upstream_port: int, workers: int) -> None:
        self.spool_dir = folder / "spool"
        self._config = folder / "sidecar.toml"
        self._state_dir = folder / "state"
        self._upstream_port, self._workers = upstream_port, workers
        self.said: list[str] = []

    async def start(self) -> int:
        """Its port, once it serves."""
        self.write_config("0")
        self.program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "metering", "sidecar", "--config", str(self._config), "--no-ship",
            env={"METERING_STATE_DIR": str(self._state_dir), "PATH": "/usr/bin:/bin"}, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        port = (await self.wait_for("sidecar_started"))["port"]
        await self.wait_for("sidecar_serving")
        return int(port)

    def write_config(self, run: str, *, broken: bool = False) -> None:
        """Another file, right or wrong."""
        text = f'[sidecar]\nlisten = "127.0.0.1:0"\nadmin = "off"\nworkers = {self._workers}\n[spool]\n'
        text += f'dir = "{self.spool_dir}"\n{ROUTE.format(port=self._upstream_port)}labels = {{ run = "{run}" }}\n'
        self._config.write_text(text + ("nonsense = 1\n" if broken else ""), encoding="utf-8")

    async def wait_for(self, *happenings: str) -> dict[str, Any]:
        """The next line of one of these kinds."""
        assert self.program.stderr is not None
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while line := await self.program.stderr.readline():
                    self.said.append(line.decode())
                    if line.startswith(b"{") and (found := json.loads(line))["happening"] in happenings:
                        return dict(found)
        except TimeoutError:
            pass
        raise SystemExit(f"the sidecar did not say {happenings}, but:\n{''.join(self.said[-20:])}")

    async def restart(self, kind: str, number: int) -> None:
        """One restart of a kind; returns when it is done."""
        if kind == "config":
            self.write_config(str(number), broken=number % 2 == 1)
        self.program.send_signal(signal.SIGUSR2 if kind == "program" else signal.SIGHUP)
        await self.wait_for(*HAPPENINGS[kind])

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.program.terminate()
        _, said = await self.program.communicate()
        self.said += said.decode().splitlines(keepends=True)
        return self.program.returncode or 0


async def run(folder: Path, counts: dict[str, int], seed: int, workers: int = 2) -> dict[str, Any]:
    """Restart so many times of each kind under load; what came of the calls."""
    dice = random.Random(seed)
    traffic = Traffic(seed)
    server = await asyncio.start_server(traffic.answer, "127.0.0.1", 0)
    sidecar = Sidecar(folder, server.sockets[0].getsockname()[1], workers)
    port = await sidecar.start()
    calling = asyncio.create_task(traffic.run(port, **CLIENTS))
    begun, figures = time.monotonic(), {}
    try:
        for kind, count in counts.items():
            before, failed, since = traffic.calls.total(), len(traffic.failures), time.monotonic()
            for number in range(count):
                await sidecar.restart(kind, number)
                await asyncio.sleep(dice.uniform(0, 0.2))
            sidecar.write_config("0")
            figures[kind] = {
                "restarts": count,
                "calls": traffic.calls.total() - before,
                "failed": len(traffic.failures) - failed,
                "seconds": round(time.monotonic() - since, 1),
            }
    except BaseException:
        sidecar.program.kill()  # its workers see that and drain
        raise
    traffic.stopping = True
    await asyncio.sleep(0.1)  # the last streams are under way
    code = await sidecar.stop()
    await calling
    server.close()
    rows = read_rows(sidecar.spool_dir)
    return {
        "seed": seed,
        "kinds": figures,
        "calls": traffic.calls.total(),
        "calls_by_client": dict(traffic.calls),
        "failed": len(traffic.failures),
        "failures": traffic.failures[:10],
        "received": traffic.received.total(),
        "rows": rows.total(),
        "every_call_one_row": rows == Counter(traffic.trace_ids),
        "exit_code": code,
        "seconds": round(time.monotonic() - begun, 1),
    }


def show(found: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"{'kind':<10}{'restarts':>10}{'calls':>10}{'failed':>8}{'seconds':>9}"]
    lines += [
        f"{kind:<10}{row['restarts']:>10}{row['calls']:>10}{row['failed']:>8}{row['seconds']:>9}"
        for kind, row in found["kinds"].items()
    ]
    clients = ", ".join(f"{count} {kind}" for kind, count in found["calls_by_client"].items())
    lines += [
        f"calls {found['calls']} ({clients}), failed {found['failed']}, received {found['received']}",
        f"rows {found['rows']}, every call exactly one: {found['every_call_one_row']}, exit code {found['exit_code']}",
    ]
    return "\n".join([*lines, *found["failures"]])


def main() -> int:
    """Run it; 0 if no call failed and every call has its row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restarts", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", choices=("json", "table"), default="table")
    parser.add_argument("--count", type=int, default=100, help="restarts of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="three of each kind")
    options = parser.parse_args()
    count = 3 if options.quick else options.count
    with tempfile.TemporaryDirectory(prefix="metering-restarts-") as folder:
        found = asyncio.run(run(Path(folder), dict.fromkeys(KINDS, count), options.seed, options.workers))
    print(json.dumps(found, indent=2) if options.output == "json" else show(found))
    return 0 if found["failed"] == 0 and found["every_call_one_row"] and found["exit_code"] == 0 else 5


if __name__ == "__main__":
    sys.exit(main())
