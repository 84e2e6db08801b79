"""Read a TOML table field by field, refusing what isn't known, one sentence an error."""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from metering.errors import ConfigError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_UNITS = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
}


class Table:
    """One TOML table. Every getter takes a field's name; `refuse_others` names what nobody asked for."""

    def __init__(self, where: str, fields: Any) -> None:
        if not isinstance(fields, Mapping):
            raise ConfigError(f"{where} must be a table")
        self.where = where
        self.fields = fields
        self.known: list[str] = []

    def error(self, name: str, sentence: str) -> ConfigError:
        """A `ConfigError` that says where the field is."""
        return ConfigError(f"{self.where}: {name} {sentence}")

    def optional(self, name: str) -> Any:
        """The raw value, or None when it isn't there."""
        self.known.append(name)
        return self.fields.get(name)

    def text(self, name: str, default: str | None = None) -> str | None:
        """A non-empty string."""
        value = self.optional(name)
        if value is None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise self.error(name, f"must be a non-empty string, not {value!r}")
        return value

    def required(self, name: str, example: str) -> str:
        """A non-empty string that must be there; `example` says what it may be."""
        value = self.text(name)
        if value is None:
            raise ConfigError(f"{self.where} has no {name}: give it one {example}")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of a few words."""
        value = self.optional(name)
        if value is None:
            return default
        if value not in choices:
            raise self.error(name, f"must be {' or '.join(repr(choice) for choice in choices)}, not {value!r}")
        return str(value)

    def integer(self, name: str, default: int, *, least: int = 1) -> int:
        """A whole number, at least `least`."""
        value = self.optional(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(name, f"must be a whole number of at least {least}, not {value!r}")
        return value

    def seconds(self, name: str, default: float) -> float:
        """A positive number of seconds."""
        value = self.optional(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
            raise self.error(name, f"must be a positive number of seconds, not {value!r}")
        return float(value)

    def size(self, name: str, default: int) -> int:
        """Bytes, as a whole number or as text such as `"10GiB"`."""
        value = self.optional(name)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        found = int(float(match[1]) * _UNITS[match[2] or "B"]) if match else 0
        if not found:
            raise self.error(name, f'must be a size such as "10GiB" or "500MB", not {value!r}')
        return found

    def texts(self, name: str) -> dict[str, str]:
        """A table of non-empty strings."""
        value = self.optional(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.error(name, 'must be a table of strings such as { team = "search" }')
        for key, text in value.items():
            if not isinstance(text, str) or not text.strip():
                raise self.error(f"{name}.{key}", f"must be a non-empty string, not {text!r}")
        return dict(value)

    def refuse_others(self) -> None:
        """Raise for the first field that no getter asked for, with the nearest name that one did."""
        for name in self.fields:
            if name not in self.known:
                near = difflib.get_close_matches(name, self.known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(self.known))}"
                raise ConfigError(f"{self.where}: unknown key {name!r}; {hint}")
