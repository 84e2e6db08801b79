"""Decoding bombs: the client gets them as they are, the sidecar stays small, the row says what is not known."""

import asyncio
from pathlib import Path

from metering.core.event import UsageEvent
from metering.core.usage import UsageSource
from tests.sidecar.hostile.bombs import MIB, Bomb, make_bombs
from tests.sidecar.programs import running
from tests.sidecar.rig import Peer, Upstream, post, read_records, run, until

GAINED_MB_MAX = 32
AT_ONCE = 3


def memory(pid: int, field: str) -> float:
    """A figure of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise AssertionError(field)


def begin_peak(pid: int) -> None:
    """From here on VmHWM is the peak of what comes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def fetch(port: int, number: int) -> bytes:
    """The answer's body to the call for bomb `number`."""
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    await peer.send(post("/openai/v1/chat/completions", b'{"model":"bomb"}', f"X-Bomb: {number}", "Connection: close"))
    data, _ = await peer.read_rest()
    peer.close()
    return data.partition(b"\r\n\r\n")[2]


def test_bombs_cost_little_and_arrive_whole(tmp_path: Path) -> None:
    bombs = make_bombs()
    assert sum(bomb.ratio > 900 for bomb in bombs) >= 9

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.read_request()
            bomb = bombs[int(head.partition(b"X-Bomb: ")[2].partition(b"\r")[0])]
            await serve_one(peer, bomb)

    async def test() -> None:
        upstream = Upstream(script)
        await upstream.start()
        try:
            await drop(upstream.port)
        finally:
            await upstream.stop()

    async def drop(upstream_port: int) -> None:
        with running(tmp_path, upstream_port, '[estimate]\nenabled = "off"') as (sidecar, port, _):
            (worker,) = sidecar.workers()
            await fetch(port, len(bombs) - 1)
            begin_peak(worker)
            before = memory(worker, "VmRSS")
            for number, bomb in enumerate(bombs):
                bodies = await asyncio.gather(*[fetch(port, number) for _ in range(AT_ONCE)])
                assert bodies == [bomb.body] * AT_ONCE, bomb.name
                gained = memory(worker, "VmHWM") - before
                assert gained < GAINED_MB_MAX, f"{bomb.name} ({bomb.ratio:.0f}:1): {gained:.1f} MB"
            check_rows(bombs, read_records(tmp_path / "state" / "spool" / "worker-0"))
            await until(lambda: memory(worker, "VmRSS") - before < GAINED_MB_MAX)

    run(test(), seconds=60)


def check_rows(bombs: list[Bomb], rows: list[UsageEvent]) -> None:
    """One row a call; usage where it could be read, unknown where not."""
    assert len(rows) == 1 + AT_ONCE * len(bombs)
    for number, bomb in enumerate(bombs):
        for row in rows[1 + AT_ONCE * number : 1 + AT_ONCE * (number + 1)]:
            expected = UsageSource.REPORTED if bomb.reported else UsageSource.UNKNOWN
            assert (row.status, row.usage_source) == (200, expected), bomb.name


async def serve_one(peer: Peer, bomb: Bomb) -> None:
    """Answer with a bomb, in pieces as a network has them."""
    await peer.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
        % (bomb.encoding.encode(), len(bomb.body)),
        *[bomb.body[at : at + MIB // 8] for at in range(0, len(bomb.body), MIB // 8)],
    )
