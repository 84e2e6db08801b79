"""Counts of what is not a token, what else decides a price, and responses whose usage several answers tell.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"

# One statement, so that the rows there are read once to check them; new columns without a value cost nothing.
EVENT = """
ALTER TABLE usage_event
    ADD COLUMN variant text,
    ADD COLUMN estimator text,
    ADD COLUMN reported_cost numeric(38, 18),
    ADD COLUMN part_of uuid,
    ADD COLUMN document_input_tokens bigint,
    ADD COLUMN billed_input_tokens bigint,
    ADD COLUMN billed_output_tokens bigint,
    ADD COLUMN file_search_requests bigint,
    ADD COLUMN code_execution_requests bigint,
    ADD COLUMN tool_requests bigint,
    ADD COLUMN search_sources bigint,
    ADD COLUMN search_units bigint,
    ADD COLUMN guardrail_units bigint,
    ADD COLUMN output_images bigint,
    ADD COLUMN input_pages bigint,
    ADD COLUMN input_characters bigint,
    ADD COLUMN audio_input_ms bigint,
    ADD COLUMN audio_output_ms bigint,
    ADD COLUMN video_output_ms bigint,
    ADD COLUMN compute_ms bigint,
    ADD COLUMN unbilled_input_quantity bigint,
    ADD COLUMN unbilled_output_quantity bigint,
    ADD COLUMN file_search_quantity bigint,
    ADD COLUMN code_execution_quantity bigint,
    ADD COLUMN tool_request_quantity bigint,
    ADD COLUMN search_source_quantity bigint,
    ADD COLUMN search_unit_quantity bigint,
    ADD COLUMN guardrail_unit_quantity bigint,
    ADD COLUMN image_quantity bigint,
    ADD COLUMN page_quantity bigint,
    ADD COLUMN character_quantity bigint,
    ADD COLUMN audio_input_ms_quantity bigint,
    ADD COLUMN audio_output_ms_quantity bigint,
    ADD COLUMN video_output_ms_quantity bigint,
    ADD COLUMN compute_ms_quantity bigint,
    DROP CONSTRAINT ck_usage_event_usage_bounded,
    ADD CONSTRAINT ck_usage_event_usage_bounded CHECK (
        least(
            input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,
            cache_write_5m_input_tokens, cache_write_1h_input_tokens, audio_input_tokens,
            cache_read_audio_input_tokens, image_input_tokens, video_input_tokens, tool_use_input_tokens,
            reasoning_output_tokens, audio_output_tokens, image_output_tokens, accepted_prediction_output_tokens,
            rejected_prediction_output_tokens, document_input_tokens, billed_input_tokens, billed_output_tokens,
            web_search_requests, web_fetch_requests, file_search_requests, code_execution_requests, tool_requests,
            search_sources, search_units, guardrail_units, output_images, input_pages, input_characters,
            audio_input_ms, audio_output_ms, video_output_ms, compute_ms
        ) >= 0
        AND greatest(
            input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,
            cache_write_5m_input_tokens, cache_write_1h_input_tokens, audio_input_tokens,
            cache_read_audio_input_tokens, image_input_tokens, video_input_tokens, tool_use_input_tokens,
            reasoning_output_tokens, audio_output_tokens, image_output_tokens, accepted_prediction_output_tokens,
            rejected_prediction_output_tokens, document_input_tokens, billed_input_tokens, billed_output_tokens,
            web_search_requests, web_fetch_requests, file_search_requests, code_execution_requests, tool_requests,
            search_sources, search_units, guardrail_units, output_images, input_pages, input_characters,
            audio_input_ms, audio_output_ms, video_output_ms, compute_ms
        ) <= 1000000000000
    ),
    DROP CONSTRAINT ck_usage_event_quantities_bounded,
    ADD CONSTRAINT ck_usage_event_quantities_bounded CHECK (
        least(
            input_quantity, cache_read_input_quantity, cache_write_input_quantity, cache_write_1h_input_quantity,
            audio_input_quantity, cache_read_audio_input_quantity, image_input_quantity, video_input_quantity,
            output_quantity, reasoning_output_quantity, audio_output_quantity, image_output_quantity,
            unbilled_input_quantity, unbilled_output_quantity, web_search_quantity, file_search_quantity,
            code_execution_quantity, tool_request_quantity, search_source_quantity, search_unit_quantity,
            guardrail_unit_quantity, image_quantity, page_quantity, character_quantity, audio_input_ms_quantity,
            audio_output_ms_quantity, video_output_ms_quantity, compute_ms_quantity, request_quantity
        ) >= 0
        AND greatest(
            input_quantity, cache_read_input_quantity, cache_write_input_quantity, cache_write_1h_input_quantity,
            audio_input_quantity, cache_read_audio_input_quantity, image_input_quantity, video_input_quantity,
            output_quantity, reasoning_output_quantity, audio_output_quantity, image_output_quantity,
            unbilled_input_quantity, unbilled_output_quantity, web_search_quantity, file_search_quantity,
            code_execution_quantity, tool_request_quantity, search_source_quantity, search_unit_quantity,
            guardrail_unit_quantity, image_quantity, page_quantity, character_quantity, audio_input_ms_quantity,
            audio_output_ms_quantity, video_output_ms_quantity, compute_ms_quantity, request_quantity
        ) <= 1000000000000
    ),
    DROP CONSTRAINT ck_usage_event_input_adds_up,
    ADD CONSTRAINT ck_usage_event_input_adds_up CHECK (
        coalesce(input_quantity, 0) + coalesce(cache_read_input_quantity, 0)
            + coalesce(cache_write_input_quantity, 0) + coalesce(cache_write_1h_input_quantity, 0)
            + coalesce(audio_input_quantity, 0) + coalesce(cache_read_audio_input_quantity, 0)
            + coalesce(image_input_quantity, 0) + coalesce(video_input_quantity, 0)
            + coalesce(unbilled_input_quantity, 0) = coalesce(input_tokens, 0)
    ),
    DROP CONSTRAINT ck_usage_event_output_adds_up,
    ADD CONSTRAINT ck_usage_event_output_adds_up CHECK (
        coalesce(output_quantity, 0) + coalesce(reasoning_output_quantity, 0)
            + coalesce(audio_output_quantity, 0) + coalesce(image_output_quantity, 0)
            + coalesce(unbilled_output_quantity, 0) = coalesce(output_tokens, 0)
    ),
    ADD CONSTRAINT ck_usage_event_reported_cost_bounded CHECK (reported_cost BETWEEN 0 AND 1000000000000),
    ADD CONSTRAINT ck_usage_event_part_is_no_request CHECK (part_of IS NULL OR request_quantity IS NULL)
"""

RESPONSE = """
CREATE TABLE counted_response (
    provider_name text NOT NULL,
    response_id text NOT NULL,
    event_id uuid NOT NULL,
    counted_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_counted_response PRIMARY KEY (provider_name, response_id)
)
"""

DIMENSION = """
ALTER TABLE usage_dimension
    ADD COLUMN variant text,
    DROP CONSTRAINT uq_usage_dimension,
    ADD CONSTRAINT uq_usage_dimension UNIQUE NULLS NOT DISTINCT (
        model, team, project, environment, principal, credential_id, provider_name, deployment, region,
        operation_name, service_tier, variant, context_band, usage_source, outcome
    )
"""

# Slots counted so far hold none of the new things. No default stays: a counter that doesn't know them must stop.
SLOT_QUANTITIES = (
    "unbilled_input_quantity",
    "unbilled_output_quantity",
    "file_search_quantity",
    "code_execution_quantity",
    "tool_request_quantity",
    "search_source_quantity",
    "search_unit_quantity",
    "guardrail_unit_quantity",
    "image_quantity",
    "page_quantity",
    "character_quantity",
    "audio_input_ms_quantity",
    "audio_output_ms_quantity",
    "video_output_ms_quantity",
    "compute_ms_quantity",
)
SLOT = f"""
ALTER TABLE usage_slot
    {", ".join(f"ADD COLUMN {name} bigint DEFAULT 0 NOT NULL" for name in SLOT_QUANTITIES)},
    DROP CONSTRAINT ck_usage_slot_calls_positive,
    ADD CONSTRAINT ck_usage_slot_calls_not_negative CHECK (calls >= 0),
    DROP CONSTRAINT ck_usage_slot_quantities_not_negative,
    ADD CONSTRAINT ck_usage_slot_quantities_not_negative CHECK (
        least(
            input_quantity, cache_read_input_quantity, cache_write_input_quantity, cache_write_1h_input_quantity,
            audio_input_quantity, cache_read_audio_input_quantity, image_input_quantity, video_input_quantity,
            output_quantity, reasoning_output_quantity, audio_output_quantity, image_output_quantity,
            unbilled_input_quantity, unbilled_output_quantity, web_search_quantity, file_search_quantity,
            code_execution_quantity, tool_request_quantity, search_source_quantity, search_unit_quantity,
            guardrail_unit_quantity, image_quantity, page_quantity, character_quantity, audio_input_ms_quantity,
            audio_output_ms_quantity, video_output_ms_quantity, compute_ms_quantity, request_quantity
        ) >= 0
    );
ALTER TABLE usage_slot
    {", ".join(f"ALTER COLUMN {name} DROP DEFAULT" for name in SLOT_QUANTITIES)}
"""

PRICE = "ALTER TABLE sku_price ADD COLUMN variant text"


def upgrade() -> None:
    """Add the columns, and the table of responses that were counted."""
    # Some 7 s a million events. Shippers wait that long, and their spools hold what comes.
    op.execute("SET LOCAL statement_timeout = '1h'")
    for statements in (EVENT, RESPONSE, DIMENSION, SLOT, PRICE):
        for statement in statements.split(";\n"):
            op.execute(statement)
