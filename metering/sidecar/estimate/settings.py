"""The `[estimate]` table of the sidecar's file."""

from importlib.util import find_spec
from pathlib import Path

import msgspec

from metering.sidecar.tables import Table

MIB = 1024**2


class EstimateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is counted by ourselves where nobody reported it, and the bounds on it. Per worker."""

    enabled: bool = True
    kept_bytes: int = MIB  # of the texts of all calls in flight, beside what their readers keep
    waiting_calls: int = 256  # ended, and not counted yet
    waiting_bytes: int = 8 * MIB
    wait_seconds: float = 10  # then their usage is unknown
    tokenizers: dict[str, Path] = {}  # pattern of a model's name → its tokenizer.json


def parse_estimate(table: Table) -> EstimateConfig:
    """Read the table; `ConfigError` names the key."""
    defaults = EstimateConfig()
    files = {pattern: Path(name).expanduser().absolute() for pattern, name in table.texts("tokenizers").items()}
    for pattern, path in files.items():
        if not path.is_file():
            raise table.error(f"tokenizers.{pattern}", f"{str(path)!r} is not a file")
    if files and find_spec("tokenizers") is None:
        raise table.error("tokenizers", "needs the Python package of that name: pip install 'metering[tokenizers]'")
    estimate = EstimateConfig(
        enabled=table.choice("enabled", ("on", "off"), "on") == "on",
        kept_bytes=table.size("kept_bytes", defaults.kept_bytes),
        waiting_calls=table.integer("waiting_calls", defaults.waiting_calls),
        waiting_bytes=table.size("waiting_bytes", defaults.waiting_bytes),
        wait_seconds=table.seconds("wait_seconds", defaults.wait_seconds),
        tokenizers=files,
    )
    table.refuse_others()
    return estimate
