"""COPY into `usage_event`, all rows at once or, where that is refused, apart; and COPY out of it, to count."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from io import BytesIO

import msgspec
import polars as pl
import psycopg

from metering.core.frames import EVENT_SCHEMA
from metering.core.slot import DIMENSION_FIELDS, QUANTITY_FIELDS
from metering.ledger.engine import Connection
from metering.ledger.partitions import is_partition_missing
from metering.ledger.rows import COLUMNS, NULL, Row, copy_text, first_event_id

_COLUMNS = ", ".join(COLUMNS)
_COPY = f"COPY usage_event ({_COLUMNS}) FROM STDIN"
_STAGE = "CREATE TEMP TABLE IF NOT EXISTS arriving (LIKE usage_event) ON COMMIT DROP"
_COPY_STAGE = f"COPY arriving ({_COLUMNS}) FROM STDIN"
# In the order of `encode_all`; of two records with one id the earlier one stays.
_INSERT = (
    f"INSERT INTO usage_event ({_COLUMNS}) SELECT {_COLUMNS} FROM arriving ORDER BY event_id, batch_ordinal"  # noqa: S608 - our own column names
    " ON CONFLICT DO NOTHING"
)
# Those that were not inserted met a row of the same id: an equal digest makes it a repeat, another a conflict.
_MET = (
    "SELECT a.batch_ordinal, e.digest = a.digest FROM arriving a JOIN usage_event e USING (event_id, started_at)"
    " WHERE (e.batch_id, e.batch_ordinal) <> (a.batch_id, a.batch_ordinal)"
)

_DIMENSIONS = ", ".join(
    # The same rule as UsageEvent.model.
    "coalesce(nullif(response_model, ''), request_model)" if name == "model" else name
    for name in DIMENSION_FIELDS
)
# The id's range finds a batch of recent events by the primary key, the batch's by BRIN, the time's the partitions.
COPY_OUT = (
    f"SELECT (extract(epoch FROM started_at) * 1000)::bigint, {_DIMENSIONS}, (part_of IS NULL)::int,"  # noqa: S608 - ours
    f" {', '.join(QUANTITY_FIELDS)}"
    " FROM usage_event WHERE batch_id = ANY(%(batch_ids)s)"
    " AND started_at BETWEEN %(started_at_min)s AND %(started_at_max)s"
    " AND event_id >= %(event_id_min)s AND event_id < %(event_id_end)s"
)
_UNESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Stored(msgspec.Struct):
    """What became of rows; `conflicts` and `refused` are ordinals."""

    inserted: int = 0
    duplicates: int = 0
    conflicts: list[int] = []
    refused: list[int] = []

    def add(self, other: "Stored") -> None:
        """Add `other` in."""
        self.inserted += other.inserted
        self.duplicates += other.duplicates
        self.conflicts += other.conflicts
        self.refused += other.refused


def copy_in(connection: Connection, batch_id: int, rows: Sequence[Row]) -> Stored:
    """Copy `rows`, all of them new: the quick way. psycopg's own errors pass through."""
    cursor = _cursor(connection)
    with cursor.copy(_COPY) as copy:
        copy.write(copy_text(batch_id, rows))
    return Stored(inserted=len(rows))


def store_apart(connection: Connection, batch_id: int, rows: Sequence[Row]) -> Stored:
    """Insert those of `rows` that are new, and say what the others are: repeats, conflicts, or refused."""
    cursor = _cursor(connection)
    cursor.execute(_STAGE)
    stored = Stored()
    waiting = [rows] if rows else []
    while waiting:
        part = waiting.pop()
        try:
            with cursor.connection.transaction():
                _store_part(cursor, batch_id, part, stored)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded) as error:
            if is_partition_missing(error):
                raise
            # Halving finds k bad records among n in about k·log n tries, and stores their neighbours.
            if len(part) == 1:
                stored.refused.append(part[0].ordinal)
            else:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
    return stored


class ShippedSpan(msgspec.Struct, frozen=True):
    """A batch, and the span of time its events began in (null for a batch without events)."""

    batch_id: int
    started_at_min: datetime | None
    started_at_max: datetime | None


def copy_out(connection: Connection, batches: Sequence[ShippedSpan]) -> pl.DataFrame:
    """The events of `batches`, as much of them as `metering.core.frames.count` needs."""
    statement = f"COPY ({COPY_OUT}) TO STDOUT"
    spans = [(b.started_at_min, b.started_at_max) for b in batches if b.started_at_min and b.started_at_max]
    if not spans:
        return pl.DataFrame(schema=EVENT_SCHEMA)
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    parameters = {
        "batch_ids": [batch.batch_id for batch in batches],
        "started_at_min": first,
        "started_at_max": last,
        "event_id_min": first_event_id(first),
        "event_id_end": first_event_id(last + timedelta(milliseconds=1)),
    }
    with _cursor(connection).copy(statement, parameters) as copy:
        return _parse(b"".join(copy))


def _parse(lines: bytes) -> pl.DataFrame:
    """COPY text as a frame of `EVENT_SCHEMA`."""
    if not lines:
        return pl.DataFrame(schema=EVENT_SCHEMA)
    frame = pl.read_csv(
        BytesIO(lines),
        has_header=False,
        separator="\t",
        quote_char=None,
        null_values=NULL,
        empty_string_is_null=False,
        schema=EVENT_SCHEMA | {"started_at": pl.Int64},
    )
    return frame.with_columns(
        pl.from_epoch("started_at", "ms").cast(EVENT_SCHEMA["started_at"]),
        *(_unescaped(frame[name]) for name in DIMENSION_FIELDS if frame[name].dtype == pl.String),
    )


def _unescaped(texts: pl.Series) -> pl.Series:
    """Undo COPY's backslashes; almost no column has one, so looking first makes it free."""
    if not texts.str.contains("\\", literal=True).any():
        return texts
    plain = [
        None if escaped is None else re.sub(r"\\(.)", lambda m: _UNESCAPED.get(m[1], m[1]), escaped, flags=re.DOTALL)
        for escaped in texts
    ]
    return pl.Series(texts.name, plain, pl.String)


def _store_part(cursor: psycopg.Cursor, batch_id: int, rows: Sequence[Row], stored: Stored) -> None:
    with cursor.copy(_COPY_STAGE) as copy:
        copy.write(copy_text(batch_id, rows))
    cursor.execute(_INSERT)
    inserted = cursor.rowcount
    met = cursor.execute(_MET).fetchall()
    cursor.execute("TRUNCATE arriving")
    stored.inserted += inserted
    stored.duplicates += sum(same for _, same in met)
    stored.conflicts += [ordinal for ordinal, same in met if not same]


def _cursor(connection: Connection) -> psycopg.Cursor:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"the ledger speaks through psycopg, not {type(driver)}")
    return driver.cursor()
