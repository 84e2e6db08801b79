"""Find the route of a request: by the longest path prefix that ends at a segment, else by host."""

import ssl
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from metering.core.dialects import Allowance, Operation
from metering.core.event import Attribution
from metering.errors import ConfigError
from metering.sidecar.config import KeyConfig
from metering.sidecar.providers import Stops, find_provider
from metering.sidecar.relay.attribution import attribute
from metering.sidecar.route_config import RouteConfig


class Destination:
    """An address calls go to, and how to trust it. Routes with the same one share its connections."""

    __slots__ = ("host", "name", "port", "tls", "trust")

    def __init__(self, host: str, port: int, trust: ssl.SSLContext | None) -> None:
        self.host = host
        self.port = port
        self.trust = trust
        self.tls = trust is not None
        self.name = f"{host}:{port}"


class Route:
    """A route with everything a call needs from it worked out beforehand."""

    __slots__ = (
        "_drains_all",
        "_stops",
        "allowance",
        "asks",
        "attributions",
        "base_path",
        "config",
        "destination",
        "host_line",
        "name",
        "prefix",
        "trusted",
    )

    def __init__(self, config: RouteConfig, destination: Destination, keys: Iterable[KeyConfig]) -> None:
        self.config = config
        self.destination = destination
        self.allowance: Allowance | None = None  # for texts, if the route's calls may be counted by them
        self.name = config.name
        self.prefix = (config.path or "").encode()
        self.base_path = config.upstream.base_path.encode()
        self.host_line = b"\r\nHost: " + config.upstream.authority.encode()
        if config.sign is not None and find_spec("botocore") is None:
            raise ConfigError(f"route {self.name}: sign = \"aws\" needs botocore: pip install 'metering[aws]'")
        provider = find_provider(config.provider)
        self.asks = config.ask_usage == "on" or (config.ask_usage == "auto" and provider.asked)
        self._drains_all = config.on_client_abort == "drain"
        self._stops = provider.stops if config.on_client_abort == "auto" else Stops.ALWAYS
        self.trusted = {header.encode(): label for label, header in config.trusted_headers.items()}
        self.attributions: dict[str | None, Attribution] = {None: attribute(None, config.labels)}
        for key in keys:
            self.attributions[key.id] = attribute(key, config.labels)

    def drains(self, operation: Operation, *, streamed: bool) -> bool:
        """Whether a call is read on to its usage after its client left: it is billed whole, and its usage readable."""
        if self._drains_all or not operation.consumes:
            return self._drains_all
        return self._stops is Stops.NEVER or (self._stops is Stops.STREAMS and not streamed)

    def upstream_target(self, path: bytes, query: bytes) -> bytes:
        """The request target for the upstream; `query` begins with its question mark. Nothing is re-encoded."""
        return (self.base_path + path[len(self.prefix) :] or b"/") + query


class RouteTable:
    """All routes of the configuration."""

    def __init__(self, routes: Sequence[RouteConfig], keys: Sequence[KeyConfig]) -> None:
        self.by_path: dict[bytes, Route] = {}
        self.by_host: dict[bytes, Route] = {}
        destinations: dict[tuple[str, int, bool, Path | None], Destination] = {}
        trusts: dict[Path | None, ssl.SSLContext] = {}
        for config in routes:
            upstream = config.upstream
            place = (upstream.host, upstream.port, upstream.tls, config.ca_file)
            if upstream.tls and config.ca_file not in trusts:
                trusts[config.ca_file] = _trust(config.ca_file)
            if place not in destinations:
                trust = trusts[config.ca_file] if upstream.tls else None
                destinations[place] = Destination(upstream.host, upstream.port, trust)
            route = Route(config, destinations[place], keys)
            if config.path is not None:
                self.by_path[route.prefix] = route
            else:
                self.by_host[(config.host or "").encode()] = route
        self._segments_max = max((prefix.count(b"/") for prefix in self.by_path), default=0)

    def allow(self, allowance: Allowance) -> None:
        """Keep texts of the calls of all routes that estimate, together within `allowance`."""
        for route in self.routes:
            if route.config.estimate:
                route.allowance = allowance

    def match(self, path: bytes, host: bytes) -> Route | None:
        """The route for a path (without query) and a lower-case host (without port); None if there is none.

        The cost grows with the segments of the longest prefix, not with the number of routes.
        """
        found, end = self.by_path.get(b""), 0
        for _ in range(self._segments_max):
            end = path.find(b"/", end + 1)
            prefix = path if end < 0 else path[:end]
            found = self.by_path.get(prefix, found)
            if end < 0:
                break
        return self.by_host.get(host, found) if found is None or not found.prefix else found

    @property
    def routes(self) -> list[Route]:
        """All of them."""
        return [*self.by_path.values(), *self.by_host.values()]


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Verify against `ca_file` alone if there is one, else against the system's authorities and certifi's."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        if ca_file is None:
            import certifi  # noqa: PLC0415 - it takes 1.3 MB of a worker, and many workers speak no TLS

            context.load_verify_locations(certifi.where())
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"ca_file {ca_file} holds no usable certificates: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context
