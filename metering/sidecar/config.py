"""The sidecar's TOML file, parsed once into frozen structs. Every mistake is one sentence (`ConfigError`).

The format, with every key and its default, is `deploy/sidecar.example.toml`.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from metering.errors import ConfigError
from metering.sidecar.estimate.settings import EstimateConfig, parse_estimate
from metering.sidecar.route_config import HOST_NAME, RouteConfig, parse_route
from metering.sidecar.tables import Table

KIB = 1024
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class Address(msgspec.Struct, frozen=True):
    """Where to listen. Port 0 = any free one."""

    host: str
    port: int


class SpoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where counts are kept, how hard, and what happens when they can't be."""

    dir: Path
    durability: Literal["process", "power"] = "process"
    max_bytes: int = 10 * KIB**3
    segment_bytes: int = 64 * KIB**2
    on_full: Literal["open", "refuse"] = "open"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on everything a peer could make us hold or wait for. Per worker; times in seconds, sizes in bytes."""

    connections: int = 10_000
    head_bytes: int = 64 * KIB
    head_seconds: float = 15  # from the first byte of a request's head to its last
    idle_seconds: float = 75  # a client connection between two requests
    stall_seconds: float = 300  # a client that neither reads its answer nor sends the rest of its body
    half_close_seconds: float = 1  # a client that stopped sending may still be reading; longer, and it has left
    upstream_connections: int = 10_000  # per destination; beyond it calls wait, so by default as many as clients may be
    upstream_idle_seconds: float = 55  # a pooled connection; most load balancers close at 60
    dial_seconds: float = 10
    silence_seconds: float = 600  # an upstream that sends nothing; a model may think for minutes
    ask_body_bytes: int = 1024 * KIB  # of a request that is held to ask for usage in it; larger ones go as they come
    sign_body_bytes: int = 25 * KIB**2  # of a request that is held to sign it; larger ones are refused
    abort_drain_bytes: int = 32 * KIB**2
    abort_drain_seconds: float = 120


class KeyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[key]]`: whose calls carry the secret whose SHA-256 is `digest`."""

    id: str
    digest: bytes
    team: str | None = None
    project: str | None = None
    environment: str | None = None
    principal: str | None = None


class SidecarConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    listen: Address
    admin: Address | None
    workers: int
    drain_seconds: float
    spool: SpoolConfig
    limits: Limits
    estimate: EstimateConfig = EstimateConfig()
    routes: tuple[RouteConfig, ...]
    keys: tuple[KeyConfig, ...]

    @property
    def estimates(self) -> bool:
        """Whether any route's calls are estimated."""
        return self.estimate.enabled and any(route.estimate for route in self.routes)


def load_config(path: Path, state_dir: Path) -> SidecarConfig:
    """Read and parse the file; `state_dir` is where the spool is kept unless the file says otherwise."""
    return load_text(path, read_text(path), state_dir)


def read_text(path: Path) -> str:
    """The file's text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there: write it after deploy/sidecar.example.toml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None


def load_text(path: Path, text: str, state_dir: Path) -> SidecarConfig:
    """Parse `text`, which was read from `path`."""
    try:
        return parse_config(text, state_dir)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(text: str, state_dir: Path) -> SidecarConfig:
    """Parse the TOML text; `ConfigError` names the table and the key."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}") from None
    top = Table("the file", document)
    sidecar = Table("[sidecar]", top.optional("sidecar") or {})
    config = SidecarConfig(
        listen=_address(sidecar, "listen", "127.0.0.1:8787"),
        admin=_admin(sidecar),
        workers=sidecar.integer("workers", 1),
        drain_seconds=sidecar.seconds("drain_seconds", 30),
        spool=_spool(Table("[spool]", top.optional("spool") or {}), state_dir),
        limits=_limits(Table("[limits]", top.optional("limits") or {})),
        estimate=parse_estimate(Table("[estimate]", top.optional("estimate") or {})),
        routes=tuple(parse_route(table) for table in _tables(top, "route")),
        keys=tuple(_key(table) for table in _tables(top, "key")),
    )
    sidecar.refuse_others()
    top.refuse_others()
    _refuse_twins(config)
    return config


def _tables(top: Table, name: str) -> list[Table]:
    found = top.optional(name) or []
    if not isinstance(found, list):
        raise ConfigError(f"{name} is a list of tables: write [[{name}]]")
    return [Table(f"[[{name}]] {number}", fields) for number, fields in enumerate(found, 1)]


def _refuse_twins(config: SidecarConfig) -> None:
    """Two routes for one path, or two keys with one id or one secret, have no right answer."""
    if not config.routes:
        raise ConfigError("there is no [[route]]: add one with a path and an upstream")
    places = [f"path {r.path or '/'!r}" if r.path is not None else f"host {r.host!r}" for r in config.routes]
    for names, what in (
        (places, "[[route]]s share {}: keep one"),
        ([f"id {key.id!r}" for key in config.keys], "[[key]]s share {}: every key needs its own"),
        ([f"hash sha256:{key.digest.hex()}" for key in config.keys], "[[key]]s share {}: mint one secret a key"),
    ):
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ConfigError(f"two {what.format(name)}")


def _address(table: Table, name: str, default: str) -> Address:
    text = table.text(name, default) or default
    host, colon, port = text.rpartition(":")
    if not (colon and HOST_NAME.fullmatch(host) and port.isascii() and port.isdigit() and int(port) < 65536):
        raise table.error(name, f"must be host:port such as 127.0.0.1:8787, not {text!r}")
    return Address(host.strip("[]"), int(port))


def _admin(sidecar: Table) -> Address | None:
    return None if sidecar.optional("admin") == "off" else _address(sidecar, "admin", "127.0.0.1:8788")


def _spool(table: Table, state_dir: Path) -> SpoolConfig:
    folder = table.text("dir")
    spool = SpoolConfig(
        dir=Path(folder).expanduser().absolute() if folder else state_dir / "spool",
        durability=cast("Any", table.choice("durability", ("process", "power"), "process")),
        max_bytes=table.size("max_bytes", 10 * KIB**3),
        segment_bytes=table.size("segment_bytes", 64 * KIB**2),
        on_full=cast("Any", table.choice("on_full", ("open", "refuse"), "open")),
    )
    if spool.max_bytes < spool.segment_bytes:
        raise table.error("max_bytes", f"must be at least one segment ({spool.segment_bytes} bytes)")
    table.refuse_others()
    return spool


def _limits(table: Table) -> Limits:
    defaults = Limits()
    found: dict[str, float] = {}
    for name in Limits.__struct_fields__:
        default = getattr(defaults, name)
        if name.endswith("_seconds"):
            found[name] = table.seconds(name, default)
        elif name.endswith("_bytes"):
            found[name] = table.size(name, default)
        else:
            found[name] = table.integer(name, default)
    table.refuse_others()
    return msgspec.convert(found, Limits)


def _key(table: Table) -> KeyConfig:
    identity = table.required("id", 'such as "search-prod"')
    if not _KEY_ID.fullmatch(identity):
        raise table.error("id", f"must be letters, digits, '.', '_', ':' or '-', not {identity!r}")
    text = table.required("hash", "as `metering keys mint` prints it")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise table.error("hash", "must be sha256: and 64 hex digits, as `metering keys mint` prints it")
    key = KeyConfig(
        id=identity,
        digest=bytes.fromhex(text.removeprefix("sha256:")),
        team=table.text("team"),
        project=table.text("project"),
        environment=table.text("environment"),
        principal=table.text("principal"),
    )
    table.refuse_others()
    return key
