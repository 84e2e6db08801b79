-- Start times: started_at is the instant inside the event's id, so a call that is sent again meets its earlier self.
SELECT event_id, started_at
FROM usage_event
WHERE
    started_at <> '1970-01-01 00:00:00+00'::timestamptz
        + ('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint * '00:00:00.001'::interval
