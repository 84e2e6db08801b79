"""Heads that are compared instead of read: they must mean what reading them would have found, or be read."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.core.event import Outcome
from metering.core.usage import UsageSource
from metering.sidecar.relay.admission import Admission, Admitted
from metering.sidecar.relay.message_end import MessageEnd
from metering.sidecar.relay.problems import Refusal
from metering.sidecar.relay.recurring import AT_FIRST, Recurring
from metering.sidecar.relay.response_head import BadResponse, read_response
from tests.sidecar.rig import CHAT, Peer, get, json_answer, make_config, post, relaying, run

HEAD = (
    b"POST /openai/v1/chat/completions?a=b HTTP/1.1\r\nHost: a\r\nX-Call: 1\r\n"
    b"traceparent: 00-%032x-00f067aa0ba902b7-01\r\n"
    b"Connection: keep-alive, x-gone\r\nX-Team: search\r\nx-gone: 1\r\nContent-Length: %d\r\nX-Tail: z\r\n\r\n"
)
BYTES = [bytes([byte]) for byte in b"\r\n\t\0 :,;+-0159azAZ\x7f\x80\xff"] + [
    b"\r\n", b"\r\n\r\n", b"\r\n ", b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 3", b"\r\nX-Team: other",
]  # fmt: skip


def mutants(head: bytes, count: int) -> Iterator[bytes]:
    """The head with one to three bytes put in, put over or taken out; from a fixed seed."""
    rng = random.Random(7)
    for _ in range(count):
        data = head
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            data = data[:at] + rng.choice([b"", *BYTES]) + data[at + rng.randint(0, 1) :]
        yield data


def facts(admitted: Admitted) -> tuple[object, ...]:
    return (
        admitted.upstream_head, admitted.body_length, admitted.trace_id, admitted.attempt, admitted.attribution,
        admitted.route, admitted.operation, admitted.keep_alive, admitted.head.host,
    )  # fmt: skip


@pytest.mark.parametrize("trusted", ['team = "x-team"', 'team = "traceparent"'])
def test_a_compared_head_means_what_a_read_one_does(tmp_path: Path, trusted: str) -> None:
    """`X-Call` and `X-Team` differ between the first two heads: the first is learned, the second trusted and never."""
    config = make_config(tmp_path, "http://localhost:1", route=f"trusted_headers = {{ {trusted} }}")
    admission = Admission(config)
    second = (HEAD % (2, 11)).replace(b"X-Call: 1", b"X-Call: 22").replace(b"search", b"other")
    compared = 0
    for head in mutants(second, 3000):
        known = admission.admit(second, admission.admit(HEAD % (1, 10), None))
        end = known.recur(head)
        if end:
            compared += 1
            assert facts(known) == facts(admission.admit(head[:end], None))
            assert head[:end].endswith(b"\r\n\r\n")
            assert head.find(b"\r\n\r\n") + 4 == end
    assert 25 < compared < 1000


def test_a_compared_answer_means_what_a_read_one_does() -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 16:11:38 GMT\r\nContent-Type: text/plain\r\n"
        b"Keep-Alive: timeout=5\r\n"
        b"Connection: keep-alive\r\ncf-ray: 8a\r\nContent-Length: 20\r\nx-request-id: req_1\r\n\r\n"
    )
    end = MessageEnd()
    compared = 0
    for data in mutants(raw.replace(b"8a", b"9b"), 3000):
        head, _ = read_response(raw, end)
        recurring = Recurring(raw, head.plain, AT_FIRST | {b"date", b"cf-ray", b"x-request-id"})
        head.recurring = recurring
        if at := head.recur(data):
            compared += 1
            fresh, _ = read_response(data[:at], end)
            assert (head.status, head.body_length, head.plain, head.keep_alive, head.content_type) == (
                fresh.status, fresh.body_length, fresh.plain, fresh.keep_alive, fresh.content_type,
            )  # fmt: skip
    assert compared > 25


@pytest.mark.parametrize("length", ["+67", "6_7", "67, 67", "67 67", "", "-1", "0x43", "67\x00", "9" * 30])
def test_a_strange_length_in_a_later_head_is_refused(tmp_path: Path, length: str) -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            asked.append(b"".join(await peer.read_request()))
            await peer.send(json_answer())

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            for number in range(3):
                await client.send(post("/openai/x", CHAT, f"X-Call: {number}"))
                await client.read_answer()
            head = post("/openai/x", CHAT, "X-Call: 3").replace(b"th: 67\r", b"th: " + length.encode() + b"\r")
            await client.send(head + get("/openai/smuggled"))
            answer, _ = await client.read_rest()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1 ") == 1
            assert len(asked) == 3

    run(test())


def test_varying_heads_arrive_as_they_were_sent(tmp_path: Path) -> None:
    """Both ways, and the trace of each call stands in its own record."""
    seen: list[bytes] = []
    answers = [
        json_answer(b"{%s}" % (b" " * number), f"Date: {number}", f"x-left: {'9' * (number % 3)}", *more, status=status)
        for number, (status, *more) in enumerate(
            [("200 OK",)] * 4 + [("429 No",), ("200 OK", "x-new: 1"), ("200 OK",), ("200 OK", "Connection: close")]
        )
    ]

    async def script(peer: Peer) -> None:
        while True:
            head, body = await peer.read_request()
            await peer.send(answers[len(seen)])
            seen.append(head + body)

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            for number, answer in enumerate(answers):
                trace = f"traceparent: 00-{number:032x}-00f067aa0ba902b7-01"
                request = post("/openai/x", CHAT + b" " * number, trace, f"X-Id: {'y' * number}", "Kept: \xe9")
                await client.send(request)
                assert b"".join(await client.read_answer()) == answer.replace(b"Connection: close\r\n", b"")
                expected = request.replace(b"/openai/", b"/").replace(
                    b"Host: sidecar", b"Host: localhost:%d" % rig.upstream.port
                )
                assert seen[-1] == expected
            await rig.final(len(answers))
            assert [event.trace_id for event in rig.records()] == [f"{number:032x}" for number in range(len(answers))]
            assert rig.records()[4].outcome is Outcome.FAILED

    run(test())


def test_an_answer_to_head_is_not_waited_for(tmp_path: Path) -> None:
    """Its head equals that of the GET before it, Content-Length and all, but no body follows."""

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.read_request()
            await peer.send(
                json_answer() if head.startswith(b"GET") else json_answer().partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            )

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            for _ in range(2):
                await client.send(get())
                await client.read_answer()
                await client.send(get(method="HEAD"))
                assert b"200 OK" in await client.read_head()
            assert len(rig.upstream.peers) == 1

    run(test())


def test_a_head_nobody_may_have_is_refused_however_often(tmp_path: Path) -> None:
    config = make_config(tmp_path, "http://localhost:1")
    admission = Admission(config)
    known = admission.admit(HEAD % (1, 10), None)
    for bad in (b"Host: a\r\nHost: a", b"Host: a/b", b"Host: a\r\nTransfer-Encoding: chunked"):
        head = (HEAD % (1, 10)).replace(b"Host: a", bad)
        assert not known.recur(head)
        with pytest.raises(Refusal):
            admission.admit(head, known)
    with pytest.raises(BadResponse):
        read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", MessageEnd())


@pytest.mark.parametrize("pieces", [1, 2])
def test_each_answer_has_the_counts_of_its_own_headers(tmp_path: Path, pieces: int) -> None:
    """The heads differ in nothing else; several come in one turn of the loop, before any is recorded."""
    calls, rounds = 5, 4

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.read_request()
            asked = int(head.partition(b"X-Call: ")[2].partition(b"\r")[0])
            answer = json_answer(
                b'{"outputs":[{"text":"a"}]}',
                f"x-amzn-requestid: id-{asked}",
                f"X-Amzn-Bedrock-Input-Token-Count: {asked}",
                f"x-amzn-bedrock-output-token-count: {asked * 2}",
            )
            await peer.send(*(answer[:-9], answer[-9:])[:pieces] if pieces > 1 else (answer,), pause=0.001)

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            clients = [await rig.connect() for _ in range(calls)]
            for turn in range(rounds):
                for number, client in enumerate(clients):
                    await client.send(post("/openai/model/m/invoke", b"{}", f"X-Call: {turn * calls + number}"))
                for client in clients:
                    await client.read_answer()
            await rig.final(calls * rounds)
            told = {
                (event.response_id, event.usage.input_tokens, event.usage.output_tokens, event.usage_source)
                for event in rig.records()
                if event.usage
            }
            every = range(calls * rounds)
            assert told == {(f"id-{asked}", asked, asked * 2, UsageSource.HEADER) for asked in every}

    run(test())
