"""The one heavy step, on frames: count events into quarter-hours. Integers only, whatever engine runs it."""

from typing import Final

import polars as pl

from metering.core.period import SLOT
from metering.core.slot import DIMENSION_FIELDS, QUANTITY_FIELDS

SLOT_KEY: Final = ("slot_at", *DIMENSION_FIELDS)
EVENT_SCHEMA: Final = pl.Schema(
    {"started_at": pl.Datetime("us", "UTC")}
    | {name: pl.Int64() if name == "context_band" else pl.String() for name in DIMENSION_FIELDS}
    | {name: pl.Int64() for name in ("calls", *QUANTITY_FIELDS)}
)


def count(events: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Sum `events` (columns of `EVENT_SCHEMA`; a null quantity is none) by quarter-hour of UTC and dimension.

    An event's `calls` is 1, or 0 where it is a part of a call and not a call.
    A row each: `SLOT_KEY`, `calls`, and every quantity, never null; in no particular order.
    `OverflowError` if a sum does not fit 64 bits, where Polars alone would wrap around in silence.
    """
    slot_at = pl.col("started_at").dt.truncate(SLOT).alias("slot_at")
    wide = [pl.col(name).cast(pl.Int128).sum() for name in QUANTITY_FIELDS]
    narrow = [pl.col(name).cast(pl.Int64) for name in QUANTITY_FIELDS]
    grouped = events.lazy().group_by(slot_at, *DIMENSION_FIELDS).agg(pl.col("calls").sum(), *wide).with_columns(narrow)
    try:
        return grouped.collect()
    except pl.exceptions.InvalidOperationError:
        raise OverflowError("a quarter-hour's usage does not fit 64 bits") from None
