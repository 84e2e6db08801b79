"""Dated prices and the team directory, in versions that nobody can change afterwards.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"

PRICE_VERSION = """
CREATE TABLE price_book_version (
    version_id bigint GENERATED ALWAYS AS IDENTITY,
    source_name text NOT NULL,
    source_version text NOT NULL,
    layer text NOT NULL,
    digest text NOT NULL,
    row_count integer NOT NULL,
    provider_rules jsonb NOT NULL,
    imported_at timestamptz NOT NULL,
    CONSTRAINT pk_price_book_version PRIMARY KEY (version_id),
    CONSTRAINT ck_price_book_version_layer_known CHECK (layer IN ('own', 'published')),
    CONSTRAINT ck_price_book_version_digest_is_sha256 CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_price_book_version_row_count_not_negative CHECK (row_count >= 0)
);
CREATE INDEX ix_price_book_version_source_name_version_id ON price_book_version (source_name, version_id)
"""

PRICE = """
CREATE TABLE sku_price (
    version_id bigint NOT NULL,
    price_id text NOT NULL,
    provider_name text NOT NULL,
    model text NOT NULL,
    match jsonb NOT NULL,
    match_order integer NOT NULL,
    meter text NOT NULL,
    kind text NOT NULL,
    service_tier text,
    region text,
    context_over_tokens bigint,
    daily_from time,
    daily_to time,
    unit_quantity bigint NOT NULL,
    unit_price numeric(38, 12) NOT NULL,
    currency text NOT NULL,
    effective_from timestamptz,
    effective_to timestamptz,
    source text NOT NULL,
    CONSTRAINT pk_sku_price PRIMARY KEY (version_id, price_id),
    CONSTRAINT fk_sku_price_version_id_price_book_version
        FOREIGN KEY (version_id) REFERENCES price_book_version (version_id),
    CONSTRAINT ck_sku_price_kind_known CHECK (kind IN ('list', 'contracted')),
    CONSTRAINT ck_sku_price_unit_price_not_negative CHECK (unit_price >= 0),
    CONSTRAINT ck_sku_price_unit_quantity_positive CHECK (unit_quantity > 0),
    CONSTRAINT ck_sku_price_currency_is_iso_4217 CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT ck_sku_price_effective_ascends CHECK (effective_from < effective_to),
    CONSTRAINT ck_sku_price_daily_has_both_ends CHECK ((daily_from IS NULL) = (daily_to IS NULL))
)
"""

TEAM_VERSION = """
CREATE TABLE team_directory_version (
    version_id bigint GENERATED ALWAYS AS IDENTITY,
    digest text NOT NULL,
    row_count integer NOT NULL,
    imported_at timestamptz NOT NULL,
    CONSTRAINT pk_team_directory_version PRIMARY KEY (version_id),
    CONSTRAINT ck_team_directory_version_digest_is_sha256 CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_team_directory_version_row_count_not_negative CHECK (row_count >= 0)
)
"""

TEAM = """
CREATE TABLE team_cost_center (
    row_id bigint GENERATED ALWAYS AS IDENTITY,
    version_id bigint NOT NULL,
    team text NOT NULL,
    cost_center text NOT NULL,
    effective_from timestamptz,
    effective_to timestamptz,
    CONSTRAINT pk_team_cost_center PRIMARY KEY (row_id),
    CONSTRAINT fk_team_cost_center_version_id_team_directory_version
        FOREIGN KEY (version_id) REFERENCES team_directory_version (version_id),
    CONSTRAINT ck_team_cost_center_names_not_empty CHECK (team <> '' AND cost_center <> ''),
    CONSTRAINT ck_team_cost_center_effective_ascends CHECK (effective_from < effective_to)
);
CREATE INDEX ix_team_cost_center_version_id ON team_cost_center (version_id)
"""

# A statement names the versions it was made with; it can be made again only while they are what they were.
IMMUTABLE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is never changed: import a new version', TG_TABLE_NAME USING ERRCODE = '42501';
END
$$
"""
VERSIONED = ("price_book_version", "sku_price", "team_directory_version", "team_cost_center")


def upgrade() -> None:
    """Make the tables of prices and of teams, and the triggers that keep their rows as they are."""
    for statements in (PRICE_VERSION, PRICE, TEAM_VERSION, TEAM):
        for statement in statements.split(";\n"):
            op.execute(statement)
    op.execute(IMMUTABLE)
    for table in VERSIONED:
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
