-- Batches: every batch's events are here, no more and no fewer, within the span of time the batch names;
-- the counter reads only that span, so an event outside it would never be counted.
SELECT
    coalesce(b.batch_id, e.batch_id) AS batch_id,
    b.inserted,
    coalesce(e.events, 0) AS events,
    b.started_at_min, e.first_started_at, b.started_at_max, e.last_started_at
FROM shipped_batch AS b
FULL JOIN (
    SELECT
        batch_id, count(*) AS events, count(DISTINCT batch_ordinal) AS ordinals,
        min(started_at) AS first_started_at, max(started_at) AS last_started_at
    FROM usage_event
    GROUP BY batch_id
) AS e ON e.batch_id = b.batch_id
WHERE
    b.inserted IS DISTINCT FROM coalesce(e.events, 0)
    OR e.events <> e.ordinals
    OR e.first_started_at < b.started_at_min
    OR e.last_started_at > b.started_at_max
ORDER BY 1
