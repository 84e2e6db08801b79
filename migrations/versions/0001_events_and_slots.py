"""Events by day, what brought them, and their count by quarter-hour.

Revision ID: 0001
Revises: -
"""

from alembic import op

revision = "0001"
down_revision = None

EVENT = """
CREATE TABLE usage_event (
    event_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    first_token_at timestamptz,
    ended_at timestamptz,
    batch_id bigint NOT NULL,
    batch_ordinal integer NOT NULL,
    digest bytea NOT NULL,
    provider_name text NOT NULL,
    operation_name text NOT NULL,
    dialect text NOT NULL,
    outcome text NOT NULL,
    usage_source text NOT NULL,
    request_model text,
    response_model text,
    response_id text,
    deployment text,
    region text,
    service_tier text,
    streamed boolean NOT NULL,
    status integer,
    request_bytes bigint NOT NULL,
    response_bytes bigint NOT NULL,
    attempt integer NOT NULL,
    trace_id text,
    credential_id text,
    principal text,
    team text,
    project text,
    environment text,
    tags jsonb,
    input_tokens bigint,
    output_tokens bigint,
    cache_read_input_tokens bigint,
    cache_write_input_tokens bigint,
    cache_write_5m_input_tokens bigint,
    cache_write_1h_input_tokens bigint,
    audio_input_tokens bigint,
    cache_read_audio_input_tokens bigint,
    image_input_tokens bigint,
    video_input_tokens bigint,
    tool_use_input_tokens bigint,
    reasoning_output_tokens bigint,
    audio_output_tokens bigint,
    image_output_tokens bigint,
    accepted_prediction_output_tokens bigint,
    rejected_prediction_output_tokens bigint,
    web_search_requests bigint,
    web_fetch_requests bigint,
    raw_usage jsonb,
    context_band integer NOT NULL,
    input_quantity bigint,
    cache_read_input_quantity bigint,
    cache_write_input_quantity bigint,
    cache_write_1h_input_quantity bigint,
    audio_input_quantity bigint,
    cache_read_audio_input_quantity bigint,
    image_input_quantity bigint,
    video_input_quantity bigint,
    output_quantity bigint,
    reasoning_output_quantity bigint,
    audio_output_quantity bigint,
    image_output_quantity bigint,
    web_search_quantity bigint,
    request_quantity bigint,
    CONSTRAINT pk_usage_event PRIMARY KEY (event_id, started_at),
    CONSTRAINT ck_usage_event_started_at_is_in_id CHECK (
        started_at = '1970-01-01 00:00:00+00'::timestamptz
            + ('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint * '00:00:00.001'::interval
    ),
    CONSTRAINT ck_usage_event_id_is_version_7 CHECK (substr(event_id::text, 15, 1) = '7'),
    CONSTRAINT ck_usage_event_digest_is_sha256 CHECK (octet_length(digest) = 32),
    CONSTRAINT ck_usage_event_outcome_known CHECK (outcome IN ('completed', 'aborted', 'failed', 'interrupted')),
    CONSTRAINT ck_usage_event_usage_source_known CHECK (
        usage_source IN ('reported', 'header', 'partial', 'estimated', 'unknown', 'none')
    ),
    CONSTRAINT ck_usage_event_usage_bounded CHECK (
        least(
            input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,
            cache_write_5m_input_tokens, cache_write_1h_input_tokens, audio_input_tokens,
            cache_read_audio_input_tokens, image_input_tokens, video_input_tokens, tool_use_input_tokens,
            reasoning_output_tokens, audio_output_tokens, image_output_tokens, accepted_prediction_output_tokens,
            rejected_prediction_output_tokens, web_search_requests, web_fetch_requests
        ) >= 0
        AND greatest(
            input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,
            cache_write_5m_input_tokens, cache_write_1h_input_tokens, audio_input_tokens,
            cache_read_audio_input_tokens, image_input_tokens, video_input_tokens, tool_use_input_tokens,
            reasoning_output_tokens, audio_output_tokens, image_output_tokens, accepted_prediction_output_tokens,
            rejected_prediction_output_tokens, web_search_requests, web_fetch_requests
        ) <= 1000000000000
    ),
    CONSTRAINT ck_usage_event_quantities_bounded CHECK (
        least(
            input_quantity, cache_read_input_quantity, cache_write_input_quantity, cache_write_1h_input_quantity,
            audio_input_quantity, cache_read_audio_input_quantity, image_input_quantity, video_input_quantity,
            output_quantity, reasoning_output_quantity, audio_output_quantity, image_output_quantity,
            web_search_quantity, request_quantity
        ) >= 0
        AND greatest(
            input_quantity, cache_read_input_quantity, cache_write_input_quantity, cache_write_1h_input_quantity,
            audio_input_quantity, cache_read_audio_input_quantity, image_input_quantity, video_input_quantity,
            output_quantity, reasoning_output_quantity, audio_output_quantity, image_output_quantity,
            web_search_quantity, request_quantity
        ) <= 1000000000000
    ),
    CONSTRAINT ck_usage_event_input_adds_up CHECK (
        coalesce(input_quantity, 0) + coalesce(cache_read_input_quantity, 0)
            + coalesce(cache_write_input_quantity, 0) + coalesce(cache_write_1h_input_quantity, 0)
            + coalesce(audio_input_quantity, 0) + coalesce(cache_read_audio_input_quantity, 0)
            + coalesce(image_input_quantity, 0) + coalesce(video_input_quantity, 0) = coalesce(input_tokens, 0)
    ),
    CONSTRAINT ck_usage_event_output_adds_up CHECK (
        coalesce(output_quantity, 0) + coalesce(reasoning_output_quantity, 0)
            + coalesce(audio_output_quantity, 0) + coalesce(image_output_quantity, 0) = coalesce(output_tokens, 0)
    ),
    CONSTRAINT ck_usage_event_sizes_not_negative CHECK (
        request_bytes >= 0 AND response_bytes >= 0 AND attempt >= 0
    )
) PARTITION BY RANGE (started_at)
"""

EVENT_INDEXES = """
CREATE INDEX ix_usage_event_batch_id ON usage_event
    USING brin (batch_id) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX ix_usage_event_started_at ON usage_event
    USING brin (started_at) WITH (pages_per_range = 16, autosummarize = on)
"""

SOURCE = """
CREATE TABLE spool_source (
    source_id uuid NOT NULL,
    name text NOT NULL,
    position bigint DEFAULT 0 NOT NULL,
    registered_at timestamptz DEFAULT now() NOT NULL,
    moved_at timestamptz,
    CONSTRAINT pk_spool_source PRIMARY KEY (source_id),
    CONSTRAINT ck_spool_source_position_not_negative CHECK (position >= 0)
)
"""

BATCH = """
CREATE TABLE shipped_batch (
    batch_id bigint GENERATED ALWAYS AS IDENTITY,
    source_id uuid NOT NULL,
    position_before bigint NOT NULL,
    position_after bigint NOT NULL,
    events integer NOT NULL,
    inserted integer NOT NULL,
    started_at_min timestamptz,
    started_at_max timestamptz,
    shipped_at timestamptz DEFAULT now() NOT NULL,
    counted_at timestamptz,
    CONSTRAINT pk_shipped_batch PRIMARY KEY (batch_id),
    CONSTRAINT uq_shipped_batch_source_id_position_before UNIQUE (source_id, position_before),
    CONSTRAINT ck_shipped_batch_positions_ascend CHECK (position_before < position_after),
    CONSTRAINT ck_shipped_batch_inserted_were_brought CHECK (inserted BETWEEN 0 AND events),
    CONSTRAINT ck_shipped_batch_started_at_ascends CHECK (inserted = 0 OR started_at_min <= started_at_max),
    CONSTRAINT fk_shipped_batch_source_id_spool_source FOREIGN KEY (source_id) REFERENCES spool_source (source_id)
);
CREATE INDEX ix_shipped_batch_uncounted ON shipped_batch (batch_id) WHERE counted_at IS NULL
"""

CONFLICT = """
CREATE TABLE usage_event_conflict (
    conflict_id bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid NOT NULL,
    digest bytea NOT NULL,
    batch_id bigint NOT NULL,
    reason text NOT NULL,
    record bytea NOT NULL,
    set_aside_at timestamptz DEFAULT now() NOT NULL,
    acknowledged_at timestamptz,
    CONSTRAINT pk_usage_event_conflict PRIMARY KEY (conflict_id),
    CONSTRAINT uq_usage_event_conflict_event_id_digest UNIQUE (event_id, digest),
    CONSTRAINT ck_usage_event_conflict_reason_known CHECK (reason IN ('other_digest', 'refused')),
    CONSTRAINT fk_usage_event_conflict_batch_id_shipped_batch
        FOREIGN KEY (batch_id) REFERENCES shipped_batch (batch_id)
)
"""

DIMENSION = """
CREATE TABLE usage_dimension (
    dimension_id bigint GENERATED ALWAYS AS IDENTITY,
    team text,
    project text,
    environment text,
    principal text,
    credential_id text,
    provider_name text NOT NULL,
    deployment text,
    region text,
    operation_name text NOT NULL,
    model text,
    service_tier text,
    context_band integer NOT NULL,
    usage_source text NOT NULL,
    outcome text NOT NULL,
    CONSTRAINT pk_usage_dimension PRIMARY KEY (dimension_id),
    CONSTRAINT uq_usage_dimension UNIQUE NULLS NOT DISTINCT (
        model, team, project, environment, principal, credential_id, provider_name, deployment, region,
        operation_name, service_tier, context_band, usage_source, outcome
    )
)
"""

SLOT = """
CREATE TABLE usage_slot (
    slot_at timestamptz NOT NULL,
    dimension_id bigint NOT NULL,
    calls bigint NOT NULL,
    input_quantity bigint NOT NULL,
    cache_read_input_quantity bigint NOT NULL,
    cache_write_input_quantity bigint NOT NULL,
    cache_write_1h_input_quantity bigint NOT NULL,
    audio_input_quantity bigint NOT NULL,
    cache_read_audio_input_quantity bigint NOT NULL,
    image_input_quantity bigint NOT NULL,
    video_input_quantity bigint NOT NULL,
    output_quantity bigint NOT NULL,
    reasoning_output_quantity bigint NOT NULL,
    audio_output_quantity bigint NOT NULL,
    image_output_quantity bigint NOT NULL,
    web_search_quantity bigint NOT NULL,
    request_quantity bigint NOT NULL,
    CONSTRAINT pk_usage_slot PRIMARY KEY (slot_at, dimension_id),
    CONSTRAINT ck_usage_slot_slot_at_on_quarter_hour CHECK (
        date_bin('00:15:00', slot_at, '1970-01-01 00:00:00+00') = slot_at
    ),
    CONSTRAINT ck_usage_slot_calls_positive CHECK (calls > 0),
    CONSTRAINT ck_usage_slot_quantities_not_negative CHECK (
        least(
            input_quantity, cache_read_input_quantity, cache_write_input_quantity, cache_write_1h_input_quantity,
            audio_input_quantity, cache_read_audio_input_quantity, image_input_quantity, video_input_quantity,
            output_quantity, reasoning_output_quantity, audio_output_quantity, image_output_quantity,
            web_search_quantity, request_quantity
        ) >= 0
    ),
    CONSTRAINT fk_usage_slot_dimension_id_usage_dimension
        FOREIGN KEY (dimension_id) REFERENCES usage_dimension (dimension_id)
);
CREATE INDEX ix_usage_slot_dimension_id_slot_at ON usage_slot (dimension_id, slot_at)
"""


def upgrade() -> None:
    """Make the tables of events and of slots."""
    for statements in (SOURCE, BATCH, EVENT, EVENT_INDEXES, CONFLICT, DIMENSION, SLOT):
        for statement in statements.split(";\n"):
            op.execute(statement)
