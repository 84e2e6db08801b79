"""Open record before the first byte goes upstream, final record before the last byte is released."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from metering.core.event import Outcome, UsageEvent
from metering.core.usage import UsageSource
from metering.errors import SpoolError, SpoolFull
from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.rig import ANSWER, CHAT, Peer, get, json_answer, post, relaying, run, serve, stream_answer


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("streamed", [False, True])
def test_order_of_records_and_bytes(tmp_path: Path, durability: str, streamed: bool) -> None:
    seen: list[UsageEvent] = []

    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.reader.readexactly(1)
            seen.extend(rig.records("O"))
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(*(stream_answer() if streamed else [json_answer()]), pause=0.01)

        async with relaying(tmp_path, script, config=f'[spool]\ndurability = "{durability}"') as rig:
            peer = await rig.connect()
            await peer.send(post())
            finals_when_not_last: list[int] = []
            data = b""
            end = b"0\r\n\r\n" if streamed else ANSWER
            while not data.endswith(end):
                finals_when_not_last.append(len(rig.records()))
                data += await peer.reader.read(65536)
            event = await rig.final()
            assert finals_when_not_last[0] == 0
            assert [(e.event_id, e.outcome, e.usage_source) for e in seen] == [
                (event.event_id, Outcome.INTERRUPTED, UsageSource.UNKNOWN)
            ]
            assert seen[0].request_model == event.request_model == "gpt-4o-mini"

    run(test())


def test_last_byte_waits_for_the_final_record(tmp_path: Path) -> None:
    """When the client has the last byte, the final is in the file: looked at without a turn of the loop."""

    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer())) as rig:
            for number in range(1, 20):
                peer = await rig.connect()
                await peer.send(post())
                await peer.read_answer()
                assert len(rig.records()) == number

    run(test())


@pytest.mark.parametrize(("background", "source"), [("false", UsageSource.NONE), ("true", UsageSource.REPORTED)])
def test_a_look_at_an_earlier_answer_counts_nothing(tmp_path: Path, background: str, source: UsageSource) -> None:
    """A response is told again on every GET; only one made in the background has not told its usage before."""
    usage = '{"input_tokens":3,"output_tokens":4,"total_tokens":7}'
    body = f'{{"id":"resp_1","object":"response","status":"completed","background":{background},"usage":{usage}}}'

    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer(body.encode()))) as rig:
            await rig.ask(get("/openai/v1/responses/resp_1", "Connection: close"))
            event = await rig.final()
            assert (event.usage_source, event.usage is None) == (source, source is UsageSource.NONE)
            assert event.outcome is Outcome.COMPLETED

    run(test())


class RefusingSpool(SpoolWriter):
    """A real spool that says what a full disk says, for as long as `full` is set."""

    full = ""

    def append_turn(self, events: Sequence[UsageEvent], opened: int) -> int:
        return 0 if self.full else super().append_turn(events, opened)

    def append_open(self, event: UsageEvent) -> int:
        if "open" in self.full:
            raise SpoolFull("the disk is full")
        return super().append_open(event)

    def append_final(self, event: UsageEvent) -> int:
        if "final" in self.full:
            raise SpoolError("the disk is broken")
        return super().append_final(event)


@pytest.mark.parametrize(("full", "unmetered", "late"), [("open final", 1, 0), ("open", 0, 0), ("final", 0, 1)])
def test_failing_spool_lets_traffic_flow_and_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str, unmetered: int, late: int
) -> None:
    monkeypatch.setattr("tests.sidecar.rig.SpoolWriter", RefusingSpool)
    monkeypatch.setattr(RefusingSpool, "full", full)

    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer())) as rig:
            peer = await rig.connect()
            await peer.send(post())
            assert (await peer.read_answer())[1] == ANSWER
            tally = rig.relay.count()
            assert (tally.unmetered_calls, tally.late_finals) == (unmetered, late)
            assert [(count.kind.outcome, count.calls) for count in tally.call_counts] == [("completed", 1)]

    run(test())


def test_failing_spool_refuses_new_calls_when_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sidecar.rig.SpoolWriter", RefusingSpool)
    monkeypatch.setattr(RefusingSpool, "full", "open")

    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer()), config='[spool]\non_full = "refuse"') as rig:
            answer, _ = await rig.ask(post())
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"spool is full" in answer
            assert not rig.upstream.peers
            monkeypatch.setattr(RefusingSpool, "full", "")
            assert (await rig.ask(post("/openai/v1/chat/completions", CHAT, "Connection: close")))[0].endswith(ANSWER)

    run(test())


def test_calls_that_consume_nothing_are_recorded_as_such(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer(b'{"data":[]}'))) as rig:
            peer = await rig.connect()
            await peer.send(get())
            await peer.read_answer()
            event = await rig.final()
            assert event.usage_source is UsageSource.NONE
            assert event.outcome is Outcome.COMPLETED

    run(test())


def test_nothing_of_prompt_answer_or_secret_is_in_spool_or_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = "CANARY-7f3a"
    body = CHAT.replace(b"hi", canary.encode())

    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer(ANSWER.replace(b"hello", canary.encode())))) as rig:
            for path in (
                "/openai/v1/chat/completions",
                f"/openai/{canary}?q={canary}",
                f"/k/{canary}/openai",
                f"/{canary}",
            ):
                await rig.ask(
                    post(path, body, f"Authorization: Bearer {canary}", f"X-{canary}: 1", "Connection: close")
                )
            await rig.ask(post("/openai/x", body, f"x-metering-key: {canary}"))
            await rig.ask(f"GET /openai/{canary} HTTP/1.1\r\nHost: a\nX: {canary}\r\n\r\n".encode())
            await rig.final(2)
            spool = b"".join(path.read_bytes() for path in rig.spool_dir.rglob("*") if path.is_file())
            assert canary.encode() not in spool

    run(test())
    assert canary not in "".join(capfd.readouterr())


def test_upstream_that_is_not_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve()) as rig:
            assert rig.upstream._server is not None
            rig.upstream._server.close()
            await asyncio.sleep(0.02)
            peer = await rig.connect()
            for number in (1, 2):
                await peer.send(post())
                head, body = await peer.read_answer()
                assert head.startswith(b"HTTP/1.1 502 ")
                assert b"application/problem+json" in head
                assert b"can't be reached" in body
                event = await rig.final(number)
                assert (event.outcome, event.usage_source, event.status) == (Outcome.FAILED, UsageSource.NONE, None)

    run(test())
