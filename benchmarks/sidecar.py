"""What the sidecar costs beside nginx and a direct connection: CPU a call, throughput, latency, memory.

    python -m benchmarks.sidecar --output json|table [--quick]

nginx (`proxy_pass`, buffering off, no log) counts nothing and is the floor; it is left out where it isn't installed.
The sidecar's worker runs with metering and its spool on (supervisor and shipper are other processes, off the path).
Rounds are interleaved and figures are medians. With two cores or more the proxy has one to itself.

Neither end is the bottleneck of the CPU figures: those are the proxy process's own user + system time by the calls
it served, whatever the ends cost. Whether they limit throughput, `busy` says: the share of the time in which the
proxy was on its core. Below 0.9 its calls_per_second is a lower bound, and `direct` shows what both ends can do.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection, socket

CASES = [("json", 1), ("json", 32), ("json", 128), ("traced", 32), ("stream", 32)]
PATH = "/openai/v1/chat/completions"
NGINX_CONFIG = """
master_process off; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port}; location /openai/ {{
    proxy_pass http://up/; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}
"""
SIDECAR_CONFIG = """
[sidecar]
listen = "127.0.0.1:{port}"
[[route]]
path = "/openai"
upstream = "http://127.0.0.1:{upstream}"
provider = "openai"
labels = {{ team = "search" }}
"""
Figures = dict[str, float]


class Peer:
    """A server under load; `process` is None for the direct connection."""

    def __init__(self, port: int, process: subprocess.Popen[bytes] | None) -> None:
        self.port, self.process = port, process

    def cpu_seconds(self) -> float:
        """User + system time so far."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Resident memory now."""
        if self.process is None:
            return 0.0
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port() -> int:
    """A port nobody listens on now."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(command: list[str], port: int, cores: set[int]) -> subprocess.Popen[bytes]:
    """Start a server pinned to `cores` and wait until it listens."""
    process = subprocess.Popen(
        command,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509
    )
    for _ in range(200):
        with suppress(OSError), create_connection(("127.0.0.1", port)):
            return process
        time.sleep(0.05)
    process.kill()
    raise SystemExit(f"{command[0]} does not listen on port {port}: run it by hand to see why")


@contextmanager
def peers(folder: Path, proxy_cores: set[int], end_cores: set[int]) -> Iterator[dict[str, Peer]]:
    """The upstream, and what stands before it."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        upstream = free_port()
        running.append(
            start([sys.executable, "-m", "benchmarks.sidecar_load", "upstream", str(upstream)], upstream, end_cores)
        )
        found = {"direct": Peer(upstream, None)}
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        commands = {
            "sidecar": [sys.executable, "-m", "metering.sidecar.worker", "--state-dir", str(folder), "--config"]
        }
        if nginx:
            commands = {"nginx": [nginx, "-p", str(folder), "-c"]} | commands
        for name, command in commands.items():
            port = free_port()
            config = folder / f"{name}.conf"
            template = NGINX_CONFIG if name == "nginx" else SIDECAR_CONFIG
            config.write_text(template.format(folder=folder, port=port, upstream=upstream), encoding="utf-8")
            running.append(start([*command, str(config)], port, proxy_cores))
            found[name] = Peer(port, running[-1])
        yield found
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


def run_once(peer: Peer, case: str, connections: int, seconds: float, cores: set[int]) -> Figures:
    """One round of load on one peer."""
    path = PATH if peer.process else PATH.removeprefix("/openai")
    command = [sys.executable, "-m", "benchmarks.sidecar_load", "load", str(peer.port), path, case]
    used, begun = peer.cpu_seconds(), time.monotonic()
    output = subprocess.run(
        [*command, str(connections), str(seconds)], check=True, stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    ).stdout  # fmt: skip
    used, took = peer.cpu_seconds() - used, time.monotonic() - begun
    said: Figures = json.loads(output)
    if said["failed"]:
        raise SystemExit(f"{said['failed']:.0f} calls failed in case {case}: the figures would mean nothing")
    return {
        "cpu_us": used / said["calls"] * 1e6,
        "calls_per_second": said["calls"] / seconds,
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
        "busy": min(1.0, used / min(seconds, took)),
        "rss_mb": peer.rss_mb(),
    }


def measure(*, quick: bool) -> dict[str, dict[str, Figures]]:
    """Case → peer → figures."""
    rounds, seconds = (3, 1.0) if quick else (7, 3.0)
    cases = [case for case in CASES if case[1] == 32] if quick else CASES
    cores = sorted(os.sched_getaffinity(0))
    proxy_cores, end_cores = ({cores[0]}, set(cores[1:])) if len(cores) > 1 else (set(cores), set(cores))
    figures: dict[str, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory() as folder, peers(Path(folder), proxy_cores, end_cores) as found:
        for case, connections in cases:
            runs: dict[str, list[Figures]] = {name: [] for name in found}
            for _ in range(rounds):
                for name, peer in found.items():
                    runs[name].append(run_once(peer, case, connections, seconds, end_cores))
            figures[f"{case}_c{connections}"] = {
                name: {key: round(statistics.median(run[key] for run in many), 2) for key in many[0]}
                for name, many in runs.items()
            }
    return figures


def compare(figures: dict[str, dict[str, Figures]]) -> Figures:
    """The sidecar's figures by nginx's; nothing without nginx."""
    ratios = {}
    for case, by_peer in figures.items():
        if "nginx" in by_peer:
            name = "stream_cpu" if case == "stream_c32" else f"{case}_cpu"
            ratios[name] = round(by_peer["sidecar"]["cpu_us"] / by_peer["nginx"]["cpu_us"], 2)
    return ratios


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help="32 connections only; under 50 s")
    arguments = parser.parse_args()
    figures = measure(quick=arguments.quick)
    ratios = compare(figures)
    if arguments.output == "json":
        print(json.dumps({"ratios_to_nginx": ratios, "cases": figures}, indent=2))
        return
    print(f"{'case':12} {'peer':8} " + " ".join(f"{key:>16}" for key in next(iter(figures.values()))["direct"]))
    for case, by_peer in figures.items():
        for name, row in by_peer.items():
            print(f"{case:12} {name:8} " + " ".join(f"{value:>16,.2f}" for value in row.values()))
    for name, ratio in ratios.items():
        print(f"{name:20} {ratio:.2f} × nginx")


if __name__ == "__main__":
    main()
