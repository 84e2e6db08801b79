-- Responses: what several answers tell is counted with one call, whose events are here and have usage. Nobody else has it.
SELECT c.provider_name, c.response_id, c.event_id
FROM counted_response AS c
WHERE NOT EXISTS (
    SELECT FROM usage_event AS e
    WHERE coalesce(e.part_of, e.event_id) = c.event_id AND e.usage_source <> 'none'
)
UNION ALL
SELECT c.provider_name, c.response_id, coalesce(e.part_of, e.event_id)
FROM counted_response AS c
JOIN usage_event AS e ON
    e.provider_name = c.provider_name
    AND e.response_id = c.response_id
    AND e.usage_source NOT IN ('none', 'unknown')
    AND coalesce(e.part_of, e.event_id) <> c.event_id
ORDER BY 1, 2, 3
