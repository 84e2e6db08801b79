"""A `UsageEvent` as a line of COPY text: the one place where an event's fields meet the columns of `usage_event`.

Written by hand because it is the shipper's hot path: ten times quicker than an INSERT, and encoded before the
transaction begins, so that a source's row is locked only as long as Postgres needs to take the lines in.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from metering.core.event import EPOCH, Attribution, UsageEvent, context_band
from metering.core.usage import Meter, UsageSource, disjoint_meters
from metering.ledger.schema.events import QUANTITY_COLUMNS, USAGE_COLUMNS

NULL = "\\N"
# Bytes of UTF-8. A dimension's names together must fit one index entry (2,700 bytes), and a client chooses some.
NAME_BYTES_MAX = 128
LONG_NAME_BYTES_MAX = 256
YEAR_MAX = 9998  # Python's calendar ends with 9999
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NEEDS_ESCAPE = re.compile(r"[\\\t\n\r\0\ud800-\udfff]")
_NO_USAGE = "\t".join([NULL] * len(USAGE_COLUMNS))
_NO_QUANTITIES = [NULL] * len(QUANTITY_COLUMNS)
_PLACE = {meter: place for place, meter in enumerate(Meter)}
_REQUEST = _PLACE[Meter.REQUEST]

# The columns of `encode`'s line, in order; the batch's id goes in front when it is known.
COLUMNS = (
    "batch_id",
    "batch_ordinal",
    "event_id",
    "started_at",
    "first_token_at",
    "ended_at",
    "digest",
    "provider_name",
    "operation_name",
    "dialect",
    "outcome",
    "usage_source",
    "request_model",
    "response_model",
    "response_id",
    "deployment",
    "region",
    "service_tier",
    "variant",
    "estimator",
    "reported_cost",
    "part_of",
    "streamed",
    "status",
    "request_bytes",
    "response_bytes",
    "attempt",
    "trace_id",
    "credential_id",
    "principal",
    "team",
    "project",
    "environment",
    "tags",
    "raw_usage",
    "context_band",
    *USAGE_COLUMNS,
    *QUANTITY_COLUMNS,
)


Response = tuple[str, str]  # provider and response id, as Postgres holds them


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event, ready to be copied; as `repeat_line` where `response` was counted with another call."""

    ordinal: int  # its place in the batch
    event_id: UUID
    started_at: datetime
    line: str  # COPY text of COLUMNS without the first
    response: Response | None = None  # whose usage other events tell, too
    told_by: UUID | None = None  # the call that tells it: the event's own, or that which the event is a part of
    repeat_line: str = ""


def encode_all(records: Sequence[tuple[UsageEvent, bytes]]) -> tuple[list[Row], list[int]]:
    """The rows of `records` by id, and the ordinals of those that no row can hold (not a UUIDv7, endless nesting).

    By id, so that two shippers that bring the same events meet at the first one and wait for each other there;
    in any other order they would meet head-on and deadlock, again and again.
    """
    rows: list[Row] = []
    refused: list[int] = []
    for ordinal, (event, digest) in enumerate(records):
        try:
            rows.append(encode(ordinal, event, digest))
        except (ValueError, OverflowError, TypeError, RecursionError):
            refused.append(ordinal)
    rows.sort(key=lambda row: (row.event_id.int, row.ordinal))
    return rows, refused


def encode(ordinal: int, event: UsageEvent, digest: bytes) -> Row:
    """`event` as a row. `ValueError` or `OverflowError` if its id holds no time that a calendar has."""
    started_at = event.started_at
    if started_at.year > YEAR_MAX:
        raise ValueError(f"{event.event_id} begins in the year {started_at.year}: no partition reaches there")
    line = _line(ordinal, event, started_at, digest)
    if not (event.once and event.response_id and event.usage):
        return Row(ordinal, event.event_id, started_at, line)
    response = (_storable(event.provider_name), _storable(_cut(event.response_id, LONG_NAME_BYTES_MAX)))
    # What the provider said stays, and counts nothing.
    nothing = {"usage": None, "usage_source": UsageSource.NONE, "estimator": None, "reported_cost": None}
    repeat_line = _line(ordinal, msgspec.structs.replace(event, **nothing), started_at, digest)
    return Row(ordinal, event.event_id, started_at, line, response, event.part_of or event.event_id, repeat_line)


def _line(ordinal: int, event: UsageEvent, started_at: datetime, digest: bytes) -> str:
    usage = event.usage
    values = (
        str(ordinal),
        str(event.event_id),
        started_at.isoformat(),
        _instant(event.first_token_at),
        _instant(event.ended_at),
        "\\\\x" + digest.hex(),
        _name(event.provider_name),
        _name(event.operation_name),
        _name(event.dialect),
        event.outcome.value,
        event.usage_source.value,
        _name(event.request_model, LONG_NAME_BYTES_MAX),
        _name(event.response_model, LONG_NAME_BYTES_MAX),
        _text(event.response_id),
        _name(event.deployment, LONG_NAME_BYTES_MAX),
        _name(event.region),
        _name(event.service_tier),
        _name(event.variant),
        _name(event.estimator),
        NULL if event.reported_cost is None else str(event.reported_cost),
        NULL if event.part_of is None else str(event.part_of),
        "t" if event.streamed else "f",
        NULL if event.status is None else str(event.status),
        str(event.request_bytes),
        str(event.response_bytes),
        str(event.attempt),
        _text(event.trace_id),
        *_owner(event.attribution),
        _json(event.raw_usage),
        str(context_band(usage.input_tokens)) if usage else "0",
        _NO_USAGE
        if usage is None
        else "\t".join([NULL if value is None else str(value) for value in msgspec.structs.astuple(usage)]),
        _quantities(event),
    )
    return "\t".join(values)


def _owner(attribution: Attribution) -> tuple[str, ...]:
    return (
        _name(attribution.credential_id),
        _name(attribution.principal, LONG_NAME_BYTES_MAX),
        _name(attribution.team),
        _name(attribution.project),
        _name(attribution.environment),
        _json(attribution.tags or None),
    )


def copy_text(batch_id: int, rows: Sequence[Row]) -> bytes:
    """What COPY reads for `rows` of batch `batch_id`."""
    return "".join([f"{batch_id}\t{row.line}\n" for row in rows]).encode()


def first_event_id(instant: datetime) -> UUID:
    """No event that began at `instant` or later has a smaller id."""
    return UUID(int=(instant - EPOCH) // timedelta(milliseconds=1) << 80)


def record_json(event: UsageEvent) -> bytes:
    """The whole event as JSON, for a row that is set aside; readable even where JSON can't be written."""
    try:
        return msgspec.json.encode(event)
    except (ValueError, OverflowError, RecursionError):
        return repr(event).encode("utf-8", "backslashreplace")


def _quantities(event: UsageEvent) -> str:
    cells = _NO_QUANTITIES.copy()
    if event.usage:
        for meter, quantity in disjoint_meters(event.usage).items():
            cells[_PLACE[meter]] = str(quantity)
    if event.part_of is None and event.usage_source is not UsageSource.NONE:
        cells[_REQUEST] = "1"
    return "\t".join(cells)


def _instant(instant: datetime | None) -> str:
    return NULL if instant is None else instant.isoformat()


@lru_cache(maxsize=16_384)
def _name(name: str | None, bytes_max: int = NAME_BYTES_MAX) -> str:
    """COPY text of a name that many events share."""
    return NULL if name is None else _text(_cut(name, bytes_max))


def _cut(name: str, bytes_max: int) -> str:
    """`name` as far as an index entry holds it; two long names stay two."""
    raw = name.encode("utf-8", "replace")
    if len(raw) <= bytes_max:
        return name
    mark = "~" + sha256(raw).hexdigest()[:12]
    return raw[: bytes_max - len(mark)].decode("utf-8", "ignore") + mark


def _text(value: str | None) -> str:
    """COPY text of `value`, storable."""
    if value is None:
        return NULL
    if _NEEDS_ESCAPE.search(value) is None:
        return value
    return _storable(value).translate(_ESCAPED)


def _storable(value: str) -> str:
    """`value` with replacement characters for NUL and lone surrogates, which Postgres can't hold."""
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _json(value: dict[str, Any] | None) -> str:
    if value is None:
        return NULL
    encoded = msgspec.json.encode(value).decode()
    if "\\" not in encoded:
        return encoded
    if "\\u0000" in encoded:
        encoded = msgspec.json.encode(_without_nul(value)).decode()
    return encoded.replace("\\", "\\\\")


def _without_nul(value: Any) -> Any:  # any JSON value
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(part) for key, part in value.items()}
    return [_without_nul(part) for part in value] if isinstance(value, list) else value
