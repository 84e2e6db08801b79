"""Find the ids of dimensions, giving new ones an id: safe for any number of counters at once."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl
from sqlalchemy import text

from metering.core.frames import EVENT_SCHEMA
from metering.core.slot import DIMENSION_FIELDS
from metering.ledger.engine import Connection

Key = tuple[Any, ...]  # the values of DIMENSION_FIELDS, in order

_KINDS = {name: "integer" if EVENT_SCHEMA[name] == pl.Int64 else "text" for name in DIMENSION_FIELDS}


def resolve(connection: Connection, dimensions: pl.DataFrame) -> pl.DataFrame:
    """`dimensions` (distinct rows of `DIMENSION_FIELDS`) with their `dimension_id`."""
    keys = dimensions.select(DIMENSION_FIELDS).rows()
    known = dict(_look_up(connection, keys))
    if missing := [key for key in keys if key not in known]:
        # Sorted: two counters that meet the same new dimensions wait for each other and never deadlock.
        missing.sort(key=lambda key: [(value is not None, value) for value in key])
        connection.execute(text(_insert_sql()), _arrays(missing, DIMENSION_FIELDS))
        known |= dict(_look_up(connection, missing))
    ids = pl.Series("dimension_id", [known[key] for key in keys], pl.Int64)
    return dimensions.select(DIMENSION_FIELDS).with_columns(ids)


def _look_up(connection: Connection, keys: Sequence[Key]) -> Iterator[tuple[Key, int]]:
    """The keys that have an id. A query for each pattern of nulls: an index serves `=` and `IS NULL`, but not
    `IS NOT DISTINCT FROM`, and there are few patterns.
    """
    by_nulls: dict[tuple[bool, ...], list[Key]] = {}
    for key in keys:
        by_nulls.setdefault(tuple(value is None for value in key), []).append(key)
    for nulls, group in by_nulls.items():
        named = [name for name, is_null in zip(DIMENSION_FIELDS, nulls, strict=True) if not is_null]
        found = connection.execute(text(look_up_sql(named)), _arrays(group, named))
        for ordinal, dimension_id in found:
            if dimension_id is not None:
                yield group[ordinal - 1], dimension_id


def look_up_sql(named: Sequence[str]) -> str:
    """Find dimensions whose columns `named` are given as arrays and whose other columns are null.

    A subquery for each, not a join: the planner can't turn it into anything but a probe of the unique index,
    while for a join it trusts statistics, and on a table filled a moment ago those lead to a quadratic plan.
    """
    arrays = ", ".join(_array(name) for name in named)
    conditions = [f"d.{name} = v.{name}" if name in named else f"d.{name} IS NULL" for name in DIMENSION_FIELDS]
    found = f"SELECT d.dimension_id FROM usage_dimension d WHERE {' AND '.join(conditions)}"  # noqa: S608 - ours
    given = f"unnest({arrays}) WITH ORDINALITY AS v ({', '.join(named)}, ordinal)"
    return f"SELECT v.ordinal, ({found}) FROM {given}"  # noqa: S608 - ours


def _insert_sql() -> str:
    return (
        f"INSERT INTO usage_dimension ({', '.join(DIMENSION_FIELDS)})"  # noqa: S608 - our own column names
        f" SELECT * FROM unnest({', '.join(_array(name) for name in DIMENSION_FIELDS)}) ON CONFLICT DO NOTHING"
    )


def _array(name: str) -> str:
    return f"CAST(:{name} AS {_KINDS[name]}[])"


def _arrays(keys: Sequence[Key], names: Iterable[str]) -> dict[str, list[Any]]:
    columns = dict(zip(DIMENSION_FIELDS, zip(*keys, strict=True), strict=True))
    return {name: list(columns[name]) for name in names}
