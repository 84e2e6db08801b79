"""The corpus: what is in doubt is refused and nothing of it is a request upstream; the rest arrives as itself."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.sidecar.hostile import chunks, connections, encodings, heads, lengths, targets
from tests.sidecar.hostile.case import BEHIND, Case, post
from tests.sidecar.hostile.corpus import CASES
from tests.sidecar.hostile.oracles import ORACLES, Seen
from tests.sidecar.rig import Peer, Rig, cut, relaying, run

FAMILIES = {module.__name__.rpartition(".")[2]: module.CASES for module in (
    lengths, encodings, chunks, heads, targets, connections)}  # fmt: skip
CASE_SECONDS = 5
ANSWERED_BEHIND = b"\r\n\r\n/behind"


class StrictUpstream:
    """Answers each request that both oracles see alike with its target; keeps what each of them saw."""

    def __init__(self) -> None:
        self.seen: list[list[Seen]] = [[] for _ in ORACLES]
        self.broken: list[str] = []

    async def serve(self, peer: Peer) -> None:
        oracles = [oracle() for oracle in ORACLES]
        while data := await peer.reader.read(65536):
            try:
                found = [oracle.feed(data) for oracle in oracles]
            except Exception as error:  # noqa: BLE001 - whatever an oracle says against what it was sent
                self.broken.append(repr(error))
                return
            for all_seen, seen in zip(self.seen, found, strict=True):
                all_seen.extend(seen)
            for request in found[0]:
                await peer.send(_answer(request))


def _answer(request: Seen) -> bytes:
    body = b"" if request.method == b"HEAD" else request.target
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(request.target), body)


def torn(data: bytes) -> list[bytes]:
    """`data` in pieces of one to five bytes."""
    return cut(data, islice(cycle((1, 3, 1, 2, 5)), len(data)))


async def send(rig: Rig, pieces: list[bytes], last: bytes = ANSWERED_BEHIND) -> bytes:
    """What a client gets, up to `last`, the answer to the request behind, or to the connection's end."""
    peer = await rig.connect()
    answer = b""
    with contextlib.suppress(ConnectionError):  # refused before all was sent
        await peer.send(*pieces)
    async with asyncio.timeout(CASE_SECONDS):
        while not answer.endswith(last) and (piece := await peer.reader.read(65536)):
            answer += piece
    peer.close()
    return answer


def judge(case: Case, answer: bytes, upstream: StrictUpstream) -> Iterator[str]:
    """What is wrong with what came of a case."""
    if upstream.broken:
        yield f"upstream got {upstream.broken}"
    expected = [] if case.status else [Seen(case.method, case.target, case.body)]
    if not case.status and not case.closes:
        expected.append(Seen(b"GET", b"/behind", b""))
    for oracle, seen in zip(ORACLES, upstream.seen, strict=True):
        if seen != expected:
            yield f"{oracle.__name__} sees {seen}"
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
    if statuses != ([case.status] if case.status else [200] * len(expected)):
        yield f"the client sees {statuses}"
    if case.status and b"\r\nConnection: close\r\n" not in answer:
        yield "the connection is not said to close"


@pytest.mark.parametrize("pieces", [lambda data: [data], torn], ids=["whole", "torn"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_case_comes_to_what_it_should(
    tmp_path: Path, family: str, pieces: Callable[[bytes], list[bytes]]
) -> None:
    upstream = StrictUpstream()
    wrong: dict[str, list[str]] = {}

    async def test() -> None:
        async with relaying(tmp_path, upstream.serve) as rig:
            for case in FAMILIES[family]:
                upstream.seen, upstream.broken = [[] for _ in ORACLES], []
                try:
                    answer = await send(rig, pieces(case.sent))
                except TimeoutError:
                    wrong[case.name] = ["nothing came of it"]
                    continue
                if found := list(judge(case, answer, upstream)):
                    wrong[case.name] = found
            assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
            completed = [event for event in rig.records() if event.status == 200]
            assert len(completed) == sum(0 if case.status else 2 - case.closes for case in FAMILIES[family])

    run(test(), seconds=120)


@pytest.mark.parametrize("name", ["x-team", "X-Team"])
def test_a_header_the_route_trusts_is_no_trailer(tmp_path: Path, name: str) -> None:
    upstream = StrictUpstream()
    raw = post(lengths.TE, body=b"5\r\nhello\r\n0\r\n%s: search\r\n\r\n" % name.encode())

    async def test() -> None:
        async with relaying(tmp_path, upstream.serve, route='trusted_headers = { team = "X-Team" }') as rig:
            assert (await send(rig, [raw + BEHIND])).startswith(b"HTTP/1.1 400 ")
            assert upstream.seen == [[], []]

    run(test())


def test_the_corpus_is_large_and_every_case_is_its_own() -> None:
    assert len(CASES) >= 500
    assert len({case.raw for case in CASES}) == len({case.name for case in CASES}) == len(CASES)
    assert all(case.why for case in CASES)
