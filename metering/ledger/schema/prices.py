"""Prices: immutable versions of price sources, and their rows. Nothing here is ever updated or deleted.

The price book in force is the newest version of each source. A trigger (in the migration) refuses every change
of a row that is there: a statement names the version it was made with.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    Time,
)
from sqlalchemy.dialects.postgresql import JSONB

from metering.ledger.schema import metadata

price_book_version = Table(
    "price_book_version",
    metadata,
    Column("version_id", BigInteger, Identity(always=True), primary_key=True),
    Column("source_name", Text, nullable=False),  # "genai-prices", or what the operator's file is called
    Column("source_version", Text, nullable=False),
    Column("layer", Text, nullable=False),
    Column(
        "digest", Text, nullable=False
    ),  # SHA-256 (hex) of the rows and rules: the same content is not a new version
    Column("row_count", Integer, nullable=False),
    Column("provider_rules", JSONB, nullable=False),
    Column("imported_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("layer IN ('own', 'published')", name="layer_known"),
    CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name="digest_is_sha256"),
    CheckConstraint("row_count >= 0", name="row_count_not_negative"),
    Index(None, "source_name", "version_id"),
)

sku_price = Table(
    "sku_price",
    metadata,
    Column("version_id", ForeignKey("price_book_version.version_id"), nullable=False),
    Column("price_id", Text, nullable=False),
    Column("provider_name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("match", JSONB, nullable=False),
    Column("match_order", Integer, nullable=False),
    Column("meter", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("service_tier", Text),
    Column("region", Text),
    Column("variant", Text),
    Column("context_over_tokens", BigInteger),
    Column("daily_from", Time),
    Column("daily_to", Time),
    Column("unit_quantity", BigInteger, nullable=False),
    Column("unit_price", Numeric(38, 12), nullable=False),
    Column("currency", Text, nullable=False),
    Column("effective_from", DateTime(timezone=True)),
    Column("effective_to", DateTime(timezone=True)),
    Column("source", Text, nullable=False),
    PrimaryKeyConstraint("version_id", "price_id"),
    CheckConstraint("kind IN ('list', 'contracted')", name="kind_known"),
    CheckConstraint("unit_price >= 0", name="unit_price_not_negative"),
    CheckConstraint("unit_quantity > 0", name="unit_quantity_positive"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_is_iso_4217"),
    CheckConstraint("effective_from < effective_to", name="effective_ascends"),
    CheckConstraint("(daily_from IS NULL) = (daily_to IS NULL)", name="daily_has_both_ends"),
)
