"""A running emulator, and sidecars in front of it, as the processes a user starts."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import msgspec
import pytest

from metering.lab.programs import command, free_port, is_free, start_emulator
from metering.sidecar.keys import hash_secret, mint_secret

WAIT_SECONDS = 60
SECRET = mint_secret("test")
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


class Sidecar(msgspec.Struct, kw_only=True):
    """A running sidecar with a route /openai to the emulator and a key whose secret is `SECRET`."""

    child: subprocess.Popen[bytes]
    port: int
    admin_port: int
    config: Path
    spool_dir: Path
    log: Path
    client: httpx.Client

    def call(self, body: object = None, *, secret: str | None = SECRET) -> httpx.Response:
        """Send one call; `body` is JSON to be encoded, or bytes as they are."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body or CHAT)
        headers = {"content-type": "application/json"} | ({"x-metering-key": secret} if secret else {})
        return self.client.post(
            f"http://127.0.0.1:{self.port}/openai/v1/chat/completions", content=content, headers=headers
        )

    def counter(self, name: str) -> float:
        """A counter on the operator's page."""
        page = self.client.get(f"http://127.0.0.1:{self.admin_port}/metrics").text
        return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))

    def said(self) -> str:
        """Its log."""
        return self.log.read_text()

    def wait_until(self, holds: Callable[[], object], *, what: str) -> None:
        """Return when `holds()`; fail with its log if that takes too long."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert self.child.poll() is None, self.said()
            assert time.monotonic() < deadline, f"never {what}: {self.said()}"
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.child.terminate()
        return self.child.wait(WAIT_SECONDS)


StartSidecar = Callable[..., Sidecar]


@pytest.fixture(scope="module")
def emulator_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    program, port = start_emulator(environ, tmp_path_factory.mktemp("emulator"))
    yield port
    program.stop()


@pytest.fixture
def start_sidecar(tmp_path: Path, emulator_port: int, command_environ: dict[str, str]) -> Iterator[StartSidecar]:
    """`start(environ, spool=lines, prefix=words)` starts one; all are stopped at the end."""
    started: list[Sidecar] = []

    def start(environ: dict[str, str] | None = None, spool: str = "", prefix: Sequence[str] = ()) -> Sidecar:
        port, admin_port = free_port(), free_port()
        spool_dir, config = tmp_path / "spool", tmp_path / "sidecar.toml"
        spool_dir.mkdir(exist_ok=True)
        config.write_text(
            f"""
[sidecar]
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin_port}"
drain_seconds = 2
[spool]
dir = "{spool_dir}"
{spool}
[[route]]
path = "/openai"
upstream = "http://127.0.0.1:{emulator_port}"
provider = "openai"
[[key]]
id = "search"
hash = "sha256:{hash_secret(SECRET.encode()).hex()}"
team = "search"
"""
        )
        words = [*prefix, *command(["sidecar", "--config", str(config)])]
        log = tmp_path / "sidecar.log"
        with log.open("ab") as out:
            child = subprocess.Popen(words, env=command_environ | (environ or {}), stdout=out, stderr=out)
        sidecar = Sidecar(
            child=child,
            port=port,
            admin_port=admin_port,
            config=config,
            spool_dir=spool_dir,
            log=log,
            client=httpx.Client(trust_env=False, timeout=30),
        )
        started.append(sidecar)
        sidecar.wait_until(lambda: not is_free(port), what="listening")
        return sidecar

    yield start
    for sidecar in started:
        sidecar.client.close()
        if sidecar.child.poll() is None:
            sidecar.stop()
