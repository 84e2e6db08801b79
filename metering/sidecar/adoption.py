"""Spools nobody writes any more: of workers that are gone, and of a former sidecar that had more of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from metering.errors import MeteringError, SpoolLocked
from metering.sidecar.config import SpoolConfig
from metering.sidecar.logline import log
from metering.sidecar.spool.writer import SpoolWriter

ADOPT_SECONDS = 30.0
LOOK_SECONDS = 0.1


async def adopt_forever(config: SpoolConfig, is_ready: Callable[[], bool], died: asyncio.Event) -> None:
    """Finish the calls in such spools, once their locks are free; all are looked at again when a worker `died`."""
    finished: set[Path] = set()
    while True:
        if not is_ready():  # first our own workers take theirs
            await asyncio.sleep(LOOK_SECONDS)
            continue
        if died.is_set():
            died.clear()
            finished.clear()
        for directory in sorted(config.dir.glob("worker-*")):
            if directory not in finished and await asyncio.to_thread(_adopt, directory, config.max_bytes):
                finished.add(directory)
        try:
            async with asyncio.timeout(ADOPT_SECONDS):
                await died.wait()
        except TimeoutError:
            pass


def _adopt(directory: Path, max_bytes: int) -> bool:
    """Recover a spool; False if it is in use."""
    try:
        SpoolWriter.open(directory, max_bytes=max_bytes).close()
    except SpoolLocked:
        return False
    except MeteringError as error:
        log("spool_not_recovered", directory=str(directory), error=str(error))
        return False
    return True
