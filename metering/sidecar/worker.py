"""One worker process: `python -m metering.sidecar.worker --config FILE`.

The supervisor starts it with a listening socket and a control socket; without them it binds the configured
address itself. SIGTERM drains: no new connections, calls in flight finish, the spool is synced, exit 0. What the
supervisor can ask for besides is in `control`.
"""

import argparse
import asyncio
import gc
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from metering.errors import MeteringError, SpoolLocked
from metering.sidecar.config import SidecarConfig, load_config
from metering.sidecar.control import Ending, WorkerControl
from metering.sidecar.listen import bind
from metering.sidecar.logline import log
from metering.sidecar.relay.relay import Relay
from metering.sidecar.spool.writer import SpoolWriter

BACKLOG = 2048
SPOOLS_MAX = 16
ACCEPT_SECONDS = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Run one worker; the exit code."""
    options = _parse(argv)
    try:
        config = load_config(options.config, options.state_dir)
        spool = open_spool(config, options.number)
        listener = bind(config.listen) if options.listen_fd is None else socket.socket(fileno=options.listen_fd)
        control = None if options.control_fd is None else socket.socket(fileno=options.control_fd)
        relay = Relay(config, spool, estimates=config.estimates and control is not None)
    except MeteringError as error:
        print(f"metering sidecar: {error}", file=sys.stderr)  # noqa: T201 - said once, to whoever started it
        return error.exit_code
    _raise_file_limit()
    # What start-up made lives as long as the process: the collector need not look at it again. Calls leave no
    # cycles behind (each end lets go of the other), so collecting seldom is enough.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    uvloop.run(run(relay, spool, listener, control, config))
    log("worker_stopped", number=options.number)
    return 0


def open_spool(config: SidecarConfig, number: int) -> SpoolWriter:
    """Worker `number`'s spool, or the next one nobody writes: a predecessor may still be draining on it."""
    for candidate in range(number, number + SPOOLS_MAX * config.workers, config.workers):
        try:
            return SpoolWriter.open(
                config.spool.dir / f"worker-{candidate}",
                segment_bytes=config.spool.segment_bytes,
                max_bytes=config.spool.max_bytes,
            )
        except SpoolLocked as error:
            log("spool_taken", error=str(error))
    raise SpoolLocked(f"{SPOOLS_MAX} spools in {config.spool.dir} are in use: stop the sidecars that run there")


async def run(
    relay: Relay, spool: SpoolWriter, listener: socket.socket, control: socket.socket | None, config: SidecarConfig
) -> None:
    """Serve until SIGTERM, SIGINT or the supervisor's end; then drain."""
    loop = asyncio.get_running_loop()
    ending = Ending()
    loop.add_signal_handler(signal.SIGTERM, ending.stop)
    # A Ctrl-C in a terminal reaches the whole group; a worker with a supervisor waits for that one's word.
    loop.add_signal_handler(signal.SIGINT, ending.stop if control is None else _ignore)
    spool.start_syncing(loop)
    server = await loop.create_server(relay.accept, sock=listener, backlog=BACKLOG)
    supervisor = WorkerControl(relay.count, ending)
    if control is not None:
        await loop.create_connection(lambda: supervisor, sock=control)
    sweeping = loop.create_task(relay.sweep_forever())
    host, port = listener.getsockname()[:2]
    log("worker_listening", host=host, port=port)
    await ending.begun.wait()
    if not ending.patient:
        await asyncio.sleep(ACCEPT_SECONDS)  # who waits in the kernel's queue would be reset by the close
    server.close()
    await relay.stop(config.drain_seconds, ending)
    sweeping.cancel()
    spool.close()
    supervisor.tell()
    await asyncio.sleep(0)  # it leaves


def _ignore() -> None:
    pass


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m metering.sidecar.worker", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--state-dir", type=Path, required=True, help="where the spool is kept unless the file says")
    parser.add_argument("--number", type=int, default=0, help="of this worker; its spool is worker-<number>")
    parser.add_argument("--listen-fd", type=int, help="an inherited listening socket")
    parser.add_argument("--control-fd", type=int, help="an inherited socket to the supervisor")
    return parser.parse_args(argv)


def _raise_file_limit() -> None:
    """A call takes two descriptors; the usual soft limit of 1,024 is a limit on calls."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    raise SystemExit(main())
