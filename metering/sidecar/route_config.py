"""The routes of the sidecar's file: which requests go where, and what is done for them on the way."""

import re
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

import msgspec

from metering.errors import ConfigError
from metering.sidecar.tables import Table

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
# Headers that frame a message or carry the caller's secret can't double as labels: they are never stripped.
_NOT_TRUSTABLE = {
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "expect",
    "upgrade",
    "te",
    "authorization",
}

OnAbort = Literal["auto", "cancel", "drain"]
AskUsage = Literal["off", "auto", "on"]
Tokenize = Literal["off", "vllm", "llamacpp"]


class Upstream(msgspec.Struct, frozen=True):
    """Where a route's calls go. `base_path` has no slash at its end."""

    host: str
    port: int
    tls: bool
    authority: str  # what the Host header says
    base_path: str


class Signing(msgspec.Struct, frozen=True):
    """Requests of a route are signed anew with the sidecar's own AWS identity."""

    service: str
    region: str
    profile: str | None  # of the AWS configuration; None: what botocore finds


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[route]]`: either `path` (no slash at its end, "" = every path) or `host` is set."""

    path: str | None
    host: str | None
    upstream: Upstream
    provider: str
    deployment: str | None = None
    region: str | None = None
    labels: dict[str, str] = {}
    trusted_headers: dict[str, str] = {}
    on_client_abort: OnAbort = "auto"
    ask_usage: AskUsage = "off"
    sign: Signing | None = None
    ca_file: Path | None = None
    estimate: bool = True
    tokenize: Tokenize = "off"  # the upstream's own way to count

    @property
    def name(self) -> str:
        """What it is called in metrics."""
        return self.path or self.host or "/"


def parse_route(table: Table) -> RouteConfig:
    """One `[[route]]`. `ConfigError` for the first mistake in it."""
    path, host = table.text("path"), table.text("host")
    if (path is None) == (host is None):
        raise ConfigError(f'{table.where} needs either a path (such as "/openai") or a host, and not both')
    ca_file = table.text("ca_file")
    route = RouteConfig(
        path=None if path is None else _route_path(table, path),
        host=None if host is None else _route_host(table, host),
        upstream=_upstream(table),
        provider=table.required("provider", 'such as "openai"'),
        deployment=table.text("deployment"),
        region=table.text("region"),
        labels=table.texts("labels"),
        trusted_headers=_trusted_headers(table),
        on_client_abort=cast("OnAbort", table.choice("on_client_abort", ("auto", "cancel", "drain"), "auto")),
        sign=_signing(table),
        ask_usage=cast("AskUsage", table.choice("ask_usage", ("off", "auto", "on"), "off")),
        ca_file=Path(ca_file).expanduser() if ca_file else None,
        estimate=table.choice("estimate", ("on", "off"), "on") == "on",
        tokenize=cast("Tokenize", table.choice("tokenize", ("off", "vllm", "llamacpp"), "off")),
    )
    if route.ca_file and not route.ca_file.is_file():
        raise table.error("ca_file", f"{str(route.ca_file)!r} is not a file")
    table.refuse_others()
    return route


def _signing(table: Table) -> Signing | None:
    if table.choice("sign", ("off", "aws"), "off") == "off":
        return None
    region = table.text("sign_region") or table.text("region")
    if region is None:
        raise ConfigError(f"{table.where} has no region, which is part of an AWS signature: set region or sign_region")
    return Signing(table.text("sign_service", "bedrock") or "", region, table.text("sign_profile"))


def _route_path(table: Table, path: str) -> str:
    if path == "/":
        return ""
    if not _PATH.fullmatch(path) or path == "/k" or {".", ".."} & set(path.split("/")):
        raise table.error("path", f'must be a plain path such as "/openai" ("/k" is taken by keys), not {path!r}')
    return path


def _route_host(table: Table, host: str) -> str:
    if not HOST_NAME.fullmatch(host):
        raise table.error("host", f'must be a host name without a port such as "openai.internal", not {host!r}')
    return host.lower()


def _upstream(table: Table) -> Upstream:
    url = table.required("upstream", 'such as "https://api.openai.com"')
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or " " in url:
        raise table.error("upstream", f"must be an http:// or https:// URL, not {url!r}")
    if parts.username or parts.query or parts.fragment:
        raise table.error("upstream", "must be scheme, host, port and path only (no user, query or fragment)")
    base_path = parts.path.rstrip("/")
    if base_path and not _PATH.fullmatch(base_path):
        raise table.error("upstream", f"has a path that is not plain: {parts.path!r}")
    tls = parts.scheme == "https"
    return Upstream(parts.hostname, port or (443 if tls else 80), tls, parts.netloc, base_path)


def _trusted_headers(table: Table) -> dict[str, str]:
    found = table.texts("trusted_headers")
    for label, header in found.items():
        lowered = header.lower()
        if not _HEADER_NAME.fullmatch(header) or lowered in _NOT_TRUSTABLE or lowered.startswith("x-metering-"):
            raise table.error(f"trusted_headers.{label}", f"{header!r} can't be used: name a header of your own")
    return {label: header.lower() for label, header in found.items()}
