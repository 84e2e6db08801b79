"""No secret, prompt or completion is in anything the sidecar keeps, says or shows, however its calls end."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from metering.lab.programs import free_port
from metering.sidecar.keys import hash_secret, mint_secret
from tests.sidecar.hostile.canaries import (
    CANARY,
    PLANTED,
    PROMPT,
    QUERY,
    SECRETS,
    dump,
    find,
    read_files,
    requests,
    upstream,
)
from tests.sidecar.programs import fetch
from tests.sidecar.rig import Peer, Upstream, post, run

WAIT_SECONDS = 30
# All that Python itself would say.
DEBUG = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1", "PYTHONFAULTHANDLER": "1"}


class World:
    """A sidecar with its shipper, before three upstreams: one that answers, a dead port, one that speaks no TLS."""

    def __init__(self, folder: Path, upstream_port: int, secret: str) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.folder, self.log = folder, folder / "said.log"
        self.config = folder / "sidecar.toml"
        routes = {"/openai": f"http://127.0.0.1:{upstream_port}", "/dead": f"http://127.0.0.1:{free_port()}",
                  "/tls": f"https://127.0.0.1:{upstream_port}"}  # fmt: skip
        self.config.write_text(
            f'[sidecar]\nlisten = "127.0.0.1:{self.port}"\nadmin = "127.0.0.1:{self.admin_port}"\ndrain_seconds = 1\n'
            f'[[key]]\nid = "search"\nhash = "sha256:{hash_secret(secret.encode()).hex()}"\nteam = "search"\n'
            + "".join(
                f'[[route]]\npath = "{path}"\nupstream = "{url}"\nprovider = "openai"\n' for path, url in routes.items()
            )
        )

    @contextmanager
    def running(self, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "metering", "sidecar", "--config", str(self.config)]
        with self.log.open("ab") as out:
            child = subprocess.Popen(command, env=environ, stdout=out, stderr=out)
        try:
            until(self.is_ready)
            yield child
        finally:
            child.terminate()
            child.wait(WAIT_SECONDS)

    def is_ready(self) -> bool:
        try:
            return fetch(self.admin_port, "/readyz")[0] == 200
        except OSError:
            return False

    def show(self) -> bytes:
        """What the operator's listener shows, also to whoever asks oddly."""
        pages = ("/metrics", "/healthz", "/readyz", f"/{CANARY['path']}{QUERY}")
        return "".join(fetch(self.admin_port, page)[1] for page in pages).encode()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


async def ask(port: int, request: bytes, *, leaves: bool = False) -> bytes:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    try:
        await peer.send(request)
        if leaves:
            await asyncio.sleep(0.1)
            peer.reset()
            return b""
        return (await peer.read_rest())[0]
    except ConnectionError:
        return b""
    finally:
        peer.close()


async def call_in_every_way(world: World, child: subprocess.Popen[bytes], secret: str) -> list[bytes]:
    """The sidecar's own answers. A client leaves, and a worker dies with a call in flight, in between."""
    silent = post(f"/openai/v1/chat/completions{QUERY}", PROMPT, *SECRETS, "X-Answer: silent")
    answers = [await ask(world.port, request) for request in requests(secret)]
    await ask(world.port, silent, leaves=True)
    dying = asyncio.create_task(ask(world.port, silent))
    await asyncio.sleep(0.3)
    (worker,) = workers_of(child.pid)
    os.kill(worker, signal.SIGKILL)
    assert await dying == b""
    await asyncio.to_thread(until, lambda: workers_of(child.pid) not in ([], [worker]) and world.is_ready())
    answers += [await ask(world.port, request) for request in requests(secret)[:3]]
    return [answer for answer in answers if b"problem+json" in answer]


def rows(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT count(*) FROM usage_event").fetchone()
    assert found is not None
    return int(found[0])


def test_nothing_secret_is_kept_said_or_shown(state_dir: Path, database_url: str) -> None:
    secret = mint_secret("test")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    environ |= {"METERING_DATABASE_URL": database_url, "METERING_STATE_DIR": str(state_dir / "state"), **DEBUG}

    async def test() -> dict[str, bytes]:
        server = Upstream(upstream)
        await server.start()
        world = World(state_dir, server.port, secret)
        with world.running(environ) as child:
            own = await call_in_every_way(world, child, secret)
            shown, state = world.show(), read_files(state_dir / "state")
        await server.stop()
        kept = {"said": world.log.read_bytes(), "shown": shown, "own answers": b"".join(own)}
        return kept | {"ledger": dump(database_url), "state": state + read_files(state_dir / "state")}

    kept = run(test(), seconds=120)
    statuses = set(re.findall(rb"HTTP/1\.1 (\d+) ", kept["own answers"]))
    assert {b"400", b"401", b"404", b"417", b"431", b"502"} <= statuses
    for place, word in (("said", b"bad_answer"), ("said", b"dial_failed"), ("shown", b"metering_calls_total")):
        assert word in kept[place], place
    assert rows(database_url) >= 20
    words = [*CANARY.values(), secret, secret[-30:], "CANARY"]
    assert find(kept, words) == set()
    # A planted word, the model's name, is found wherever it is: in the spool's segments, in the ledger, in the metrics.
    assert find(kept, [PLANTED]) == {("ledger", PLANTED), ("state", PLANTED), ("shown", PLANTED)}
