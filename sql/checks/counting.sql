-- Counting: by quarter-hour and dimension, the slots hold exactly the events of the batches marked as counted.
-- Events count as plus, slots as minus; what does not come to zero was lost, doubled or made up; so was
-- what only one side has. Parts are no calls.
WITH entry AS (
    SELECT
        date_bin('00:15:00', e.started_at, '1970-01-01 00:00:00+00') AS slot_at,
        e.team, e.project, e.environment, e.principal, e.credential_id, e.provider_name, e.deployment, e.region,
        e.operation_name, coalesce(nullif(e.response_model, ''), e.request_model) AS model, e.service_tier,
        e.variant, e.context_band, e.usage_source, e.outcome,
        true AS is_event,
        (e.part_of IS NULL)::int AS calls,
        coalesce(e.input_quantity, 0) AS input_quantity,
        coalesce(e.cache_read_input_quantity, 0) AS cache_read_input_quantity,
        coalesce(e.cache_write_input_quantity, 0) AS cache_write_input_quantity,
        coalesce(e.cache_write_1h_input_quantity, 0) AS cache_write_1h_input_quantity,
        coalesce(e.audio_input_quantity, 0) AS audio_input_quantity,
        coalesce(e.cache_read_audio_input_quantity, 0) AS cache_read_audio_input_quantity,
        coalesce(e.image_input_quantity, 0) AS image_input_quantity,
        coalesce(e.video_input_quantity, 0) AS video_input_quantity,
        coalesce(e.output_quantity, 0) AS output_quantity,
        coalesce(e.reasoning_output_quantity, 0) AS reasoning_output_quantity,
        coalesce(e.audio_output_quantity, 0) AS audio_output_quantity,
        coalesce(e.image_output_quantity, 0) AS image_output_quantity,
        coalesce(e.unbilled_input_quantity, 0) AS unbilled_input_quantity,
        coalesce(e.unbilled_output_quantity, 0) AS unbilled_output_quantity,
        coalesce(e.web_search_quantity, 0) AS web_search_quantity,
        coalesce(e.file_search_quantity, 0) AS file_search_quantity,
        coalesce(e.code_execution_quantity, 0) AS code_execution_quantity,
        coalesce(e.tool_request_quantity, 0) AS tool_request_quantity,
        coalesce(e.search_source_quantity, 0) AS search_source_quantity,
        coalesce(e.search_unit_quantity, 0) AS search_unit_quantity,
        coalesce(e.guardrail_unit_quantity, 0) AS guardrail_unit_quantity,
        coalesce(e.image_quantity, 0) AS image_quantity,
        coalesce(e.page_quantity, 0) AS page_quantity,
        coalesce(e.character_quantity, 0) AS character_quantity,
        coalesce(e.audio_input_ms_quantity, 0) AS audio_input_ms_quantity,
        coalesce(e.audio_output_ms_quantity, 0) AS audio_output_ms_quantity,
        coalesce(e.video_output_ms_quantity, 0) AS video_output_ms_quantity,
        coalesce(e.compute_ms_quantity, 0) AS compute_ms_quantity,
        coalesce(e.request_quantity, 0) AS request_quantity
    FROM usage_event AS e
    JOIN shipped_batch AS b ON b.batch_id = e.batch_id AND b.counted_at IS NOT NULL
    UNION ALL
    SELECT
        s.slot_at,
        d.team, d.project, d.environment, d.principal, d.credential_id, d.provider_name, d.deployment, d.region,
        d.operation_name, d.model, d.service_tier,
        d.variant, d.context_band, d.usage_source, d.outcome,
        false,
        -s.calls,
        -s.input_quantity, -s.cache_read_input_quantity, -s.cache_write_input_quantity,
        -s.cache_write_1h_input_quantity, -s.audio_input_quantity, -s.cache_read_audio_input_quantity,
        -s.image_input_quantity, -s.video_input_quantity, -s.output_quantity, -s.reasoning_output_quantity,
        -s.audio_output_quantity, -s.image_output_quantity, -s.unbilled_input_quantity, -s.unbilled_output_quantity,
        -s.web_search_quantity, -s.file_search_quantity, -s.code_execution_quantity, -s.tool_request_quantity,
        -s.search_source_quantity, -s.search_unit_quantity, -s.guardrail_unit_quantity, -s.image_quantity,
        -s.page_quantity, -s.character_quantity, -s.audio_input_ms_quantity, -s.audio_output_ms_quantity,
        -s.video_output_ms_quantity, -s.compute_ms_quantity, -s.request_quantity
    FROM usage_slot AS s
    LEFT JOIN usage_dimension AS d ON d.dimension_id = s.dimension_id
)
SELECT
    slot_at, team, project, environment, principal, credential_id, provider_name, deployment, region, operation_name,
    model, service_tier, variant, context_band, usage_source, outcome,
    sum(calls) AS uncounted_calls,
    sum(input_quantity + cache_read_input_quantity + cache_write_input_quantity + cache_write_1h_input_quantity
        + audio_input_quantity + cache_read_audio_input_quantity + image_input_quantity + video_input_quantity
        + unbilled_input_quantity)
        AS uncounted_input_tokens,
    sum(output_quantity + reasoning_output_quantity + audio_output_quantity + image_output_quantity
        + unbilled_output_quantity)
        AS uncounted_output_tokens
FROM entry
GROUP BY
    slot_at, team, project, environment, principal, credential_id, provider_name, deployment, region, operation_name,
    model, service_tier, variant, context_band, usage_source, outcome
HAVING
    bool_and(is_event) OR NOT bool_or(is_event)
    OR sum(calls) <> 0
    OR sum(input_quantity) <> 0 OR sum(cache_read_input_quantity) <> 0 OR sum(cache_write_input_quantity) <> 0
    OR sum(cache_write_1h_input_quantity) <> 0 OR sum(audio_input_quantity) <> 0
    OR sum(cache_read_audio_input_quantity) <> 0 OR sum(image_input_quantity) <> 0 OR sum(video_input_quantity) <> 0
    OR sum(output_quantity) <> 0 OR sum(reasoning_output_quantity) <> 0 OR sum(audio_output_quantity) <> 0
    OR sum(image_output_quantity) <> 0 OR sum(unbilled_input_quantity) <> 0 OR sum(unbilled_output_quantity) <> 0
    OR sum(web_search_quantity) <> 0 OR sum(file_search_quantity) <> 0 OR sum(code_execution_quantity) <> 0
    OR sum(tool_request_quantity) <> 0 OR sum(search_source_quantity) <> 0 OR sum(search_unit_quantity) <> 0
    OR sum(guardrail_unit_quantity) <> 0 OR sum(image_quantity) <> 0 OR sum(page_quantity) <> 0
    OR sum(character_quantity) <> 0 OR sum(audio_input_ms_quantity) <> 0 OR sum(audio_output_ms_quantity) <> 0
    OR sum(video_output_ms_quantity) <> 0 OR sum(compute_ms_quantity) <> 0 OR sum(request_quantity) <> 0
ORDER BY slot_at, team, model
