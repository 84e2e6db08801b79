"""What was metered: events, the batches that brought them, where each source stands, and what was set aside.

`usage_event` holds each call's usage twice: inclusive, as the provider told it (`input_tokens` …), and disjoint,
as it is charged (`input_quantity` …, by `metering.core.usage.disjoint_meters` when shipped). In a disjoint
column null means none of that meter; whether anything was told at all is `usage_source`'s to say.
"""

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from metering.core.event import Outcome
from metering.core.usage import INPUT_METERS, OUTPUT_METERS, Meter, Usage, UsageSource
from metering.ledger.schema import metadata

USAGE_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Usage))
QUANTITY_COLUMNS = tuple(f"{meter}_quantity" for meter in Meter)

# No call consumes a million million of anything. A payload that says so is set aside before it can overflow a sum.
COUNT_MAX = 10**12

# A page range is summarised as soon as it is full, not when autovacuum next passes: the newest rows are read most.
BRIN_OPTIONS = {"pages_per_range": 16, "autosummarize": "on"}

# The milliseconds in a UUIDv7's first 48 bits, as an instant. Exact: interval arithmetic is in whole microseconds.
STARTED_AT_OF_ID = (
    "'1970-01-01 00:00:00+00'::timestamptz"
    " + ('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint * '00:00:00.001'::interval"
)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def _sum_of(meters: tuple[Meter, ...]) -> str:
    return " + ".join(f"coalesce({meter}_quantity, 0)" for meter in meters)


def _bounded(columns: tuple[str, ...]) -> str:
    """All of `columns` between 0 and `COUNT_MAX`; nulls pass (least and greatest skip them)."""
    return f"least({', '.join(columns)}) >= 0 AND greatest({', '.join(columns)}) <= {COUNT_MAX}"


usage_event = Table(
    "usage_event",
    metadata,
    Column("event_id", Uuid, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("first_token_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("batch_id", BigInteger, nullable=False),
    Column("batch_ordinal", Integer, nullable=False),  # the event's place in its batch, from 0
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the spool record: tells a repeat from a conflict
    Column("provider_name", Text, nullable=False),
    Column("operation_name", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("usage_source", Text, nullable=False),
    Column("request_model", Text),
    Column("response_model", Text),
    Column("response_id", Text),
    Column("deployment", Text),
    Column("region", Text),
    Column("service_tier", Text),
    Column("variant", Text),
    Column("estimator", Text),
    Column("reported_cost", Numeric(38, 18)),  # USD
    Column("part_of", Uuid),  # another event's id; that one may come later, or never
    Column("streamed", Boolean, nullable=False),
    Column("status", Integer),
    Column("request_bytes", BigInteger, nullable=False),
    Column("response_bytes", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("trace_id", Text),
    Column("credential_id", Text),
    Column("principal", Text),
    Column("team", Text),
    Column("project", Text),
    Column("environment", Text),
    Column("tags", JSONB),
    *(Column(name, BigInteger) for name in USAGE_COLUMNS),
    Column("raw_usage", JSONB),
    Column("context_band", Integer, nullable=False),
    *(Column(name, BigInteger) for name in QUANTITY_COLUMNS),
    PrimaryKeyConstraint("event_id", "started_at"),
    CheckConstraint(f"started_at = {STARTED_AT_OF_ID}", name="started_at_is_in_id"),
    CheckConstraint("substr(event_id::text, 15, 1) = '7'", name="id_is_version_7"),
    CheckConstraint("octet_length(digest) = 32", name="digest_is_sha256"),
    CheckConstraint(_one_of("outcome", tuple(Outcome)), name="outcome_known"),
    CheckConstraint(_one_of("usage_source", tuple(UsageSource)), name="usage_source_known"),
    CheckConstraint(_bounded(USAGE_COLUMNS), name="usage_bounded"),
    CheckConstraint(_bounded(QUANTITY_COLUMNS), name="quantities_bounded"),
    CheckConstraint(f"{_sum_of(INPUT_METERS)} = coalesce(input_tokens, 0)", name="input_adds_up"),
    CheckConstraint(f"{_sum_of(OUTPUT_METERS)} = coalesce(output_tokens, 0)", name="output_adds_up"),
    CheckConstraint(f"reported_cost BETWEEN 0 AND {COUNT_MAX}", name="reported_cost_bounded"),
    CheckConstraint("part_of IS NULL OR request_quantity IS NULL", name="part_is_no_request"),
    CheckConstraint("request_bytes >= 0 AND response_bytes >= 0 AND attempt >= 0", name="sizes_not_negative"),
    # Rows arrive in order of time and batch, so a few pages of BRIN find a batch or an hour in a day.
    Index(None, "batch_id", postgresql_using="brin", postgresql_with=BRIN_OPTIONS),
    Index(None, "started_at", postgresql_using="brin", postgresql_with=BRIN_OPTIONS),
    postgresql_partition_by="RANGE (started_at)",
)

# Whose usage several answers tell, and the call it was counted with: the first that was shipped.
counted_response = Table(
    "counted_response",
    metadata,
    Column("provider_name", Text, nullable=False),
    Column("response_id", Text, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("counted_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("provider_name", "response_id"),
)

spool_source = Table(
    "spool_source",
    metadata,
    Column("source_id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("position", BigInteger, nullable=False, server_default=text("0")),  # the last shipped sequence
    Column("registered_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("moved_at", DateTime(timezone=True)),
    CheckConstraint("position >= 0", name="position_not_negative"),
)

shipped_batch = Table(
    "shipped_batch",
    metadata,
    Column("batch_id", BigInteger, Identity(always=True), primary_key=True),
    Column("source_id", ForeignKey("spool_source.source_id"), nullable=False),
    Column("position_before", BigInteger, nullable=False),  # the batch holds the sequences after this one …
    Column("position_after", BigInteger, nullable=False),  # … up to and with this one
    Column("events", Integer, nullable=False),  # records brought; those not inserted were here before or set aside
    Column("inserted", Integer, nullable=False),
    Column("started_at_min", DateTime(timezone=True)),  # of the events brought; null if none
    Column("started_at_max", DateTime(timezone=True)),
    Column("shipped_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("counted_at", DateTime(timezone=True)),  # null: its events are not in usage_slot yet
    UniqueConstraint("source_id", "position_before"),  # two batches can't start at the same place
    CheckConstraint("position_before < position_after", name="positions_ascend"),
    CheckConstraint("inserted BETWEEN 0 AND events", name="inserted_were_brought"),
    CheckConstraint("inserted = 0 OR started_at_min <= started_at_max", name="started_at_ascends"),
)
# Holds only what is still to be counted, so it stays small however long the history is.
uncounted_index = Index(
    "ix_shipped_batch_uncounted", shipped_batch.c.batch_id, postgresql_where=shipped_batch.c.counted_at.is_(None)
)

usage_event_conflict = Table(
    "usage_event_conflict",
    metadata,
    Column("conflict_id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("batch_id", ForeignKey("shipped_batch.batch_id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),  # the whole event as JSON: bytes, so that anything fits
    Column("set_aside_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("acknowledged_at", DateTime(timezone=True)),  # null: `metering verify` still reports it
    UniqueConstraint("event_id", "digest"),  # the same record sent again is the same conflict
    CheckConstraint(_one_of("reason", ("other_digest", "refused")), name="reason_known"),
)


def not_counted() -> ColumnElement[bool]:
    """Batches whose events are not in `usage_slot` yet; served by `uncounted_index`."""
    return shipped_batch.c.counted_at.is_(None)
