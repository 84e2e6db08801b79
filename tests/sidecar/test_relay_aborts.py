"""Clients that leave, upstreams that lag, readers that dawdle: one row each, bounded memory, nothing left open."""

import asyncio
import contextlib
import resource
from pathlib import Path

import pytest

from metering.core.event import Outcome
from metering.core.usage import UsageSource
from tests.sidecar.rig import ANSWER, Peer, json_answer, post, relaying, run, serve, stream_answer, until

STREAM = stream_answer(b"one", b"two", b"three", b"four")


@pytest.mark.parametrize("policy", ["cancel", "drain"])
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_client_leaves_during_a_stream(tmp_path: Path, policy: str, resets: bool, after: int) -> None:
    """It leaves after that many pieces; the upstream goes on only when the call is over or drained."""
    ends: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(*STREAM[:after])
        left.set()
        await gone.wait()
        with contextlib.suppress(ConnectionError):
            await peer.send(*STREAM[after:], pause=0.01)
        ends.append((await peer.read_rest())[1])

    async def test() -> None:
        async with relaying(
            tmp_path, script, config="[limits]\nhalf_close_seconds = 0.05", route=f'on_client_abort = "{policy}"'
        ) as rig:
            peer = await rig.connect()
            await peer.send(post())
            await left.wait()
            if after:
                await peer.reader.readuntil(STREAM[after - 1][-9:])
            (peer.reset if resets else peer.close)()
            await asyncio.sleep(0.15)
            gone.set()
            event = await rig.final()
            assert event.outcome is Outcome.ABORTED
            if policy == "drain":
                assert event.usage_source is UsageSource.REPORTED
                assert event.usage is not None
                assert event.usage.output_tokens == 5
            else:
                assert event.usage_source is not UsageSource.REPORTED
                await until(lambda: ends)
            assert rig.relay.count().calls_in_flight == 0

    left, gone = asyncio.Event(), asyncio.Event()
    run(test())


def test_silent_departure_before_the_answer_cancels_the_upstream(tmp_path: Path) -> None:
    """A client that waits for a JSON answer and times out sends a FIN and nothing more."""
    cancelled: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.read_request()
        cancelled.append((await peer.read_rest())[1])

    async def test() -> None:
        async with relaying(
            tmp_path, script, config="[limits]\nhalf_close_seconds = 0.05", route='on_client_abort = "cancel"'
        ) as rig:
            peer = await rig.connect()
            await peer.send(post())
            await asyncio.sleep(0.02)
            peer.close()
            event = await rig.final()
            assert (event.outcome, event.usage_source) == (Outcome.ABORTED, UsageSource.UNKNOWN)
            await until(lambda: cancelled)

    run(test())


STREAMED = b'{"model":"m","stream":true}'
CASES = [
    # provider, path, body, whether it had an answer's head when its client left; whether it is read on
    ("openai", "chat/completions", STREAMED, True, False),
    ("openai", "chat/completions", STREAMED, False, False),
    ("openai", "chat/completions", b"{}", False, True),
    ("openai", "embeddings", b"{}", False, True),
    ("openai", "files", b"{}", False, False),  # nothing of it is read
    ("groq", "chat/completions", STREAMED, True, True),
    ("groq", "chat/completions", STREAMED, False, True),
    ("groq", "chat/completions", b"{}", False, True),
    ("vllm", "chat/completions", b"{}", False, False),
    ("vllm", "chat/completions", STREAMED, True, False),
    ("ours", "chat/completions", b"{}", False, False),
]


@pytest.mark.parametrize(("provider", "path", "body", "began", "drained"), CASES)
def test_auto_reads_on_where_leaving_saves_nothing(
    tmp_path: Path, provider: str, path: str, body: bytes, began: bool, drained: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(*(STREAM[:2] if began else []))
        arrived.set()
        await gone.wait()
        await peer.send(*STREAM[2 if began else 0 :])

    def routes(port: int) -> str:
        return f'[[route]]\npath = "/openai"\nupstream = "http://localhost:{port}"\nprovider = "{provider}"\n'

    async def test() -> None:
        async with relaying(tmp_path, script, routes=routes) as rig:
            peer = await rig.connect()
            await peer.send(post(f"/openai/v1/{path}", body))
            await arrived.wait()
            if began:
                await peer.read_head()
            peer.reset()
            await until(lambda: not rig.relay.count().client_connections)
            assert rig.relay.count().calls_in_flight == drained
            gone.set()
            event = await rig.final()
            assert event.outcome is Outcome.ABORTED
            assert (event.usage_source is UsageSource.REPORTED) == drained

    arrived, gone = asyncio.Event(), asyncio.Event()
    run(test())


@pytest.mark.parametrize("limit", ["abort_drain_seconds = 0.2", "abort_drain_bytes = 20000"])
def test_draining_has_an_end(tmp_path: Path, limit: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM[0])
        while True:
            await peer.send(STREAM[1] * 5, pause=0.005)

    async def test() -> None:
        async with relaying(
            tmp_path, script, config=f"[limits]\nhalf_close_seconds = 0.05\n{limit}", route='on_client_abort = "drain"'
        ) as rig:
            peer = await rig.connect()
            await peer.send(post())
            await peer.read_head()
            peer.reset()
            event = await rig.final()
            assert event.outcome is Outcome.ABORTED
            assert event.usage_source is not UsageSource.REPORTED

    run(test())


def test_client_leaves_during_its_request(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(post()[:-10])
            await asyncio.sleep(0.02)
            peer.close()
            event = await rig.final()
            assert (event.outcome, event.usage_source) == (Outcome.ABORTED, UsageSource.UNKNOWN)
            quiet = await rig.connect()  # and one that leaves before anything was forwarded: no row
            await quiet.send(post().partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            quiet.close()
            await asyncio.sleep(0.02)
            assert len(rig.records()) == 1

    run(test())


def test_slow_reader_throttles_the_upstream_in_bounded_memory(tmp_path: Path) -> None:
    size = 200_000_000
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"x" * 1_000_000
        while sent < size:
            peer.writer.write(piece)
            await peer.writer.drain()
            sent += len(piece)

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(post())
            await peer.read_head()
            await asyncio.sleep(0.3)
            assert sent < 40_000_000  # socket buffers on both sides, and no more
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            left = size
            while left:
                left -= len(await peer.reader.read(1_000_000))
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
            assert (await rig.final()).response_bytes == size

    run(test())


def test_slow_upstream_throttles_the_client_in_bounded_memory(tmp_path: Path) -> None:
    size = 200_000_000
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await go.wait()
        left = size
        while left:
            left -= len(await peer.reader.read(1_000_000))
        await peer.send(json_answer())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(b"POST /openai/v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            piece, sent, before = b"x" * 1_000_000, 0, 0
            writing = asyncio.create_task(asyncio.sleep(0.3))
            while sent < size:
                peer.writer.write(piece)
                sent += len(piece)
                drained = asyncio.create_task(peer.writer.drain())
                await asyncio.wait([drained, writing], return_when=asyncio.FIRST_COMPLETED)
                if writing.done() and not go.is_set():
                    assert sent < 40_000_000
                    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                    go.set()
                await drained
            assert (await peer.read_answer())[1] == ANSWER
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
            assert (await rig.final()).request_bytes == size

    run(test())


def test_upstream_connections_are_kept_and_bounded(tmp_path: Path) -> None:
    async def test() -> None:
        config = "[limits]\nupstream_connections = 2\nupstream_idle_seconds = 0.2"
        async with relaying(tmp_path, serve(json_answer(), pause=0.02), config=config) as rig:
            clients = [await rig.connect() for _ in range(6)]
            for client in clients:
                await client.send(post())
            for client in clients:
                assert (await client.read_answer())[1] == ANSWER
            assert len(rig.upstream.peers) == 2
            assert rig.relay.count().upstream_connections == 2
            await until(lambda: not rig.relay.count().upstream_connections)

    run(test())


def test_stopping_finishes_calls_and_interrupts_what_takes_too_long(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM[0])
        if peer.number == 0:
            await peer.send(*STREAM[1:], pause=0.05)
        else:
            await asyncio.sleep(20)

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            short, endless, idle = [await rig.connect() for _ in range(3)]
            await short.send(post())
            await short.read_head()
            await endless.send(post())
            await endless.read_head()
            await rig.relay.stop(0.6)
            data, end = await short.read_rest()
            assert data.endswith(b"0\r\n\r\n")
            assert end == "eof"
            assert await endless.read_rest() == (b"", "reset")
            assert await idle.read_rest() == (b"", "eof")
            outcomes = [event.outcome for event in rig.records()]
            assert outcomes == [Outcome.COMPLETED, Outcome.INTERRUPTED]

    run(test())


def test_answer_during_stopping_says_close(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer())) as rig:
            peer = await rig.connect()
            await peer.send(post())
            await peer.read_answer()
            stopping = asyncio.create_task(rig.relay.stop(2))
            await asyncio.sleep(0.05)
            await peer.send(post())
            head, body = await peer.read_answer()
            assert b"\r\nConnection: close\r\n" in head
            assert body == ANSWER
            await stopping

    run(test())
