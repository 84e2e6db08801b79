"""Calls whose usage nobody told, on their way through a worker: two open records, a count, one final."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from metering.core.event import Outcome
from metering.core.usage import Usage, UsageSource
from metering.sidecar.estimate.jobs import SOCKET_NAME, Estimate, Job, Messages, decode_job, encode
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.rig import Rig, chunk, json_answer, post, relaying, run, serve, stream_answer, until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"c-1","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"canary"}}]}\n\n'
PLAIN = (HEAD, *[chunk(EVENT)] * 3, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")
MADE = Usage(input_tokens=8, output_tokens=5)
Answer = Callable[[Job], Estimate | None]


def count(job: Job) -> Estimate:
    return Estimate(number=job.number, usage=MADE, estimator="words 1")


class Listener:
    """What workers ask, on the estimator's socket; `answer` gives None for what is never answered."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.jobs: list[Job] = []
        self.workers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.workers.append(writer)
        messages = Messages()
        while data := await reader.read(65536):
            for message in messages.feed(data):
                self.jobs.append(decode_job(message))
                if (estimate := self.answer(self.jobs[-1])) is not None:
                    writer.write(encode(estimate))
        writer.close()

    def die(self) -> None:
        """As a process that is killed: all its connections are gone."""
        for worker in self.workers:
            worker.transport.abort()
        self.workers.clear()


@contextlib.asynccontextmanager
async def estimating(
    tmp_path: Path, answer: Answer = count, config: str = "", route: str = ""
) -> AsyncIterator[tuple[Rig, Listener]]:
    script = serve(*PLAIN)
    async with relaying(tmp_path, script, config=config, estimates=True, route=route) as rig:
        listener = Listener(answer)
        server = await asyncio.start_unix_server(listener, rig.spool_dir.parent / SOCKET_NAME)
        try:
            yield rig, listener
        finally:
            server.close()
            listener.die()


async def call(rig: Rig) -> bytes:
    peer = await rig.connect(limit=2**20)
    await peer.send(post())
    answer = await peer.reader.readuntil(b"0\r\n\r\n")
    peer.close()
    return answer


def test_a_call_that_told_nothing_is_counted_by_its_texts(tmp_path: Path) -> None:
    async def test() -> None:
        async with estimating(tmp_path) as (rig, listener):
            assert await call(rig) == b"".join(PLAIN)
            event = await rig.final()
            assert (event.usage_source, event.usage, event.estimator) == (UsageSource.ESTIMATED, MADE, "words 1")
            assert (event.outcome, event.status) == (Outcome.COMPLETED, 200)
            opened = rig.records("O")
            assert [each.outcome for each in opened] == [Outcome.INTERRUPTED, Outcome.COMPLETED]
            assert {each.event_id for each in opened} == {event.event_id}
            job = listener.jobs[0]
            assert b'"content":"hi"' in job.request.head
            assert job.answer.head == EVENT * 3 + b"data: [DONE]\n\n"
            assert (job.model, job.route, job.answer.dropped) == ("gpt-4o-mini", "/openai", 0)
            assert rig.relay.tally.estimates_made == 1
            assert [(each.kind.usage_source, each.calls) for each in rig.relay.tally.call_counts] == [("estimated", 1)]

    run(test())


def test_the_client_does_not_wait_for_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with estimating(tmp_path, lambda _: None) as (rig, listener):
            for _ in range(20):
                assert await call(rig) == b"".join(PLAIN)
            await until(lambda: len(listener.jobs) == 8)  # the others wait here, not there
            assert rig.records() == []
            assert rig.relay.tally.estimates_waiting == 20

    run(test())
    # … and a stop, which waits for none of them for long, gives each its row.


@pytest.mark.parametrize("answer", [json_answer(), b"".join(stream_answer())])
def test_calls_that_tell_their_usage_ask_nobody(tmp_path: Path, answer: bytes) -> None:
    async def test() -> None:
        async with estimating(tmp_path) as (rig, listener):
            rig.upstream.script = serve(answer)
            peer = await rig.connect()
            await peer.send(post())
            assert (await rig.final()).usage_source is UsageSource.REPORTED
            assert (len(rig.records("O")), listener.jobs) == (1, [])

    run(test())


@pytest.mark.parametrize("route", ['estimate = "off"', ""])
@pytest.mark.parametrize("path", ["/openai/v1/chat/completions", "/openai/v1/my-own-model"])
def test_who_is_not_counted(tmp_path: Path, path: str, route: str) -> None:
    async def test() -> None:
        async with estimating(tmp_path, route=route) as (rig, listener):
            peer = await rig.connect()
            await peer.send(post(path))
            event = await rig.final()
            counted = not route and path.endswith("completions")
            assert event.usage_source is (UsageSource.ESTIMATED if counted else UsageSource.UNKNOWN)
            assert len(listener.jobs) == counted

    run(test())


def test_a_client_that_left_early_is_counted_as_far_as_it_came(tmp_path: Path) -> None:
    async def test() -> None:
        async with estimating(tmp_path, route='on_client_abort = "cancel"') as (rig, listener):
            rig.upstream.script = serve(*PLAIN[:2], pause=0.01)
            peer = await rig.connect()
            await peer.send(post())
            await peer.reader.readuntil(b"canary")
            peer.reset()
            event = await rig.final()
            assert (event.outcome, event.usage_source) == (Outcome.ABORTED, UsageSource.ESTIMATED)
            assert listener.jobs[0].answer.head == EVENT

    run(test())


def test_what_the_estimator_refuses_is_unknown(tmp_path: Path) -> None:
    async def test() -> None:
        async with estimating(tmp_path, lambda job: Estimate(number=job.number, refused="no text")) as (rig, _):
            await call(rig)
            event = await rig.final()
            assert (event.usage_source, event.usage, event.outcome) == (UsageSource.UNKNOWN, None, Outcome.COMPLETED)
            assert rig.relay.tally.estimates_refused_uncountable == 1

    run(test())


def test_when_too_many_wait_a_call_is_unknown_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with estimating(tmp_path, lambda _: None, "[estimate]\nwaiting_calls = 2") as (rig, _):
            for _ in range(3):
                await call(rig)
            assert (await rig.final()).usage_source is UsageSource.UNKNOWN
            tally = rig.relay.tally
            assert (tally.estimates_waiting, tally.estimates_refused_full) == (2, 1)

    run(test())


def test_a_count_that_is_late_is_none(tmp_path: Path) -> None:
    async def test() -> None:
        async with estimating(tmp_path, lambda _: None, "[estimate]\nwait_seconds = 0.05") as (rig, listener):
            await call(rig)
            assert (await rig.final()).usage_source is UsageSource.UNKNOWN
            assert rig.relay.tally.estimates_refused_late == 1
            listener.workers[0].write(encode(count(listener.jobs[0])))  # now it comes
            listener.answer = count
            await call(rig)
            assert (await rig.final(2)).usage_source is UsageSource.ESTIMATED

    run(test())


def test_an_estimator_that_dies_takes_what_it_had_and_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with estimating(tmp_path, lambda _: None) as (rig, listener):
            for _ in range(10):
                await call(rig)
            await until(lambda: len(listener.jobs) == 8)
            listener.answer = count
            listener.die()
            await rig.final(10)
            sources = [event.usage_source for event in rig.records()]
            assert (sources.count(UsageSource.UNKNOWN), sources.count(UsageSource.ESTIMATED)) == (8, 2)
            assert (rig.relay.tally.estimates_refused_away, rig.relay.tally.estimates_made) == (8, 2)

    run(test())


def test_one_that_comes_later_finds_who_waits(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(*PLAIN), estimates=True) as rig:
            await call(rig)
            server = await asyncio.start_unix_server(Listener(count), rig.spool_dir.parent / SOCKET_NAME)
            assert (await rig.final()).usage_source is UsageSource.ESTIMATED
            server.close()

    run(test())


def test_a_stop_gives_each_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.sidecar.relay.relay.SETTLE_SECONDS", 0.05)

    async def test() -> None:
        async with estimating(tmp_path, lambda _: None) as (rig, _):
            await call(rig)
        (event,) = rig.records()
        assert (event.usage_source, event.outcome) == (UsageSource.UNKNOWN, Outcome.COMPLETED)

    run(test())


def test_a_kill_before_the_count_leaves_the_row_as_it_was_known(tmp_path: Path) -> None:
    """The last open record is the row: completed, not interrupted."""

    async def test() -> None:
        async with estimating(tmp_path, lambda _: None) as (rig, _):
            await call(rig)
            await until(lambda: len(rig.records("O")) == 2)
            killed = tmp_path / "killed"
            killed.mkdir()
            for segment in rig.spool_dir.glob("*.seg"):
                (killed / segment.name).write_bytes(segment.read_bytes())
        spool = SpoolWriter.open(killed)
        assert spool.measure().interrupted == 1
        spool.close()
        rows = Rig(rig.relay, rig.upstream, 0, killed).records()
        assert [(row.outcome, row.status, row.usage_source) for row in rows] == [
            (Outcome.COMPLETED, 200, UsageSource.UNKNOWN)
        ]

    run(test())


def test_long_streams_are_kept_as_far_as_there_is_an_allowance(tmp_path: Path) -> None:
    long = (HEAD, *[chunk(EVENT * 50)] * 40, b"0\r\n\r\n")  # 200 kB

    async def test() -> None:
        async with estimating(tmp_path, config='[estimate]\nkept_bytes = "300KB"') as (rig, listener):
            rig.upstream.script = serve(*long)
            allowance = next(iter(rig.relay.admission.table.routes)).allowance
            assert allowance is not None
            before = allowance.left
            await call(rig)
            await rig.final()
            assert (listener.jobs[0].answer.dropped, len(listener.jobs[0].answer.head)) == (0, 2000 * len(EVENT))
            await until(lambda: allowance.left == before)
            allowance.left = 40_000
            await call(rig)
            await rig.final(2)
            answer = listener.jobs[1].answer
            assert 16_000 < len(answer.head) < 40_000
            assert len(answer.head) + len(answer.tail) + answer.dropped == 2000 * len(EVENT)

    run(test())
