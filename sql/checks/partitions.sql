-- Partitions: each is named after the one UTC day whose events it holds.
SELECT c.relname AS partition, e.events, e.first_started_at, e.last_started_at
FROM (
    SELECT tableoid, count(*) AS events, min(started_at) AS first_started_at, max(started_at) AS last_started_at
    FROM usage_event
    GROUP BY tableoid
) AS e
JOIN pg_class AS c ON c.oid = e.tableoid
WHERE
    c.relname <> 'usage_event_' || to_char(e.first_started_at AT TIME ZONE 'UTC', 'YYYYMMDD')
    OR c.relname <> 'usage_event_' || to_char(e.last_started_at AT TIME ZONE 'UTC', 'YYYYMMDD')
