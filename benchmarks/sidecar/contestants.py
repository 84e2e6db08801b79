"""What is measured: programs between the load and the upstream, started afresh for each case."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection

import msgspec

from benchmarks.sidecar.gauge import command_line, family
from metering.lab.programs import free_port, parent_option
from metering.sidecar.ship.status import read_status

START_SECONDS = 60.0
STOP_SECONDS = 10.0
NGINX_CONFIG = """
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log error;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; client_max_body_size 0; tcp_nodelay on;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=2048 reuseport; location /openai/ {{
    proxy_pass {scheme}://up/; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_buffering off; proxy_request_buffering off; {trust} }} }}
}}
"""
NGINX_TRUST = """
    proxy_ssl_trusted_certificate {certificate}; proxy_ssl_verify on; proxy_ssl_name localhost;
    proxy_ssl_server_name on; proxy_ssl_session_reuse on;
"""
SIDECAR_CONFIG = """
[sidecar]
listen = "127.0.0.1:{port}"
admin = "off"
workers = {workers}
drain_seconds = 0.2
[spool]
durability = "{durability}"
[[route]]
path = "/openai"
upstream = "{scheme}://localhost:{upstream}"
provider = "openai"
labels = {{ team = "search" }}
{trust}
"""


class CaseFailed(Exception):
    """Somebody does not start, or a call failed: the case has no figures."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where contestants run: a folder, the upstream, the cores of the proxies and those of both ends."""

    folder: Path
    upstream: int  # its port
    certificate: Path | None  # of the upstream, if it speaks TLS
    workers: int
    proxy_cores: frozenset[int]
    end_cores: frozenset[int]


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """A running one: where to ask, and whose CPU counts."""

    port: int
    path: str = "/openai/v1/chat/completions"
    model: str = "gpt-4o-mini"
    headers: dict[str, str] = {}
    pids: dict[str, list[int]] = {}  # role → processes; `proxy` is on the path, others are told apart
    spool: Path | None = None  # where it keeps its counts


@contextmanager
def running(
    command: Sequence[str],
    cores: frozenset[int],
    log: Path,
    *,
    port: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """A program on some cores, from when it listens on `port`: its process id."""
    with log.open("ab") as out:
        program = subprocess.Popen(
            pinned(command, cores), stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environ,
            start_new_session=True,
        )  # fmt: skip
    try:
        if port is not None:
            wait_for_port(program, port, log)
        yield program.pid
    finally:
        program.terminate()
        try:
            program.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()


def pinned(command: Sequence[str], cores: frozenset[int]) -> list[str]:
    """The command line of a program that is to stay on some cores."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


def wait_for_port(program: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return when it listens; `CaseFailed` with its last words if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while program.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise CaseFailed(f"{program.args!r} does not listen on port {port}: {log.read_text(errors='replace')[-500:]}")


def find_nginx() -> str | None:
    """Debian keeps it where users do not look."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def nginx(site: Site) -> Iterator[Contestant]:
    """The floor: passes bytes on and counts nothing."""
    folder, port = site.folder / "nginx", free_port()
    folder.mkdir()
    trust = NGINX_TRUST.format(certificate=site.certificate) if site.certificate else ""
    config = folder / "nginx.conf"
    scheme = "https" if site.certificate else "http"
    config.write_text(
        NGINX_CONFIG.format(
            folder=folder, port=port, upstream=site.upstream, scheme=scheme, trust=trust, workers=site.workers
        ),
        encoding="utf-8",
    )
    command = [find_nginx() or "nginx", "-p", str(folder), "-c", str(config)]
    with running(command, site.proxy_cores, folder / "out.log", port=port) as pid:
        yield Contestant(port=port, pids={"proxy": [child for child in family(pid) if child != pid]})


@contextmanager
def sidecar(site: Site, durability: str = "process", *, ships: bool = False) -> Iterator[Contestant]:
    """Ours, as it is run: supervisor, workers, every call in the durable spool; and the shipper if it `ships`."""
    folder, port = site.folder / f"sidecar-{durability}-{ships}", free_port()
    folder.mkdir()
    config = folder / "sidecar.toml"
    config.write_text(
        SIDECAR_CONFIG.format(
            port=port,
            workers=site.workers,
            durability=durability,
            upstream=site.upstream,
            scheme="https" if site.certificate else "http",
            trust=f'ca_file = "{site.certificate}"' if site.certificate else "",
        ),
        encoding="utf-8",
    )
    # As it is installed: nothing of ours in the settings, and bytecode kept (to compile all anew costs 3 MB).
    left_out = ("METERING_", "PYTHONDONTWRITEBYTECODE")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environ["METERING_STATE_DIR"] = str(folder)
    ship = "--ship" if ships else "--no-ship"
    command = [sys.executable, "-m", "metering", "sidecar", "--config", str(config), ship, *parent_option()]
    with running(command, site.proxy_cores, folder / "out.log", port=port, environ=environ) as pid:
        workers = _workers(pid, site.workers)
        pids = {"proxy": workers, "supervisor": [pid]}
        if ships:
            pids["shipper"] = _shipper(pid, {pid, *workers}, folder / "spool", site)
        yield Contestant(port=port, pids=pids, spool=None if ships else folder / "spool")
    shutil.rmtree(folder)  # thousands of calls a second leave gigabytes of counts


def _workers(supervisor: int, count: int) -> list[int]:
    """The worker processes, once all are there (the port is the supervisor's, and listens before them)."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = [pid for pid in family(supervisor) if "metering.sidecar.worker" in command_line(pid)]
        if len(found) == count:
            return found
        time.sleep(0.05)
    raise CaseFailed("the sidecar's workers do not start")


def _shipper(supervisor: int, others: set[int], spool: Path, site: Site) -> list[int]:
    """The shipper and its Postgres, once it has looked at the spool; moved to the cores of the ends."""
    deadline = time.monotonic() + START_SECONDS
    while read_status(spool / "worker-0") is None:
        if time.monotonic() > deadline:
            raise CaseFailed("the shipper does not start")
        time.sleep(0.1)
    found = [pid for pid in family(supervisor) if pid not in others]
    for pid in found:
        os.sched_setaffinity(pid, site.end_cores)
    return found
