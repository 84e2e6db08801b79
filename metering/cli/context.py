"""What commands are given: the settings of this process and the URL of its ledger."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from metering.settings import Settings, parse_settings


@cache
def settings() -> Settings:
    """The settings in this process's environment, parsed once. `ConfigError` if one is unknown or unusable."""
    return parse_settings(os.environ)


@contextmanager
def ledger_url(*, migrate: bool = True) -> Iterator[str]:
    """The ledger's database URL: METERING_DATABASE_URL, or the embedded Postgres, which runs until the block ends.

    With `migrate` the schema is brought up to date first. Imports the ledger only now: commands without one stay light.
    """
    from metering.ledger import embedded
    from metering.ledger import migrate as migration

    url = settings().database_url
    if url is not None:
        if migrate:
            migration.upgrade(url)
        yield url
        return
    with embedded.running(settings().state_dir / "postgres") as embedded_url:
        if migrate:
            migration.upgrade(embedded_url)
        yield embedded_url
