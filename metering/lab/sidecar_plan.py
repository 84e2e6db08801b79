"""The configuration of a sidecar in front of emulators: three routes, keys for some teams, headers for the others."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

ROUTES = {"/openai": "openai", "/anthropic": "anthropic", "/ollama": "ollama"}  # path -> provider


class PlannedKey(msgspec.Struct, frozen=True):
    """A metering key as the sidecar's file wants it. `hash` is `sha256:` and 64 hex digits."""

    id: str
    hash: str
    team: str
    project: str
    environment: str = "lab"


class SidecarPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a sidecar's file says. Ports are real ones, known beforehand."""

    listen_port: int
    admin_port: int
    spool_dir: Path
    upstream: str  # where all routes lead: an emulator answers every dialect
    keys: Sequence[PlannedKey] = ()
    workers: int = 1
    durability: str = "process"
    segment_bytes: int = 64 * 2**20
    on_client_abort: str = "cancel"

    def to_toml(self) -> str:
        """The file's text."""
        lines = [
            "[sidecar]",
            f"listen = {_quoted(f'127.0.0.1:{self.listen_port}')}",
            f"admin = {_quoted(f'127.0.0.1:{self.admin_port}')}",
            f"workers = {self.workers}",
            "drain_seconds = 5",
            "[spool]",
            f"dir = {_quoted(str(self.spool_dir))}",
            f"durability = {_quoted(self.durability)}",
            f"segment_bytes = {self.segment_bytes}",
            "[estimate]",
            'enabled = "off"',  # books are compared with what the emulated models told, and nothing else
        ]
        for path, provider in ROUTES.items():
            lines += [
                "[[route]]",
                f"path = {_quoted(path)}",
                f"upstream = {_quoted(self.upstream)}",
                f"provider = {_quoted(provider)}",
                f"on_client_abort = {_quoted(self.on_client_abort)}",
                'labels = { environment = "lab" }',
                'trusted_headers = { team = "x-team", project = "x-project" }',
            ]
        for key in self.keys:
            fields = msgspec.structs.asdict(key)
            lines += ["[[key]]", *(f"{name} = {_quoted(value)}" for name, value in fields.items())]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are a part of TOML's."""
    return msgspec.json.encode(text).decode()
