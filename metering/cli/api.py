"""`metering api`: serve statements and usage over HTTP."""

import ipaddress
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer

from metering.cli.context import settings
from metering.cli.ledger_access import ledger_engine
from metering.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command("api")(api)


def api(
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:8780",
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with the token clients must send. Needed beyond this machine."),
    ] = None,
) -> None:
    """Serve statements and usage over HTTP.

    /v1/statements/PERIOD?by=team, /v1/usage?period=PERIOD&by=team, /healthz, /readyz.
    """
    import uvicorn

    from metering.api.access import read_token
    from metering.api.app import create_app
    from metering.core.period import Period, parse_period
    from metering.core.placement import parse_by
    from metering.core.statement import Statement
    from metering.jobs.statement import compose_statement
    from metering.ledger.snapshot import snapshot, watermark

    host, port = parse_listen(listen)
    token = read_token(token_file) if token_file else None
    if token is None and not is_loopback(host):
        raise ConfigError(f"--listen {listen} is open to other machines: give --token-file, or listen on 127.0.0.1")

    def period_of(name: str) -> Period:
        try:
            return parse_period(name, settings().billing_zone)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    with ledger_engine() as engine:

        def compose(period: str, by: str) -> Statement:
            return compose_statement(engine, period_of(period), parse_by(by))

        def check_ready() -> None:
            with snapshot(engine) as connection:
                watermark(connection)

        served = create_app(compose, check_ready, token)
        config = uvicorn.Config(served, log_level="warning", lifespan="off", server_header=False)
        with open_socket(host, port) as listener:
            typer.echo(f"listening on {url_of(listener)}", err=True)
            # uvicorn raises the signal that stopped it once more; taken here, the ledger is released in peace.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            uvicorn.Server(config).run(sockets=[listener])


def parse_listen(listen: str) -> tuple[str, int]:
    """Read HOST:PORT or [IPV6]:PORT; `ConfigError` for anything else."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ConfigError(f"--listen {listen!r} must be HOST:PORT, such as 127.0.0.1:8780")
    return host.removeprefix("[").removesuffix("]"), int(port)


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket; `ConfigError` if that can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"can't listen on {host}:{port} ({error.strerror}): choose another --listen") from None


def url_of(listener: socket.socket) -> str:
    """Where `listener` is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost may point anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
