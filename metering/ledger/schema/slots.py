"""What was counted: integers by quarter-hour and dimension. Everything about money starts here."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from metering.ledger.schema import metadata
from metering.ledger.schema.events import QUANTITY_COLUMNS

# Every request-level fact that a price, an owner or a mark on a line can depend on.
usage_dimension = Table(
    "usage_dimension",
    metadata,
    Column("dimension_id", BigInteger, Identity(always=True), primary_key=True),
    Column("team", Text),
    Column("project", Text),
    Column("environment", Text),
    Column("principal", Text),
    Column("credential_id", Text),
    Column("provider_name", Text, nullable=False),
    Column("deployment", Text),
    Column("region", Text),
    Column("operation_name", Text, nullable=False),
    Column("model", Text),  # the model to price: the one that answered, else the one asked for
    Column("service_tier", Text),
    Column("variant", Text),
    Column("context_band", Integer, nullable=False),
    Column("usage_source", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)
DIMENSION_COLUMNS = tuple(column.name for column in usage_dimension.c if column.name != "dimension_id")
# "Nobody said" equals "nobody said": without NULLS NOT DISTINCT each such call would make a new dimension.
# Model first: it tells dimensions apart best, and every look-up names all columns.
usage_dimension.append_constraint(
    UniqueConstraint(
        "model",
        *(name for name in DIMENSION_COLUMNS if name != "model"),
        name="uq_usage_dimension",
        postgresql_nulls_not_distinct=True,
    )
)

ON_QUARTER_HOUR = "date_bin('00:15:00', slot_at, '1970-01-01 00:00:00+00') = slot_at"

usage_slot = Table(
    "usage_slot",
    metadata,
    Column("slot_at", DateTime(timezone=True), nullable=False),
    Column("dimension_id", ForeignKey("usage_dimension.dimension_id"), nullable=False),
    Column("calls", BigInteger, nullable=False),  # 0 where only parts of calls are in it
    *(Column(name, BigInteger, nullable=False) for name in QUANTITY_COLUMNS),
    PrimaryKeyConstraint("slot_at", "dimension_id"),
    CheckConstraint(ON_QUARTER_HOUR, name="slot_at_on_quarter_hour"),
    CheckConstraint("calls >= 0", name="calls_not_negative"),
    CheckConstraint(f"least({', '.join(QUANTITY_COLUMNS)}) >= 0", name="quantities_not_negative"),
    Index(None, "dimension_id", "slot_at"),  # where in a period a dimension was busy: the way to its events
)
