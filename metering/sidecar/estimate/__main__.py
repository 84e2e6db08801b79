"""`python -m metering.sidecar.estimate`: the estimator, which the supervisor runs beside the workers.

It listens on a Unix socket in the spool's folder and counts what workers send. Texts are in its memory while they are
counted, and nowhere else: not in what it logs, not in an error, not in a core file.
"""

import argparse
import asyncio
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metering.errors import MeteringError
from metering.sidecar.config import SidecarConfig, load_config
from metering.sidecar.estimate.estimator import Estimator
from metering.sidecar.estimate.server import EstimateServer
from metering.sidecar.estimate.tokenizers import Tokenizers
from metering.sidecar.logline import log

PARENT_SECONDS = 0.5
NICE = 10  # counts may wait for calls


def main(argv: Sequence[str] | None = None) -> int:
    """Run the estimator; the exit code."""
    options = _parse(argv)
    try:
        config = load_config(options.config, options.state_dir)
    except MeteringError as error:
        print(f"metering estimator: {error}", file=sys.stderr)  # noqa: T201 - said once, to whoever started it
        return error.exit_code
    config.spool.dir.mkdir(parents=True, exist_ok=True)
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asyncio.run(run(config, options.parent))
    return 0


async def run(config: SidecarConfig, parent: int | None) -> None:
    """Serve until SIGTERM, or until `parent` is gone; what is being counted then is counted."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # a terminal's Ctrl-C is for the supervisor
    loop.set_exception_handler(_complain)
    server = EstimateServer(Estimator(Tokenizers(config)))
    await server.start(config.spool.dir)
    log("estimator_listening")
    while not stop.is_set() and parent in (None, os.getppid()):
        try:
            async with asyncio.timeout(PARENT_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
    await server.stop()


def _complain(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What went wrong, without a word of what it went wrong with."""
    log("estimator_failed", error=type(context.get("exception")).__name__)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m metering.sidecar.estimate", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--state-dir", type=Path, required=True, help="where the spool is kept unless the file says")
    parser.add_argument("--parent", type=int, help="end when this is not the parent any more")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
