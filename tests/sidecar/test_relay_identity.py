"""The client gets the bytes the upstream sent: same status, headers, body framing, order, way of ending."""

from pathlib import Path

import pytest

from metering.core.event import Outcome
from metering.core.usage import UsageSource
from tests.sidecar.rig import (
    ANSWER,
    CHAT,
    Peer,
    chunk,
    get,
    json_answer,
    post,
    relaying,
    run,
    serve,
    split_answer,
    stream_answer,
)

LATE = "Connection: close"  # asks either server to end after this answer, so that both ends can be compared
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

FRAMINGS: dict[str, tuple[bytes, list[bytes]]] = {
    "content-length": (post(), [json_answer()]),
    "content-length in pieces": (post(), [json_answer()[:9], json_answer()[9:60], json_answer()[60:]]),
    "empty body": (post(), [json_answer(b"")]),
    "chunked": (post(), [CHUNKED, chunk(ANSWER), b"0\r\n\r\n"]),
    "chunked in one write": (post(), [CHUNKED + chunk(ANSWER[:50]) + chunk(ANSWER[50:]) + b"0\r\n\r\n"]),
    "chunked, terminator torn": (post(), [CHUNKED + chunk(ANSWER) + b"0\r", b"\n\r", b"\n"]),
    "chunk extensions": (post(), [CHUNKED, chunk(ANSWER, b';a=b;c="d"'), b"0;last\r\n\r\n"]),
    "odd chunk sizes": (post(), [CHUNKED, b"0000A\r\n0123456789\r\n", b"000\r\n\r\n"]),
    "trailers": (post(), [CHUNKED, chunk(ANSWER), b"0\r\nX-Checksum: 1\r\nx-two: 2\r\n\r\n"]),
    "event stream": (post(), stream_answer()),
    "close-delimited": (post(), [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", ANSWER]),
    "HTTP/1.0 upstream": (post(), [b"HTTP/1.0 200 OK\r\n\r\n", ANSWER]),
    "HEAD": (get(method="HEAD"), [b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"]),
    "HEAD chunked": (get(method="HEAD"), [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]),
    "204": (get(), [b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"]),
    "304 with length": (get(), [b'HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: "x"\r\n\r\n']),
    "100 then 200": (post(), [b"HTTP/1.1 100 Continue\r\n\r\n", json_answer()]),
    "103 then 200": (post(), [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + json_answer()]),
    "error": (post(), [json_answer(b'{"error":{"message":"no"}}', status="429 Too Many Requests")]),
    "header case and order": (post(), [json_answer(ANSWER, "x-LOWER: 1", "X-Upper:2", "x-LOWER:   3  ")]),
    "gzip": (post(), [json_answer(b"\x1f\x8b\x08\x00whatever", "Content-Encoding: gzip")]),
    "odd reason": (post(), [b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"]),
    "latin-1 header": (post(), [b"HTTP/1.1 200 OK\r\nX-N: caf\xe9\r\nContent-Length: 2\r\n\r\nok"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMINGS)
def test_answer_is_what_the_upstream_sent(tmp_path: Path, name: str) -> None:
    request, pieces = FRAMINGS[name]
    request = request.replace(b"Host: sidecar\r\n", b"Host: sidecar\r\n" + LATE.encode() + b"\r\n")

    async def test() -> None:
        async with relaying(tmp_path, serve(*pieces, pause=0.005, close=True)) as rig:
            direct, direct_end = await rig.ask(request, direct=True)
            relayed, relayed_end = await rig.ask(request)
            relayed = relayed.replace(b"Connection: close\r\n", b"")  # what the client asked for, after any 1xx
            status, headers, body = split_answer(direct)
            if name == "HTTP/1.0 upstream":
                status = status.replace(b"1.0", b"1.1")  # a proxy speaks for itself
            assert split_answer(relayed) == (status, headers, body)
            assert relayed_end == direct_end == "eof"
            await rig.final()

    run(test())


TRUNCATIONS: dict[str, tuple[list[bytes], bool]] = {
    "content-length cut": ([json_answer()[:-9]], False),
    "content-length reset": ([json_answer()[:-9]], True),
    "chunk cut": ([CHUNKED, chunk(ANSWER)[:-40]], False),
    "chunk reset": ([CHUNKED, chunk(ANSWER)[:-40]], True),
    "no terminator": ([CHUNKED, chunk(ANSWER)], False),
    "terminator cut": ([CHUNKED, chunk(ANSWER), b"0\r\n"], False),
    "stream cut": (stream_answer()[:3], False),
    "stream reset": (stream_answer()[:3], True),
    "close-delimited reset": ([b"HTTP/1.1 200 OK\r\n\r\n", ANSWER[:40]], True),
}


@pytest.mark.parametrize("name", TRUNCATIONS)
def test_truncation_stays_visible(tmp_path: Path, name: str) -> None:
    pieces, resets = TRUNCATIONS[name]

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(*pieces, pause=0.01)
        (peer.reset if resets else peer.close)()

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            direct, direct_end = await rig.ask(post(), direct=True)
            relayed, relayed_end = await rig.ask(post())
            assert split_answer(relayed) == split_answer(direct)
            assert relayed_end == direct_end
            event = await rig.final()
            assert event.outcome is Outcome.FAILED
            assert event.status == 200

    run(test())


def test_request_arrives_as_it_was_sent(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        head, body = await peer.read_request()
        await peer.send(json_answer(head + body))

    sent = (
        b"POST /openai/v1/chat/completions?a=%%2F&b=c%%20d HTTP/1.1\r\nhOsT: sidecar:1\r\nX-Case: Kept\r\nx-two: 1\r\n"
        b"Connection: keep-alive, X-Private\r\nX-Private: no\r\nKeep-Alive: 5\r\nx-two:2\r\nTE: trailers\r\n"
        b"Proxy-Authorization: Basic no\r\nAuthorization: Bearer sk\r\nContent-Length: %d\r\n\r\n" % len(CHAT)
    )

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            peer = await rig.connect()
            await peer.send(sent + CHAT)
            _, echoed = await peer.read_answer()
            assert (
                echoed
                == (
                    b"POST /v1/chat/completions?a=%%2F&b=c%%20d HTTP/1.1\r\nHost: localhost:%d\r\nX-Case: Kept\r\n"
                    b"x-two: 1\r\nx-two:2\r\nAuthorization: Bearer sk\r\nContent-Length: %d\r\nTE: trailers\r\n\r\n"
                    % (rig.upstream.port, len(CHAT))
                )
                + CHAT
            )

    run(test())


def test_chunked_request_keeps_its_framing_and_names_its_model(tmp_path: Path) -> None:
    body = chunk(CHAT[:20], b";x=1") + chunk(CHAT[20:]) + b"0\r\n\r\n"
    head = b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer())) as rig:
            peer = await rig.connect()
            await peer.send(head, body[:7], body[7:40], body[40:], pause=0.01)
            await peer.read_answer()
            assert rig.upstream.peers[0].seen.endswith(b"\r\n\r\n" + body)
            event = await rig.final()
            assert event.request_model == "gpt-4o-mini"
            assert event.request_bytes == len(body)

    run(test())


def test_http10_client_gets_no_chunks(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(*stream_answer())) as rig:
            raw, end = await rig.ask(post(version="1.0"))
            _, headers, body = split_answer(raw)
            assert not [line for line in headers if line.lower().startswith(b"transfer-encoding")]
            assert body.startswith(b"data: {")
            assert body.endswith(b"data: [DONE]\n\n")
            assert end == "eof"
            assert b" HTTP/1.1\r\n" in rig.upstream.peers[0].seen

    run(test())


@pytest.mark.parametrize("end", ["close", "reset"])
def test_http10_client_sees_a_cut_stream_as_a_reset(tmp_path: Path, end: str) -> None:
    """It got no chunks, so a mere end would look like the end of the answer."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(*stream_answer()[:3], pause=0.01)
        getattr(peer, end)()

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            raw, end = await rig.ask(post(version="1.0"))
            assert b"two" in raw
            assert end == "reset"

    run(test())


def test_http10_keep_alive(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer())) as rig:
            peer = await rig.connect()
            for _ in range(2):
                await peer.send(post("/openai/v1/chat/completions", CHAT, "Connection: keep-alive", version="1.0"))
                head, body = await peer.read_answer()
                assert b"\r\nConnection: keep-alive\r\n" in head
                assert body == ANSWER

    run(test())


def test_events_say_what_happened(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(*stream_answer()), route='deployment = "d"\nregion = "r"') as rig:
            peer = await rig.connect()
            await peer.send(post("/openai/v1/chat/completions", CHAT, "x-stainless-retry-count: 2",
                                 "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))  # fmt: skip
            while not peer.seen.endswith(b"0\r\n\r\n"):
                peer.seen += await peer.reader.read(65536)
            event = await rig.final()
            assert event.outcome is Outcome.COMPLETED
            assert event.usage_source is UsageSource.REPORTED
            assert event.usage is not None
            assert (event.usage.input_tokens, event.usage.output_tokens) == (12, 5)
            assert (event.dialect, event.operation_name, event.provider_name) == ("openai.chat", "chat", "openai")
            assert (event.deployment, event.region, event.status, event.streamed) == ("d", "r", 200, True)
            assert (event.attempt, event.trace_id) == (2, "4bf92f3577b34da6a3ce929d0e0e4736")
            assert event.request_bytes == len(CHAT)
            assert event.response_bytes == len(peer.seen.partition(b"\r\n\r\n")[2])
            assert event.first_token_at is not None
            assert event.ended_at is not None
            assert event.started_at <= event.first_token_at <= event.ended_at

    run(test())
