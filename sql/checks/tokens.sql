-- Tokens: an event's input meters add up to its input_tokens, its output meters to its output_tokens.
SELECT event_id, started_at, input_tokens, input_meters, output_tokens, output_meters
FROM (
    SELECT
        event_id,
        started_at,
        coalesce(input_tokens, 0) AS input_tokens,
        coalesce(input_quantity, 0) + coalesce(cache_read_input_quantity, 0)
            + coalesce(cache_write_input_quantity, 0) + coalesce(cache_write_1h_input_quantity, 0)
            + coalesce(audio_input_quantity, 0) + coalesce(cache_read_audio_input_quantity, 0)
            + coalesce(image_input_quantity, 0) + coalesce(video_input_quantity, 0)
            + coalesce(unbilled_input_quantity, 0) AS input_meters,
        coalesce(output_tokens, 0) AS output_tokens,
        coalesce(output_quantity, 0) + coalesce(reasoning_output_quantity, 0)
            + coalesce(audio_output_quantity, 0) + coalesce(image_output_quantity, 0)
            + coalesce(unbilled_output_quantity, 0) AS output_meters
    FROM usage_event
) AS event
WHERE input_tokens <> input_meters OR output_tokens <> output_meters
