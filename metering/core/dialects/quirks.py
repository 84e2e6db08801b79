"""Reads usage objects of the OpenAI dialects by the table of quirks.

`total_tokens` is compared with what is reported of both sides and decides what the totals include, response by
response; an override is for a provider whose total itself is wrong.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from metering.core.dialects.counts import count, money, word
from metering.core.dialects.plain import Plain
from metering.core.dialects.quirk_table import (
    QUIRKS,
    REPORTED_COST,
    Cost,
    Header,
    Override,
    Place,
    Row,
    Surplus,
    Variant,
)
from metering.core.usage import Usage

# Tools that are counted apart wherever `tool_requests` counts all.
NAMED_TOOLS = ("web_search_requests", "file_search_requests", "code_execution_requests")


class Quirks:
    """A table of quirks, ready to read by."""

    def __init__(self, rows: Iterable[Row]) -> None:
        table = tuple(rows)
        self._places = _by_container([row for row in table if isinstance(row, Place)])
        self._surplus = [row for row in table if isinstance(row, Surplus)]
        self._overrides = [row for row in table if isinstance(row, Override)]
        self._costs = [row for row in table if isinstance(row, Cost)]
        self._variants = [row for row in table if isinstance(row, Variant)]
        self._headers = [row for row in table if isinstance(row, Header)]
        # There are few names, and asking each time cost 1 µs an answer.
        self.override_of = lru_cache(maxsize=256)(self._override_of)
        self.headers_of = lru_cache(maxsize=256)(self._headers_of)

    def read(self, raw: Mapping[str, Any], provider: str, model: str) -> Usage | None:
        """The `Usage` in a usage object; None if it holds no total of either side."""
        counts = self._counts(raw)
        read, written = counts.pop("input_tokens", None), counts.pop("output_tokens", None)
        total = count(raw.get("total_tokens"))
        if read is None and written is None:
            if total is None:
                return None
            read = total  # Voyage: embeddings tell the total only
        usage = Usage(
            input_tokens=_rest(total, written) if read is None else read,
            output_tokens=written if written is not None or total == read else _rest(total, read),
            **counts,
        )
        settled = self._settle(usage, total)
        if settled is not usage:
            return settled
        named = self.override_of(provider, model)
        for override in self._overrides:
            if override is named or (override.marker and override.marker in raw and override.model in model.lower()):
                return override.reads(usage, total)
        return usage

    def cost(self, raw: Mapping[str, Any]) -> Decimal | None:
        """What the provider says the call cost, in USD, exactly."""
        for row in self._costs:
            if row.path[0] not in raw:  # most answers tell none
                continue
            value: Any = raw
            for key in row.path:
                value = value.get(key) if isinstance(value, dict) else None
            amount = money(value)
            if amount is not None and (amount or row.zero_tells):
                return amount.scaleb(row.exponent) if row.exponent else amount
        return None

    def variant(self, raw: Mapping[str, Any]) -> str | None:
        """A word of the usage object that decides a price."""
        for row in self._variants:
            if row.member in raw and (told := word(raw[row.member])):
                return f"{row.prefix} {told}"
        return None

    def read_headers(
        self, headers: Mapping[str, str], provider: str, usage: Usage | None, cost: Decimal | None
    ) -> tuple[Usage | None, Decimal | None]:
        """`usage` and `cost` with what the headers tell and the body left out."""
        for row in self.headers_of(provider):
            text = headers.get(row.name, "")
            if row.field == REPORTED_COST:
                cost = money(text) if cost is None else cost
            elif usage is not None and getattr(usage, row.field) is None and text.isdecimal():
                usage = msgspec.structs.replace(usage, **{row.field: count(int(text[:16]))})
        return usage, cost

    def _counts(self, raw: Mapping[str, Any]) -> dict[str, int]:
        """The counts by field of `Usage`. Costs a look-up per member, not one per known place."""
        counts: dict[str, int] = {}
        ranks: dict[str, int] = {}
        containers = [("", raw), *((name, value) for name, value in raw.items() if isinstance(value, dict))]
        for container, members in containers:
            places = self._places.get(container)
            if places is None:
                continue
            for member, value in members.items():
                if (place := places.get(member)) is None or (told := count(value)) is None:
                    continue
                field, rank, times = place
                if rank < ranks.get(field, rank + 1):
                    counts[field], ranks[field] = told * times, rank
        if counts.get("tool_requests"):
            counts["tool_requests"] -= sum(counts.get(tool, 0) for tool in NAMED_TOOLS)
            counts["tool_requests"] = max(0, counts["tool_requests"])
        return counts

    def _settle(self, usage: Usage, total: int | None) -> Usage:
        """Add the sub-counts that the total shows to be outside; the same object if there are none."""
        if total is None or usage.input_tokens is None or usage.output_tokens is None:
            return usage
        surplus = total - usage.input_tokens - usage.output_tokens
        if surplus <= 0:
            return usage
        for rule in self._surplus:
            read = sum(getattr(usage, part) or 0 for part in rule.input_parts)
            written = sum(getattr(usage, part) or 0 for part in rule.output_parts)
            if read + written == surplus:
                return msgspec.structs.replace(
                    usage, input_tokens=usage.input_tokens + read, output_tokens=usage.output_tokens + written
                )
        return usage

    def _override_of(self, provider: str, model: str) -> Override | None:
        """The override that holds by name."""
        return next((override for override in self._overrides if override.holds(provider, model)), None)

    def _headers_of(self, provider: str) -> tuple[Header, ...]:
        """The rows for headers that this provider sends."""
        return tuple(row for row in self._headers if row.provider in provider.lower())


def _by_container(rows: Iterable[Place]) -> dict[str, dict[str, tuple[str, int, int]]]:
    """Container ("" for the object itself) → member → field, rank among its places, factor."""
    places: dict[str, dict[str, tuple[str, int, int]]] = {"": {}}
    for rank, row in enumerate(rows):
        *container, member = row.path
        places.setdefault("".join(container), {})[member] = (row.field, rank, row.times)
    return places


def _rest(total: int | None, known: int | None) -> int | None:
    """What the total leaves for the side that is not told."""
    return total - known if total is not None and known is not None and total > known else None


TABLE = Quirks(QUIRKS)
read_any, _override_of = TABLE.read, TABLE.override_of


def read_usage(raw: Mapping[str, Any], provider: str, model: str, plain: Plain | None = None) -> Usage | None:
    """The `Usage` in an OpenAI-like usage object; None if it holds no total of either side.

    `plain`: the same object, if it is a plain one; then mostly there is nothing to look for (no marker, no surplus).
    """
    if plain is not None and _override_of(provider, model) is None and (usage := plain.usage()) is not None:
        return usage
    return read_any(raw, provider, model)
