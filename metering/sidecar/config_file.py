"""The configuration file as a running sidecar sees it: read once, tried as a whole, and what of it can't move."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from metering.errors import ConfigError
from metering.sidecar.config import SidecarConfig, load_text, read_text
from metering.sidecar.relay.routes import RouteTable


class ConfigFile(msgspec.Struct, frozen=True):
    """A file that is right, as it was when it was read."""

    path: Path
    text: str
    config: SidecarConfig

    @property
    def digest(self) -> str:
        """SHA-256 of the text, its first 16 hex digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def fixed(self) -> dict[str, str]:
        """The settings a running sidecar can't change: its places."""
        config = self.config
        return {
            "[sidecar] listen": f"{config.listen.host}:{config.listen.port}",
            "[sidecar] admin": f"{config.admin.host}:{config.admin.port}" if config.admin else "off",
            "[sidecar] workers": str(config.workers),
            "[spool] dir": str(config.spool.dir),
        }


def read_config(path: Path, state_dir: Path, fixed: Mapping[str, str] | None = None) -> ConfigFile:
    """Read the file at `path` and try all of it, `ca_file`s too; `ConfigError` says what is wrong and where.

    `fixed` is what a running sidecar has: a file that changes any of it is refused.
    """
    text = read_text(path)
    found = ConfigFile(path, text, load_text(path, text, state_dir))
    try:
        RouteTable(found.config.routes, found.config.keys)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    for name, before in (fixed or found.fixed).items():
        if found.fixed[name] != before:
            raise ConfigError(
                f"{path}: {name} can't change from {before} to {found.fixed[name]} while the sidecar runs: "
                "set it back, or stop the sidecar and start it again"
            )
    return found
