-- Uniqueness: an event has one row in all partitions together. The primary key alone promises it for each day.
SELECT event_id, count(*) AS events, min(started_at) AS first_started_at, max(started_at) AS last_started_at
FROM usage_event
GROUP BY event_id
HAVING count(*) > 1
