-- Positions: a source stands where its last batch ends, its first batch begins at 0, and no batch leaves a gap.
SELECT 'gap or overlap' AS problem, source_id, batch_id, previous_after AS expected, position_before AS found
FROM (
    SELECT
        source_id, batch_id, position_before,
        lag(position_after, 1, 0::bigint) OVER (PARTITION BY source_id ORDER BY position_before) AS previous_after
    FROM shipped_batch
) AS batch
WHERE position_before <> previous_after
UNION ALL
SELECT 'source stands elsewhere', s.source_id, max(b.batch_id), coalesce(max(b.position_after), 0), s.position
FROM spool_source AS s
LEFT JOIN shipped_batch AS b ON b.source_id = s.source_id
GROUP BY s.source_id, s.position
HAVING coalesce(max(b.position_after), 0) <> s.position
