"""Requests: pipelining, 100-continue, early answers, upgrades, limits. What is refused, and bad answers: `hostile/`."""

import asyncio
import contextlib
from pathlib import Path

from metering.core.event import Outcome
from metering.core.usage import UsageSource
from tests.sidecar.rig import ANSWER, CHAT, Peer, chunk, get, json_answer, post, relaying, run, serve, until


def test_pipelined_requests_are_answered_in_order_one_at_a_time(tmp_path: Path) -> None:
    running: list[int] = []

    async def script(peer: Peer) -> None:
        while True:
            head, body = await peer.read_request()
            running.append(1)
            await asyncio.sleep(0.01)
            assert len(running) == 1
            running.pop()
            await peer.send(json_answer(head.split(b" ")[1] + body))

    chunked = (
        b"POST /openai/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk(b"hey")
        + b"0\r\nT: x\r\n\r\n"
    )

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(post("/openai/a") + chunked + b"\r\n" + get("/openai/c"))
            answers = [(await peer.read_answer())[1] for _ in range(3)]
            assert answers[0] == b"/a" + CHAT
            assert answers[1] == b"/b" + chunk(b"hey") + b"0\r\nT: x\r\n\r\n"
            assert answers[2] == b"/c"
            assert len(rig.upstream.peers) == 1

    run(test())


def test_many_pipelined_refusals_do_not_nest(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer(b"x"))) as rig:
            peer = await rig.connect()
            await peer.send(get() * 300)
            for _ in range(300):
                assert (await peer.read_answer())[1] == b"x"

    run(test())


def test_heads_that_differ_in_length_only(tmp_path: Path) -> None:
    """The second head of a connection is compared with the first instead of read: its own length must count."""

    async def script(peer: Peer) -> None:
        while True:
            head, body = await peer.read_request()
            await peer.send(json_answer(head + body))

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            for body in (b'{"model":"a"}', b'{"model":"bbb"}', b'{"model":"a"}', b""):
                await peer.send(post("/openai/v1/chat/completions", body))
                _, echoed = await peer.read_answer()
                assert echoed.endswith(b"\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await peer.send(get("/openai/v1/models"))
            assert (await peer.read_answer())[1].startswith(b"GET /v1/models ")
            models = [event.request_model for event in rig.records()]
            assert models == ["a", "bbb", "a", None, None]
            sneaky = post("/openai/v1/chat/completions", b"{}").replace(b": 2\r\n", b": 2 2\r\n")
            await peer.send(sneaky)
            assert (await peer.read_answer())[0].startswith(b"HTTP/1.1 400 ")

    run(test())


def test_continue_is_asked_and_granted(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert b"\r\nExpect: 100-continue\r\n" in head
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.reader.readexactly(len(CHAT)) == CHAT
        await peer.send(json_answer())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            head = post("/openai/v1/chat/completions", CHAT, "Expect: 100-continue").removesuffix(CHAT)
            await peer.send(head)
            assert await peer.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await peer.send(CHAT)
            assert (await peer.read_answer())[1] == ANSWER
            assert (await rig.final()).request_model == "gpt-4o-mini"

    run(test())


def test_continue_refused(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(json_answer(b"{}", status="413 Too Large"))

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            head = post("/openai/v1/chat/completions", CHAT, "Expect: 100-continue").removesuffix(CHAT)
            answer, end = await rig.ask(head)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"\r\nConnection: close\r\n" in answer
            assert end == "eof"
            assert (await rig.final()).outcome is Outcome.FAILED

    run(test())


def test_early_answer_reaches_a_client_that_is_still_sending(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(json_answer(b"{}", status="401 Unauthorized"))
        await asyncio.sleep(0.05)

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(post("/openai/v1/chat/completions", b"x" * 1_000_000)[:200_000])
            head, body = await peer.read_answer()
            assert head.startswith(b"HTTP/1.1 401 ")
            assert body == b"{}"
            await peer.send(b"y" * 100_000)  # taken and forgotten
            assert await peer.read_rest() == (b"", "eof")

    run(test())


def test_answer_before_the_first_byte_of_a_body_that_is_late(tmp_path: Path) -> None:
    """As for a client that streams its body as it comes about."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(json_answer(b"{}", status="401 Unauthorized"))

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(post().removesuffix(CHAT))
            assert (await peer.read_answer())[0].startswith(b"HTTP/1.1 401 ")
            assert await peer.read_rest() == (b"", "eof")
            assert (await rig.final()).outcome is Outcome.FAILED

    run(test())


def test_half_closed_client_gets_its_answer(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer(), pause=0.05)) as rig:
            answer, end = await rig.ask(post(), half_close=True)
            assert answer.endswith(ANSWER)
            assert end == "eof"
            assert (await rig.final()).outcome is Outcome.COMPLETED

    run(test())


def test_websocket_is_tunnelled(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        while data := await peer.reader.read(100):
            await peer.send(data.upper())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(get("/openai/v1/realtime", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket"))
            assert b"101" in await peer.read_head()
            assert await peer.reader.readexactly(5) == b"hello"
            for _ in range(3):
                await peer.send(b"GET / not http\r\n\r\n")
                assert await peer.reader.readexactly(18) == b"GET / NOT HTTP\r\n\r\n"
            peer.close()
            event = await rig.final()
            assert (event.status, event.outcome, event.usage_source) == (101, Outcome.COMPLETED, UsageSource.UNKNOWN)

    run(test())


def test_tunnel_passes_on_what_its_client_sent_before_it_left(tmp_path: Path) -> None:
    size = 4_000_000

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await asyncio.sleep(0.2)
        received.append(await peer.read_rest())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(get("/openai/v1/realtime", "Connection: Upgrade", "Upgrade: websocket"))
            await peer.read_head()
            await peer.send(b"x" * size)
            peer.close()
            await rig.final()
            await until(lambda: received)
            assert received == [(b"x" * size, "eof")]

    received: list[tuple[bytes, str]] = []
    run(test())


def test_chunked_body_behind_an_upgrade_that_is_ignored(tmp_path: Path) -> None:
    """Java's HttpClient offers h2c with every first request."""
    body = chunk(CHAT) + b"0\r\n\r\n"
    lines = ("Host: a", "Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked", "", "")
    head = "\r\n".join(("POST /openai/x HTTP/1.1", *lines)).encode()

    async def script(peer: Peer) -> None:
        while True:
            await peer.send(json_answer((await peer.read_request())[1]))

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            for _ in range(2):
                await peer.send(head + body)
                assert (await peer.read_answer())[1] == body

    run(test())


def test_other_upgrades_stay_plain_http(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        head, _ = await peer.read_request()
        await peer.send(json_answer(head))

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(
                get("/openai/x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA")
            )
            _, seen = await peer.read_answer()
            assert b"pgrade" not in seen
            assert b"HTTP2" not in seen

    run(test())


LIMITS = "[limits]\nhead_seconds = 0.2\nidle_seconds = 0.2\nhead_bytes = 2000\nconnections = 3\nsilence_seconds = 0.2"


def test_limits_on_clients(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer()), config=LIMITS) as rig:
            slow = await rig.connect()
            await slow.send(b"GET /openai/x HTTP/1.1\r\nHo")
            assert (await slow.read_rest())[0].startswith(b"HTTP/1.1 408 ")
            idle = await rig.connect()
            await idle.send(post())
            await idle.read_answer()
            assert await idle.read_rest() == (b"", "eof")
            late = await rig.connect()  # the time for a head runs from its first byte, and blank lines are none
            await asyncio.sleep(0.15)
            await late.send(get()[:9], get()[9:], pause=0.12)
            assert (await late.read_answer())[1] == ANSWER
            late.close()
            drip = await rig.connect()
            with contextlib.suppress(ConnectionError):
                for _ in range(40):
                    await drip.send(b"\r\n", pause=0.02)
            assert (await drip.read_rest())[0] == b""
            for big in (
                b"GET /openai/x HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 3000,
                get("/openai/x", "X: " + "a" * 3000),
            ):
                assert (await rig.ask(big))[0].startswith(b"HTTP/1.1 431 ")
            crowd = [await rig.connect() for _ in range(4)]
            assert (await crowd[-1].read_rest())[0].startswith(b"HTTP/1.1 503 ")

    run(test())


def test_silent_upstream(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await asyncio.sleep(20)

    async def test() -> None:
        async with relaying(tmp_path, script, config=LIMITS) as rig:
            peer = await rig.connect()
            await peer.send(post())
            assert (await peer.read_answer())[0].startswith(b"HTTP/1.1 504 ")
            event = await rig.final()
            assert (event.outcome, event.usage_source) == (Outcome.FAILED, UsageSource.UNKNOWN)

    run(test())
