"""A stream that ends at every one of its bytes, by its client or by its upstream: one row each, and it is true."""

import asyncio
import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from metering.core.event import Outcome, UsageEvent
from metering.core.usage import UsageSource
from tests.sidecar.rig import CHAT, USAGE, Peer, Rig, chunk, post, relaying, run, until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
PIECES = [
    HEAD,
    *[chunk(WORD)] * 28,
    chunk(b'data: {"choices":[],' + USAGE + b"}\n\n"),
    chunk(b"data: [DONE]\n\n"),
    b"0\r\n\r\n",
]
WIRE = b"".join(PIECES)
TOLD = WIRE.index(USAGE) + len(USAGE)  # from here on the usage has been seen, though its event may lack its last bytes
EVENTS = [len(b"".join(PIECES[:number])) for number in range(len(PIECES))]
AT_ONCE = 250
CONFIG = "[limits]\nhalf_close_seconds = 0.05"


def ask(place: int) -> bytes:
    """A request that tells the upstream's script, and the row, where the stream ends."""
    return post("/openai/v1/chat/completions", CHAT, f"traceparent: 00-{place + 1:032x}-00f067aa0ba902b7-01")


async def read_place(peer: Peer) -> int:
    head, _ = await peer.read_request()
    found = re.search(rb"traceparent: 00-([0-9a-f]{32})-", head)
    assert found
    return int(found[1], 16) - 1


def rows_by_place(rig: Rig, places: Sequence[int]) -> dict[int, UsageEvent]:
    """The rows; exactly one, and one open record, for each place."""
    for kind in "OF":
        assert sorted(int(event.trace_id or "", 16) - 1 for event in rig.records(kind)) == sorted(places)
    return {int(event.trace_id or "", 16) - 1: event for event in rig.records()}


def check_usage(event: UsageEvent, place: int) -> None:
    """What was told up to there is on the row."""
    if place >= TOLD + len(b"}\n\n") or (place >= TOLD and event.usage):
        assert event.usage_source is UsageSource.REPORTED
        assert event.usage is not None
        assert (event.usage.input_tokens, event.usage.output_tokens) == (12, 5)
    else:
        assert (event.usage_source, event.usage) == (UsageSource.UNKNOWN, None)


@pytest.mark.parametrize("policy", ["drain", "cancel"])
@pytest.mark.parametrize("way", ["close", "reset"])
def test_client_leaves_at_every_byte(tmp_path: Path, policy: str, way: str) -> None:
    """It has read that many bytes; the rest comes when the sidecar knows that it has left."""
    arrived = 0
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal arrived
        place = await read_place(peer)
        sent = max(place, len(HEAD)) if place else 0  # a head is passed on whole
        await peer.send(WIRE[:sent])
        arrived += 1
        await gone.wait()
        with contextlib.suppress(ConnectionError):
            await peer.send(WIRE[sent:])
        peer.close()

    async def leave(rig: Rig, place: int) -> Peer:
        peer = await rig.connect()
        await peer.send(ask(place))
        assert await peer.reader.readexactly(place) == WIRE[:place]
        return peer

    async def leave_all(rig: Rig, places: range) -> None:
        gone.clear()
        peers = await asyncio.gather(*(leave(rig, place) for place in places))
        await until(lambda: arrived == places.stop)
        for peer in peers:
            getattr(peer, way)()
        await until(lambda: not rig.relay.count().client_connections)
        gone.set()
        await until(lambda: sum(count.calls for count in rig.relay.tally.call_counts) == places.stop)

    async def test() -> None:
        async with relaying(tmp_path, script, config=CONFIG, route=f'on_client_abort = "{policy}"') as rig:
            for first in range(0, len(WIRE), AT_ONCE):
                await leave_all(rig, range(first, min(first + AT_ONCE, len(WIRE))))
            rows = rows_by_place(rig, range(len(WIRE)))
            assert {event.outcome for event in rows.values()} == {Outcome.ABORTED}
            for place, event in rows.items():
                check_usage(event, len(WIRE) if policy == "drain" else place)

    run(test(), 120)


@pytest.mark.parametrize(
    ("way", "places"), [("close", range(len(WIRE))), ("reset", range(len(WIRE))), ("hang", EVENTS)]
)
def test_upstream_ends_early(tmp_path: Path, way: str, places: Sequence[int]) -> None:
    async def script(peer: Peer) -> None:
        place = await read_place(peer)
        await peer.send(WIRE[:place])
        if way == "hang":
            await asyncio.sleep(60)
        getattr(peer, way)()

    async def hear(rig: Rig, place: int) -> None:
        peer = await rig.connect()
        await peer.send(ask(place))
        if place < len(HEAD):
            status = b"504" if way == "hang" else b"502"
            assert (await peer.read_answer())[0].startswith(b"HTTP/1.1 " + status)
        else:
            assert await peer.read_rest() == (WIRE[:place], "eof" if way == "close" else "reset")
        peer.close()

    async def test() -> None:
        config = "[limits]\nsilence_seconds = 0.5" if way == "hang" else ""
        async with relaying(tmp_path, script, config=config) as rig:
            for first in range(0, len(places), AT_ONCE):
                await asyncio.gather(*(hear(rig, place) for place in places[first : first + AT_ONCE]))
            for place, event in rows_by_place(rig, places).items():
                assert event.outcome is Outcome.FAILED
                assert event.status == (200 if place >= len(HEAD) else None)
                check_usage(event, place)

    run(test(), 120)
