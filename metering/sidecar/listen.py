"""Listening sockets that several workers share."""

import socket

from metering.errors import ConfigError
from metering.sidecar.config import Address, SidecarConfig


def bind(address: Address) -> socket.socket:
    """Bind, not yet listening. SO_REUSEPORT: the kernel spreads connections over the workers' sockets."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(place)
    except OSError as error:
        where = f"{address.host}:{address.port}"
        raise ConfigError(
            f"can't listen on {where} ({error.strerror}): choose another address or stop its user"
        ) from None
    sock.settimeout(0)
    return sock


def bind_all(config: SidecarConfig) -> list[socket.socket]:
    """One socket a worker, all at one address."""
    first = bind(config.listen)
    address = Address(config.listen.host, first.getsockname()[1])  # port 0: all share the one found
    return [first, *(bind(address) for _ in range(config.workers - 1))]


def name_of(sock: socket.socket | None) -> str | None:
    """Its host and port."""
    return None if sock is None else "{}:{}".format(*sock.getsockname()[:2])
