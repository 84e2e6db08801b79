"""One frozen `Settings`, parsed once from a mapping of environment variables.

Only the command line reads settings; everything else is given what it needs.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from metering.errors import ConfigError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says. Each field is named after its variable."""

    database_url: str | None  # METERING_DATABASE_URL; None = the embedded Postgres
    state_dir: Path  # METERING_STATE_DIR: the spool and the embedded Postgres live here
    billing_zone: ZoneInfo  # METERING_BILLING_ZONE: days and months begin at its midnight
    billing_currency: str  # METERING_BILLING_CURRENCY: ISO 4217


VARIABLES = {f"METERING_{field.upper()}" for field in Settings.__struct_fields__}
# Read elsewhere for a reason: the tests choose their server, workers are told their number by the supervisor.
RESERVED_PREFIXES = ("METERING_TEST_", "METERING_WORKER_")


def parse_settings(environ: Mapping[str, str]) -> Settings:
    """Read `METERING_*` from `environ`; unknown names and unusable values raise `ConfigError`."""
    unknown = sorted(
        name
        for name in environ
        if name.startswith("METERING_") and name not in VARIABLES and not name.startswith(RESERVED_PREFIXES)
    )
    if unknown:
        raise ConfigError(f"unknown setting {unknown[0]}: known are {', '.join(sorted(VARIABLES))}")
    return Settings(
        database_url=_database_url(environ.get("METERING_DATABASE_URL")),
        state_dir=_state_dir(environ),
        billing_zone=_zone(environ.get("METERING_BILLING_ZONE") or "UTC"),
        billing_currency=_currency(environ.get("METERING_BILLING_CURRENCY") or "USD"),
    )


def _database_url(url: str | None) -> str | None:
    if url and not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("METERING_DATABASE_URL must look like postgresql://user:password@host:5432/database")
    return url or None


def _state_dir(environ: Mapping[str, str]) -> Path:
    """The user's state folder (XDG); for root a folder that an unprivileged Postgres may enter."""
    if named := environ.get("METERING_STATE_DIR"):
        return Path(named).expanduser().resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/metering")
    base = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "~"), ".local", "state")
    return Path(base, "metering").expanduser().resolve()


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(f"METERING_BILLING_ZONE {name!r} is not an IANA time zone such as Europe/Zurich") from None


def _currency(code: str) -> str:
    if not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
        raise ConfigError(f"METERING_BILLING_CURRENCY {code!r} is not an ISO 4217 code such as USD")
    return code
