-- Conflicts: no record was set aside that nobody has looked at. Same id with other contents means that one of two
-- calls is not counted; a refused record means a call without a row. `metering verify --acknowledge` settles them.
SELECT conflict_id, event_id, batch_id, reason, set_aside_at
FROM usage_event_conflict
WHERE acknowledged_at IS NULL
ORDER BY conflict_id
