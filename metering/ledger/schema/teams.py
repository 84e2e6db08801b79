"""Teams and their cost centres: immutable versions of one dated directory; the newest is in force."""

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Identity, Integer, Table, Text

from metering.ledger.schema import metadata

team_directory_version = Table(
    "team_directory_version",
    metadata,
    Column("version_id", BigInteger, Identity(always=True), primary_key=True),
    Column("digest", Text, nullable=False),  # SHA-256 (hex) of the rows
    Column("row_count", Integer, nullable=False),
    Column("imported_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name="digest_is_sha256"),
    CheckConstraint("row_count >= 0", name="row_count_not_negative"),
)

team_cost_center = Table(
    "team_cost_center",
    metadata,
    Column("row_id", BigInteger, Identity(always=True), primary_key=True),
    Column("version_id", ForeignKey("team_directory_version.version_id"), nullable=False, index=True),
    Column("team", Text, nullable=False),
    Column("cost_center", Text, nullable=False),
    Column("effective_from", DateTime(timezone=True)),
    Column("effective_to", DateTime(timezone=True)),
    CheckConstraint("team <> '' AND cost_center <> ''", name="names_not_empty"),
    CheckConstraint("effective_from < effective_to", name="effective_ascends"),
)
