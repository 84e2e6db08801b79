-- Slots: they begin on quarter-hours, belong to a dimension, and hold nothing negative.
SELECT s.slot_at, s.dimension_id, s.calls
FROM usage_slot AS s
LEFT JOIN usage_dimension AS d ON d.dimension_id = s.dimension_id
WHERE
    date_bin('00:15:00', s.slot_at, '1970-01-01 00:00:00+00') <> s.slot_at
    OR d.dimension_id IS NULL
    OR least(
        s.calls,
        s.input_quantity, s.cache_read_input_quantity, s.cache_write_input_quantity, s.cache_write_1h_input_quantity,
        s.audio_input_quantity, s.cache_read_audio_input_quantity, s.image_input_quantity, s.video_input_quantity,
        s.output_quantity, s.reasoning_output_quantity, s.audio_output_quantity, s.image_output_quantity,
        s.unbilled_input_quantity, s.unbilled_output_quantity, s.web_search_quantity, s.file_search_quantity,
        s.code_execution_quantity, s.tool_request_quantity, s.search_source_quantity, s.search_unit_quantity,
        s.guardrail_unit_quantity, s.image_quantity, s.page_quantity, s.character_quantity, s.audio_input_ms_quantity,
        s.audio_output_ms_quantity, s.video_output_ms_quantity, s.compute_ms_quantity, s.request_quantity
    ) < 0
