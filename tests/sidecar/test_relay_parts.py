"""What other models take in a call: rows of their own, and of each call exactly one that is not a part."""

import asyncio
import errno
import os
import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from metering.core.event import UsageEvent
from metering.jobs.check_dialects import Recording
from metering.sidecar.spool.disk import DISK
from tests.sidecar.rig import Peer, Rig, json_answer, post, relaying, run, until

ADVISED = Path(__file__).parents[1] / "recordings" / "anthropic.messages" / "body_compacted_and_advised.json"
CALLS = 24


def advised() -> bytes:
    return msgspec.json.decode(ADVISED.read_bytes(), type=Recording).body


async def ask_all(rig: Rig) -> None:
    """Calls at once, every other one to two models."""

    async def ask(number: int) -> None:
        path = "/openai/v1/messages" if number % 2 else "/openai/v1/chat/completions"
        peer = await rig.connect()
        await peer.send(post(path, b"{}", f"traceparent: 00-{number:032x}-{1:016x}-01"))
        await peer.read_answer()
        peer.close()

    await asyncio.gather(*(ask(number) for number in range(1, CALLS + 1)))


async def answer(peer: Peer) -> None:
    """After a while, so that the calls end in the same turns of the loop."""
    while True:
        head, _ = await peer.read_request()
        await asyncio.sleep(0.05)
        await peer.send(json_answer(advised()) if b"/v1/messages" in head else json_answer())


def check(events: list[UsageEvent]) -> None:
    calls = {event.event_id: event for event in events if event.part_of is None}
    assert Counter(event.trace_id for event in calls.values()) == {
        f"{number:032x}": 1 for number in range(1, CALLS + 1)
    }
    assert len({event.event_id for event in events}) == len(events)
    parts = [event for event in events if event.part_of is not None]
    assert len(parts) >= CALLS / 2
    for part in parts:
        call = calls[part.part_of] if part.part_of is not None else part
        assert (part.started_at, part.trace_id, part.outcome) == (call.started_at, call.trace_id, call.outcome)
        assert call.dialect == "anthropic.messages"
    assert len({Counter(part.part_of for part in parts)[call.event_id] for call in calls.values()}) == 2


def test_each_call_has_one_row_that_is_no_part(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, answer) as rig:
            await ask_all(rig)
            await until(lambda: len(rig.records()) > CALLS)
            check(rig.records())
            assert sum(count.calls for count in rig.relay.count().call_counts) == CALLS

    run(test())


@pytest.mark.parametrize("seed", range(8))
def test_on_a_disk_that_takes_some_of_it(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    room: list[int | None] = [None]  # bytes the disk takes before it is full

    def write(fd: int, data: bytes) -> int:
        if room[0] is None:
            return os.write(fd, data)
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "no space")
        taken = os.write(fd, data[: room[0]])
        room[0] -= taken
        return taken

    async def fill(rig: Rig) -> None:
        await until(lambda: len(rig.records("O")) == CALLS)
        room[0] = dice.randrange(20_000)
        await until(lambda: rig.relay.tally.calls_in_flight == 0)
        room[0] = None

    async def test() -> None:
        async with relaying(tmp_path, answer, disk=msgspec.structs.replace(DISK, write=write)) as rig:
            await asyncio.gather(ask_all(rig), fill(rig))
            await until(lambda: rig.relay.count().spool_degraded == 0)
            await until(lambda: sum(event.part_of is None for event in rig.records()) == CALLS)
            check(rig.records())

    run(test())
