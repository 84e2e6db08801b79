"""A program: start a spool's writer, kill it at a random moment, again and again; print what was acknowledged.

`python -m tests.sidecar.spool_killing DIRECTORY ROUNDS SEED` prints one JSON object, of lists of call numbers:
`opened` and `finished` were acknowledged, `attempted` may be there. It forks, so it runs in a process of its own.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from metering.sidecar.spool.writer import SpoolWriter
from tests.sidecar.spool_calls import finished, opened

LONGEST = 100_000  # calls a round could make


async def write(directory: Path, acknowledge: int, first: int, chance: random.Random) -> None:
    """Append calls as fast as it goes, several in flight, each append told through the pipe once it returned."""
    writer = SpoolWriter.open(directory, segment_bytes=20_000)
    os.write(acknowledge, b"up 0\n")
    writer.start_syncing(asyncio.get_running_loop())
    flying: list[int] = []
    for number in range(first, first + LONGEST):
        os.write(acknowledge, b"try %d\n" % number)
        writer.append_open(opened(number))
        os.write(acknowledge, b"open %d\n" % number)
        flying.append(number)
        if chance.random() < 0.2:
            writer.append_open(opened(number, model="amended"))
        while len(flying) > 8 or (flying and chance.random() < 0.5):
            done = flying.pop(chance.randrange(len(flying)))
            writer.append_final(finished(done))
            os.write(acknowledge, b"final %d\n" % done)
        if chance.random() < 0.05:
            await asyncio.sleep(0)


def kill_one(directory: Path, first: int, chance: random.Random) -> list[bytes]:
    """Start a writer, kill it after a random time, and return what it had told."""
    reader, acknowledge = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        asyncio.run(write(directory, acknowledge, first, chance))
        os._exit(1)
    os.close(acknowledge)
    pause = chance.random() ** 2 * 0.06
    with os.fdopen(reader, "rb") as told:
        lines: list[bytes] = []
        if chance.random() < 0.8:
            lines.append(told.readline())  # else it may die while it recovers
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        lines += told.read().splitlines(keepends=True)
    os.waitpid(child, 0)
    return [line for line in lines if line.endswith(b"\n")]


def main(directory: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    heard: dict[str, list[int]] = {"try": [], "open": [], "final": [], "up": []}
    for turn in range(rounds):
        for line in kill_one(directory, turn * LONGEST, chance):
            word, number = line.split()
            heard[word.decode()].append(int(number))
    SpoolWriter.open(directory, segment_bytes=20_000).close()
    json.dump({"attempted": heard["try"], "opened": heard["open"], "finished": heard["final"]}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
