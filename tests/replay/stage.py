"""A replaying upstream and a relay before it, in a thread of their own; SDKs call both from the test's thread."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import uvloop

from metering.core.event import UsageEvent
from tests.replay.recorded import Recorded
from tests.sidecar.rig import Peer, chunk, read_records, relaying

PIECES_MAX = 12
SECONDS_MAX = 20


class Stage:
    """Where to call, and what the relay noted."""

    def __init__(self, upstream_port: int, port: int, spool_dir: Path) -> None:
        self._upstream_port, self._port, self._spool_dir = upstream_port, port, spool_dir

    def base(self, recorded: Recorded, *, direct: bool) -> str:
        """The URL that stands for the provider's host."""
        return f"http://127.0.0.1:{self._upstream_port if direct else self._port}{recorded.prefix}"

    def events(self) -> Mapping[str | None, list[UsageEvent]]:
        """All final events, by trace id. An SDK may return before the answer's last bytes, and with them the end of
        the call, have come: waits for the calls that are open.
        """
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            opened = {event.event_id for event in read_records(self._spool_dir, "O")}
            if opened <= {event.event_id for event in read_records(self._spool_dir)}:
                break
            time.sleep(0.05)
        events: dict[str | None, list[UsageEvent]] = {}
        for event in read_records(self._spool_dir):
            events.setdefault(event.trace_id, []).append(event)
        return events


@contextmanager
def open_stage(
    folder: Path,
    exchanges: Iterable[Recorded],
    *,
    route: str = "",
    written: Callable[[Recorded, bytes], bytes] = lambda recorded, _: recorded.recording.body,
) -> Iterator[Stage]:
    """Serve `exchanges`, each below its prefix; `route` is more TOML for every provider's route.

    `written` gives the body of an answer, from the exchange and the request's body.
    """
    by_prefix = {recorded.prefix: recorded for recorded in exchanges}
    providers = sorted({recorded.provider for recorded in by_prefix.values()})
    opened: list[Stage] = []
    ready = threading.Event()
    done = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def script(peer: Peer) -> None:
        while True:
            head, asked = await peer.read_request()
            method, target = head.split(b" ", 2)[:2]
            prefix = "/".join(target.decode().split("/", 3)[:3])
            recorded = by_prefix[prefix]
            await peer.send(*write_answer(recorded, written(recorded, asked), head_only=method == b"HEAD"))

    def routes(port: int) -> str:
        return "\n".join(
            f'[[route]]\npath = "/{name}"\nupstream = "http://127.0.0.1:{port}/{name}"\nprovider = "{name}"\n{route}'
            for name in providers
        )

    async def serve() -> None:
        async with relaying(folder, script, routes=routes, limit=2**20) as rig:
            loops.append(asyncio.get_running_loop())
            opened.append(Stage(rig.upstream.port, rig.port, rig.spool_dir))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: uvloop.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(SECONDS_MAX), "the stage did not open"
        yield opened[0]
    finally:
        for loop in loops:
            loop.call_soon_threadsafe(done.set)
        thread.join(SECONDS_MAX)
    assert not thread.is_alive(), "the stage did not close"


def write_answer(recorded: Recorded, body: bytes, *, head_only: bool = False) -> list[bytes]:
    """The answer in pieces: a stream in chunks cut anywhere, anything else with its length."""
    status, headers = recorded.head()
    framing = "Transfer-Encoding: chunked" if recorded.streamed else f"Content-Length: {len(body)}"
    lines = [f"HTTP/1.1 {status} Recorded", *(f"{name}: {value}" for name, value in headers), framing, "", ""]
    head = "\r\n".join(lines).encode("latin-1", "replace")
    if head_only or status in (204, 304):
        return [head]
    if not recorded.streamed:
        return [head + body]
    dice = random.Random(recorded.name)
    at = sorted(dice.sample(range(1, len(body)), min(PIECES_MAX, len(body) - 1))) if len(body) > 1 else []
    pieces = [chunk(body[a:b]) for a, b in pairwise([0, *at, len(body)]) if a < b]
    return [head, *pieces, b"0\r\n\r\n"]
