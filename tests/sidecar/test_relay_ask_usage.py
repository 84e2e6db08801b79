"""Usage asked for in a client's stead: it sees what a server sends that was not asked, and the row has the usage."""

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI

from metering.core.event import Outcome
from metering.core.usage import UsageSource
from metering.sidecar.exposition import Facts, render
from metering.sidecar.spool.backlog import Backlog
from tests.sidecar.rig import (
    ANSWER,
    USAGE,
    Peer,
    Rig,
    Script,
    chunk,
    json_answer,
    post,
    relaying,
    run,
    split_answer,
    until,
)

ON = 'ask_usage = "on"'
CHAT = b'{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hi \xc3\xa9"}]}'
ASKING = b'{"stream_options":{"include_usage":true},' + CHAT[1:]
WORDS = [
    b": PROCESSING\n\n",
    b'data: {"id":"c-1","choices":[],"prompt_filter_results":[],"usage":null}\n\n',
    b'data: {"id":"c-1","model":"m","choices":[{"index":0,"delta":{"content":"hello"}}],"usage":null}\r\n\r\n',
]
TOLD = b'data: {"id":"c-1","model":"m","choices":[],' + USAGE + b"}\n\n"
DONE = b"data: [DONE]\n\n"
EVENTS = b"".join([*WORDS, TOLD, DONE])
SEEN = b"".join([*WORDS, DONE])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\nX-Sum: 1\r\n\r\n"


def whole_stream(framing: str) -> bytes:
    """An answer that tells usage."""
    if framing == "length":
        return HEAD + b"Content-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS
    if framing == "closed":
        return HEAD + b"\r\n" + EVENTS
    return CHUNKED + b"".join(map(chunk, [*WORDS, TOLD[:30], TOLD[30:] + DONE])) + LAST


def asked_place(head: bytes) -> int:
    """The place that a request's trace carries."""
    return int(head.partition(b"traceparent: 00-")[2][:32], 16) - 1


def ask_at(place: int, version: str = "1.1") -> bytes:
    trace = f"traceparent: 00-{place + 1:032x}-00f067aa0ba902b7-01"
    return post("/openai/v1/chat/completions", CHAT, trace, "Accept-Encoding: gzip, br", "Connection: close",
                version=version)  # fmt: skip


def unchunk(body: bytes) -> tuple[bytes, bytes]:
    """The content of chunks, and what follows them."""
    content = b""
    while not body.startswith(b"0\r\n"):
        size, _, body = body.partition(b"\r\n")
        content, body = content + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return content, body


def check_reported(rig: Rig, count: int) -> None:
    rows = rig.records()
    assert len(rows) == count
    for row in rows:
        assert (row.outcome, row.usage_source, row.status) == (Outcome.COMPLETED, UsageSource.REPORTED, 200)
        assert row.usage is not None
        assert (row.usage.input_tokens, row.usage.output_tokens) == (12, 5)
        assert (row.request_bytes, row.streamed, row.request_model) == (len(CHAT), True, "gpt-4o-mini")


@pytest.mark.parametrize("framing", ["chunked", "length", "closed"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_answer_cut_anywhere_shows_all_but_the_event(tmp_path: Path, framing: str, version: str) -> None:
    answer = whole_stream(framing)

    async def script(peer: Peer) -> None:
        while True:
            head, body = await peer.read_request()
            assert body == ASKING
            assert b"\r\nAccept-Encoding: identity\r\n" in head
            place = asked_place(head)
            await peer.send(answer[:place], answer[place:], pause=0.002)
            if framing == "closed":
                peer.close()
                return

    async def ask(rig: Rig, place: int) -> None:
        raw, end = await rig.ask(ask_at(place, version))
        status, headers, body = split_answer(raw)
        assert (status, end) == (b"HTTP/1.1 200 OK", "eof")
        if framing == "closed" or version == "1.0":
            assert headers == [b"Content-Type: text/event-stream"]
            assert body == SEEN
        else:
            assert headers == [b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked"]
            assert unchunk(body) == (SEEN, LAST if framing == "chunked" else b"0\r\n\r\n")

    async def test() -> None:
        async with relaying(tmp_path, script, route=ON) as rig:
            for first in range(0, len(answer), 100):
                await asyncio.gather(*(ask(rig, place) for place in range(first, min(first + 100, len(answer)))))
            check_reported(rig, len(answer))
            assert rig.relay.tally.usage_asked == len(answer)

    run(test(), 60)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_cut_anywhere_is_asked_with_whole(tmp_path: Path, chunked: bool) -> None:
    body = chunk(CHAT[:30], b";x=1") + chunk(CHAT[30:]) + b"0\r\n\r\n" if chunked else CHAT
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(CHAT)}"
    head = f"POST /openai/v1/completions?a=b HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n".encode()
    request = head + body
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            asked.append(b"".join(await peer.read_request()))
            await peer.send(CHUNKED, chunk(EVENTS), LAST)

    async def test() -> None:
        async with relaying(tmp_path, script, route=ON) as rig:
            client = await rig.connect()
            for place in range(len(request)):
                await client.send(request[:place], request[place:], pause=0.0005)
                assert (await client.read_head()).endswith(b"\r\n\r\n")
                assert unchunk(await client._read_chunks()) == (SEEN, LAST)
            changed = head.replace(b" /openai", b" ").replace(b"Host: a", b"Host: localhost:%d" % rig.upstream.port)
            changed = changed.replace(b"%d\r\n\r\n" % len(CHAT), b"%d\r\n\r\n" % len(ASKING))
            assert set(asked) == {changed + (chunk(ASKING) + b"0\r\n\r\n" if chunked else ASKING)}
            assert {row.request_bytes for row in rig.records()} == {len(body)}

    run(test(), 60)


BIG = CHAT[:-1] + b',"pad":"' + b"x" * 2000 + b'"}'
UNASKED: dict[str, tuple[bytes, str]] = {
    "off": (post(body=CHAT), ""),
    "no stream": (post(), ON),
    "usage wanted": (post(body=b'{"stream":true,"stream_options":{"include_usage":true}}'), ON),
    "usage not wanted": (post(body=b'{"stream":true,"stream_options":{"include_usage":false}}'), ON),
    "another interface": (post("/openai/v1/responses", CHAT), ON),
    "compressed": (post("/openai/v1/chat/completions", CHAT, "content-ENCODING: gzip"), ON),
    "large": (post(body=BIG), ON),
    "large, in pieces": (post(body=BIG), ON),
    "no JSON": (post(body=CHAT[:-1]), ON),
    "trailers": (
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: sidecar\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk(CHAT) + b"0\r\nX-Sum: 1\r\n\r\n", ON,
    ),
    "expecting": (post("/openai/v1/chat/completions", CHAT, "Expect: 100-continue"), ON),
}  # fmt: skip


@pytest.mark.parametrize("name", UNASKED)
def test_what_is_not_asked_goes_and_comes_as_it_is(tmp_path: Path, name: str) -> None:
    request, route = UNASKED[name]
    answer = whole_stream("chunked")

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(answer)

    async def test() -> None:
        async with relaying(tmp_path, script, route=route, config="[limits]\nask_body_bytes = 2000") as rig:
            client = await rig.connect()
            head, _, body = request.partition(b"\r\n\r\n")
            await client.send(*([head + b"\r\n\r\n", body] if "pieces" in name or "expect" in name else [request]),
                              pause=0.02)  # fmt: skip
            assert await client.reader.readexactly(len(answer)) == answer
            assert rig.upstream.peers[0].seen == request.replace(b" /openai", b" ").replace(
                b"Host: sidecar", b"Host: localhost:%d" % rig.upstream.port
            )
            await rig.final()
            assert not rig.relay.tally.usage_asked

    run(test())


ANSWERS: dict[str, bytes] = {
    "compressed": CHUNKED.replace(b"Content-Type", b"Content-Encoding: gzip\r\nContent-Type")
    + chunk(gzip.compress(EVENTS, mtime=0)) + b"0;x\r\n\r\n",
    "not streamed": json_answer(),
    "an error": json_answer(b'{"error":{"message":"no"}}', status="401 Unauthorized"),
    "an error as a stream": CHUNKED.replace(b"200 OK", b"500 Oh") + chunk(TOLD) + b"0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_other_answers_come_as_they_are(tmp_path: Path, name: str) -> None:
    async def script(peer: Peer) -> None:
        while True:
            assert (await peer.read_request())[1] == ASKING
            await peer.send(ANSWERS[name])

    async def test() -> None:
        async with relaying(tmp_path, script, route=ON) as rig:
            client = await rig.connect()
            for _ in range(3):
                await client.send(post(body=CHAT))
                assert await client.reader.readexactly(len(ANSWERS[name])) == ANSWERS[name]
            assert len(rig.upstream.peers) == 1

    run(test())


def refuse(status: int, answered: list[bytes], also: Callable[[bytes], bool] = lambda _: False) -> Script:
    """Refuse what asks for usage, and what `also` says; stream to all else."""

    async def script(peer: Peer) -> None:
        while True:
            _, body = await peer.read_request()
            answered.append(body)
            if b"stream_options" in body or also(body):
                await peer.send(json_answer(b'{"error":{"param":"stream_options"}}', "x-no: 1", status=f"{status} No"))
            else:
                await peer.send(CHUNKED, *map(chunk, WORDS), chunk(DONE) + LAST)

    return script


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_refusal_is_repaired_once_and_remembered(tmp_path: Path, status: int, chunked: bool) -> None:
    bodies: list[bytes] = []
    sent = chunk(CHAT, b";a") + b"0\r\n\r\n" if chunked else CHAT
    request = post(body=CHAT)
    if chunked:
        request = request.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n" + sent

    async def test() -> None:
        async with relaying(tmp_path, refuse(status, bodies), route=ON) as rig:
            client = await rig.connect()
            for _ in range(3):
                await client.send(request)
                head = await client.read_head()
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"x-no" not in head
                assert unchunk(await client._read_chunks()) == (SEEN, LAST)
            asking = chunk(ASKING) + b"0\r\n\r\n" if chunked else ASKING
            assert bodies == [asking, sent, sent, sent]
            await rig.final(3)
            assert len(rig.records("O")) == 3
            for row in rig.records():
                assert (row.status, row.outcome, row.usage_source) == (200, Outcome.COMPLETED, UsageSource.UNKNOWN)
                assert (row.attempt, row.request_bytes) == (0, len(sent))
            await client.send(post("/openai/v1/completions", CHAT))  # another path may take it
            await client.read_head()
            assert bodies[4:] == [ASKING, CHAT]
            page = render(rig.relay.count(), Backlog(), Facts(0, 0, ""))
            assert "\nmetering_usage_asked_total 2\n" in page
            assert "\nmetering_usage_refused_total 2\n" in page
            assert rig.relay.tally.upstream_retries == 0

    run(test())


def test_what_is_refused_anyway_is_the_clients_own_and_forgotten(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    async def test() -> None:
        async with relaying(tmp_path, refuse(400, bodies, lambda body: b"gpt-4o" in body), route=ON) as rig:
            client = await rig.connect()
            for number in range(1, 3):
                await client.send(post(body=CHAT))
                head, _ = await client.read_answer()
                assert head.startswith(b"HTTP/1.1 400 No\r\n")
                assert (await rig.final(number)).status == 400
            assert bodies == [ASKING, CHAT] * 2
            await until(lambda: rig.relay.count().upstream_connections == 1)  # the refused ones are closed

    run(test())


@pytest.mark.parametrize("way", ["interim", "gone", "unreachable"])
def test_a_refusal_is_not_repaired_in_vain(tmp_path: Path, way: str) -> None:
    """After an interim answer the client has bytes of it; a client that left needs none; a dead server gives none."""
    count = 0

    async def script(peer: Peer) -> None:
        nonlocal count
        count += 1
        await peer.read_request()
        if way == "interim":
            await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        if way == "gone":
            left.set()
            await gone.wait()
        if way == "unreachable":
            listening[0].close()
        await peer.send(json_answer(b"{}", status="400 No"))

    async def test() -> None:
        route = ON + '\non_client_abort = "drain"'
        async with relaying(tmp_path, script, route=route, config="[limits]\nhalf_close_seconds = 0.01") as rig:
            listening.append(rig.upstream._server)
            client = await rig.connect()
            await client.send(post(body=CHAT))
            if way == "gone":
                await left.wait()
                client.reset()
                await until(lambda: not rig.relay.count().client_connections)
                gone.set()
                assert (await rig.final()).outcome is Outcome.ABORTED
            elif way == "interim":
                assert await client.read_head() == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                assert (await client.read_answer())[0].startswith(b"HTTP/1.1 400 No\r\n")
            else:
                assert (await client.read_answer())[0].startswith(b"HTTP/1.1 502 ")
            assert (await rig.final()).usage_source is UsageSource.NONE
            assert count == 1

    listening: list[Any] = []
    left, gone = asyncio.Event(), asyncio.Event()
    run(test())


@pytest.mark.parametrize("end", ["close", "reset", "hang"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_stream_that_breaks_off_does_so_visibly(tmp_path: Path, end: str, version: str, framing: str) -> None:
    answer = whole_stream(framing)
    kept = answer[: answer.rindex(TOLD[:30]) + 25]

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(kept)
        if end == "hang":
            await asyncio.sleep(60)
        getattr(peer, end)()

    async def test() -> None:
        async with relaying(tmp_path, script, route=ON, config="[limits]\nsilence_seconds = 0.3") as rig:
            raw, ended = await rig.ask(ask_at(0, version))
            assert ended == ("eof" if end == "close" and version == "1.1" else "reset")
            body = raw.partition(b"\r\n\r\n")[2]
            assert WORDS[2] in body
            if ended == "eof":  # what was held is no event yet
                assert body.endswith(TOLD[:25] + b"\r\n")
            assert not body.endswith(b"0\r\n\r\n")
            row = await rig.final()
            assert (row.outcome, row.usage) == (Outcome.FAILED, None)

    run(test())


def test_bytes_are_not_held_back(tmp_path: Path) -> None:
    """The next piece comes when the client has seen the one before."""
    steps = asyncio.Queue[None]()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(CHUNKED)
        for word in (*WORDS, WORDS[2][:90], WORDS[2][90:]):
            await peer.send(chunk(word))
            await steps.get()
        await peer.send(chunk(TOLD + DONE) + LAST)

    async def test() -> None:
        async with relaying(tmp_path, script, route=ON) as rig:
            client = await rig.connect()
            await client.send(post(body=CHAT))
            await client.read_head()
            for word in (*WORDS, WORDS[2][:90], WORDS[2][90:]):
                assert await client.reader.readexactly(len(chunk(word))) == chunk(word)
                steps.put_nowait(None)
            assert unchunk(await client._read_chunks()) == (DONE, LAST)

    run(test())


def test_a_client_that_leaves_while_its_request_is_held_leaves_nothing(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()

    async def test() -> None:
        async with relaying(tmp_path, script, route=ON, config="[limits]\nstall_seconds = 0.2") as rig:
            leaving, stalling, broken = [await rig.connect() for _ in range(3)]
            for client in (leaving, stalling):
                await client.send(post(body=CHAT)[:-10])
            await broken.send(post(body=CHAT).partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\nx")
            assert b"400 Bad Request" in (await broken.read_rest())[0]
            await asyncio.sleep(0.02)
            leaving.close()
            assert (await stalling.read_rest())[0] == b""
            assert not rig.upstream.peers
            assert not rig.records("O")

    run(test())


def test_draining_reads_the_hidden_event(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(CHUNKED, chunk(WORDS[2]))
        await gone.wait()
        await peer.send(chunk(TOLD), chunk(DONE), LAST)

    async def test() -> None:
        async with relaying(tmp_path, script, route=ON + '\non_client_abort = "drain"') as rig:
            client = await rig.connect()
            await client.send(post(body=CHAT))
            await client.read_head()
            client.reset()
            await until(lambda: not rig.relay.count().client_connections)
            gone.set()
            row = await rig.final()
            assert (row.outcome, row.usage_source) == (Outcome.ABORTED, UsageSource.REPORTED)

    gone = asyncio.Event()
    run(test())


# ── real clients ──────────────────────────────────────────────────────────────────────────────────────────


async def real_server(peer: Peer) -> None:
    """Tells usage to who asks, as OpenAI does but for its nulls; refuses the question where the model says so."""
    while True:
        _, body = await peer.read_request()
        asked = json.loads(body)
        if asked["model"] == "refuses" and "stream_options" in asked:
            await peer.send(json_answer(b'{"error":{"message":"Unknown parameter"}}', status="400 Bad Request"))
        elif asked["model"] == "bad":
            await peer.send(json_answer(b'{"error":{"message":"no such model"}}', status="400 Bad Request"))
        elif not asked.get("stream"):
            await peer.send(json_answer())
        else:
            told = (asked.get("stream_options") or {}).get("include_usage")
            words = [WORDS[2], WORDS[2].replace(b"hello", b"you"), *([TOLD] if told else []), DONE]
            await peer.send(CHUNKED, *map(chunk, words), b"0\r\n\r\n")


def with_openai(base: str, model: str, options: dict[str, Any]) -> Any:
    with OpenAI(base_url=base, api_key="sk-client", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        try:
            with client.chat.completions.create(model=model, messages=messages, stream=True, **options) as stream:
                return [piece.model_dump() for piece in stream]
        except BadRequestError as error:
            return error.status_code, error.body


def with_httpx(base: str, model: str, options: dict[str, Any]) -> Any:
    seen: list[Any] = []
    with httpx.Client() as client:
        for _ in range(2):
            asked = {"model": model, "stream": True, **options}
            with client.stream("POST", f"{base}/chat/completions", json=asked) as answer:
                seen += [answer.status_code, answer.headers.raw, list(answer.iter_lines())]
    return seen


@pytest.mark.parametrize("client", [with_openai, with_httpx])
@pytest.mark.parametrize("model", ["asked", "refuses", "bad"])
@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}},
                                     {"stream_options": {"include_usage": False}}])  # fmt: skip
def test_a_real_client_notices_nothing(
    tmp_path: Path, client: Callable[..., Any], model: str, options: dict[str, Any]
) -> None:
    async def test() -> None:
        async with relaying(tmp_path, real_server, route=ON) as rig:
            direct = await asyncio.to_thread(client, f"http://127.0.0.1:{rig.upstream.port}/v1", model, options)
            through = await asyncio.to_thread(client, f"http://127.0.0.1:{rig.port}/openai/v1", model, options)
            assert through == direct
            count = 2 if client is with_httpx else 1
            source = (await rig.final(count)).usage_source
            explicit = options.get("stream_options", {}).get("include_usage")
            if model == "asked":
                assert source is (UsageSource.UNKNOWN if explicit is False else UsageSource.REPORTED)

    run(test())


def test_answers_without_a_stream_are_untouched(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, real_server, route=ON) as rig:
            client = await rig.connect()
            await client.send(post())
            assert (await client.read_answer())[1] == ANSWER
            await rig.final()

    run(test())
