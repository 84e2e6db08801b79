"""A kept connection closes just as a request is sent: again once, where it is certain that no model ran for it."""

import asyncio
from pathlib import Path

import pytest

from metering.core.event import Outcome
from metering.core.usage import UsageSource
from tests.sidecar.rig import ANSWER, CHAT, Peer, get, json_answer, post, relaying, run

ENDS = ("close", "reset")
ROUNDS = 20


def test_request_that_nobody_got_is_sent_again(tmp_path: Path) -> None:
    """The upstream ends the connection in the very turn in which the client sends."""
    received: list[int] = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            received.append(peer.number)
            await peer.send(json_answer())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            for _ in range(ROUNDS):
                await client.send(post())
                assert (await client.read_answer())[1] == ANSWER
                client.writer.write(post())
                rig.upstream.peers[-1].end_now()
                assert (await client.read_answer())[1] == ANSWER
            assert rig.relay.count().upstream_retries > 0
            assert len(received) == len(rig.records("O")) == len(rig.records()) == 2 * ROUNDS

    run(test())


@pytest.mark.parametrize("end", ENDS)
def test_post_that_somebody_read_is_not_sent_again(tmp_path: Path, end: str) -> None:
    """The model may have run, and a second time would cost as much again: the client decides."""
    received: list[int] = []

    async def script(peer: Peer) -> None:
        for number in range(2):
            await peer.read_request()
            received.append(peer.number)
            if peer.number == 0 and number == 1:
                getattr(peer, end)()
                return
            await peer.send(json_answer())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            await client.send(post())
            await client.read_answer()
            await client.send(post())
            assert (await client.read_answer())[0].startswith(b"HTTP/1.1 502 ")
            assert received == [0, 0]
            event = await rig.final(2)
            assert (event.outcome, event.usage_source) == (Outcome.FAILED, UsageSource.UNKNOWN)
            await client.send(post())
            assert (await client.read_answer())[1] == ANSWER
            assert rig.relay.count().upstream_retries == 0

    run(test())


@pytest.mark.parametrize("end", ENDS)
def test_get_is_sent_again_but_once(tmp_path: Path, end: str) -> None:
    received: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.read_request()
        received.append(peer.number)
        if peer.number == 0:
            await peer.send(json_answer())
            await peer.read_request()
            received.append(peer.number)
        getattr(peer, end)()

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            await client.send(get())
            await client.read_answer()
            await client.send(get())
            assert (await client.read_answer())[0].startswith(b"HTTP/1.1 502 ")
            assert received == [0, 0, 1]
            assert len(rig.records("O")) == len(rig.records()) == 2

    run(test())


def test_request_too_large_to_keep_does_not_go_where_the_end_has_come(tmp_path: Path) -> None:
    body = CHAT.replace(b"hi", b"hi" * 100_000)

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.send(json_answer())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            for _ in range(ROUNDS):
                await client.send(post())
                assert (await client.read_answer())[1] == ANSWER
                client.writer.write(post("/openai/v1/chat/completions", body))
                rig.upstream.peers[-1].end_now()
                assert (await client.read_answer())[1] == ANSWER
            assert len(rig.records()) == 2 * ROUNDS

    run(test())


def test_connection_with_an_early_answer_is_not_used_again(tmp_path: Path) -> None:
    """The request ends while its answer still comes; a server that does not want the rest closes after it."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        if peer.number == 0:
            await peer.send(json_answer()[:-9])
            await asyncio.sleep(0.05)
            await peer.send(json_answer()[-9:])
            await asyncio.sleep(0.05)
        else:
            await peer.reader.readexactly(len(CHAT))
            await peer.send(json_answer())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client, other = await rig.connect(), await rig.connect()
            await client.send(post()[:-9])
            await client.read_head()
            await client.send(post()[-9:])
            assert await client.reader.readexactly(len(ANSWER)) == ANSWER
            await other.send(post())
            assert (await other.read_answer())[1] == ANSWER
            assert len(rig.upstream.peers) == 2

    run(test())


@pytest.mark.parametrize("began", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 2"])
def test_connection_that_began_to_answer_is_not_retried(tmp_path: Path, began: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(json_answer())
        await peer.read_request()
        await peer.send(began)
        peer.close()

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            await client.send(post())
            await client.read_answer()
            await client.send(post())
            head = await client.read_head()
            if b" 100 " in head:
                head = await client.read_head()
            assert head.startswith(b"HTTP/1.1 502 ")
            assert len(rig.upstream.peers) == 1
            assert (await rig.final(2)).outcome is Outcome.FAILED

    run(test())


def test_fresh_connection_is_never_retried(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        peer.close()

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            await client.send(post())
            assert (await client.read_answer())[0].startswith(b"HTTP/1.1 502 ")
            assert len(rig.upstream.peers) == 1
            event = await rig.final()
            assert (event.outcome, event.usage_source, event.status) == (Outcome.FAILED, UsageSource.UNKNOWN, None)

    run(test())
