"""What hostile upstreams answer: 502 or a visible cut, one row, and never a byte of it in another call's answer."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.core.event import Outcome
from metering.core.usage import UsageSource
from tests.sidecar.hostile.answers import ANSWERS, EVIL, OK, Answer
from tests.sidecar.rig import ANSWER, Peer, Rig, get, json_answer, post, relaying, run, until

LIMITS = "[limits]\nhalf_close_seconds = 5"
CASE_SECONDS = 5


class HostileUpstream:
    """Gives `answer` to `/hostile` and a proper one, which tells the connection's number, to everything else."""

    def __init__(self) -> None:
        self.answer = ANSWERS[0]
        self.torn = False

    async def serve(self, peer: Peer) -> None:
        while True:
            head = (await peer.read_request())[0]
            if b" /hostile " not in head:
                await peer.send(json_answer())
            elif self.torn:
                await peer.send(*[self.answer.raw[at : at + 1] for at in range(min(len(self.answer.raw), 3000))])
                await peer.send(self.answer.raw[3000:])
            else:
                await peer.send(self.answer.raw)


async def ask(rig: Rig, answer: Answer) -> tuple[bytes, str]:
    """What a client that says it will close gets to see, and how it ends."""
    peer = await rig.connect()
    await peer.send(get("/openai/hostile", "Connection: close", method="HEAD" if answer.head_request else "GET"))
    async with asyncio.timeout(CASE_SECONDS):
        seen = await peer.read_rest()
    peer.close()
    return seen


def judge(answer: Answer, seen: bytes, end: str) -> Iterator[str]:
    """What is wrong with what a client saw."""
    seen = seen.replace(b"Connection: close\r\n", b"")
    if answer.cut and answer.raw.startswith(seen) and end == "reset":
        return
    if answer.passed is not None:
        if (seen, end) != (answer.passed, "eof"):
            yield f"passed on {seen!r}, then {end}"
    elif b"HTTP/1.1 502 " not in seen or b"HTTP/1.1 200 " in seen:
        yield f"neither 502 nor cut: {seen[-300:]!r}, then {end}"


@pytest.mark.parametrize("torn", [False, True])
def test_hostile_answers_stay_with_their_call(tmp_path: Path, torn: bool) -> None:
    upstream, wrong = HostileUpstream(), dict[str, list[str]]()
    upstream.torn = torn

    async def test() -> None:
        async with relaying(tmp_path, upstream.serve, config=LIMITS) as rig:
            for number, answer in enumerate(ANSWERS, 1):
                upstream.answer = answer
                try:
                    found = list(judge(answer, *await ask(rig, answer)))
                except TimeoutError:
                    found = ["nothing came of it"]
                other = await rig.connect()
                await other.send(post())
                if (await other.read_answer())[1] != ANSWER:
                    found.append("the next call got another answer")
                other.close()
                if found:
                    wrong[answer.name] = found
                await rig.final(2 * number)
            assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
            failed = sum(answer.passed is None or (answer.cut and not torn) for answer in ANSWERS)
            bad = [event for event in rig.records() if event.outcome is Outcome.FAILED]
            assert len(bad) == failed
            assert {event.usage_source for event in bad} == {UsageSource.UNKNOWN}

    run(test(), seconds=120)


def test_answers_nobody_asked_for_close_the_connection(tmp_path: Path) -> None:
    """An upstream that speaks before it is asked, and then answers; and one that goes on speaking."""

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.send(EVIL)
        await peer.read_request()
        await peer.send(json_answer(), pause=0.02)
        await peer.send(EVIL)
        await peer.read_rest()

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            for number in range(1, 5):
                await client.send(post())
                head, body = await client.read_answer()
                # The greeting may look like the first one's answer; the real one then is nobody's.
                assert body == ANSWER or (number == 1 and (body == b"evil" or b" 502 " in head))
                await rig.final(number)
                await until(lambda: not rig.relay.count().upstream_connections)

    run(test())


def test_an_upstream_that_leaves_or_speaks_as_it_is_reached(tmp_path: Path) -> None:
    """Its connection is dead before the call has it: the call must not wait on it."""

    async def script(peer: Peer) -> None:
        if peer.number % 2:
            peer.reset()
        else:
            await peer.send(b"x" * 100)
            peer.close()

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            for number in range(1, 31):
                await client.send(post())
                assert (await client.read_answer())[0].startswith(b"HTTP/1.1 502 ")
                assert (await rig.final(number)).outcome is Outcome.FAILED

    run(test())


def test_a_cut_is_visible_even_when_its_length_is_not_known(tmp_path: Path) -> None:
    raw = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(raw, pause=0.02)
        await peer.send(b"xyz\r\n")

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            assert await rig.ask(post()) == (raw, "reset")
            assert (await rig.final()).outcome is Outcome.FAILED

    run(test())
