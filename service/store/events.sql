-- name: insert_event
-- Append an event; its id follows the newest.
INSERT INTO events (job_uid, sequence, attempt, type, time, data) VALUES (?, ?, ?, ?, ?, ?)

-- name: upsert_cursor
-- How far the source of an attempt was read.
INSERT INTO sources (job_uid, attempt, file, n, offset) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (job_uid, attempt) DO UPDATE SET file = excluded.file, n = excluded.n, offset = excluded.offset

-- name: cursor
-- How far the source of an attempt was read.
SELECT file, n, offset FROM sources WHERE job_uid = ? AND attempt = ?

-- name: of_job
-- A job's events behind an id.
SELECT id, job_uid, type, data FROM events WHERE job_uid = ? AND id > ? ORDER BY id LIMIT ?

-- name: of_all
-- All events behind an id.
SELECT id, job_uid, type, data FROM events WHERE id > ? ORDER BY id LIMIT ?

-- name: bounds
-- The oldest and the newest id.
SELECT COALESCE((SELECT MIN(id) FROM events), 0), COALESCE((SELECT MAX(id) FROM events), 0)

-- name: told
-- The jobs with events beyond one id and up to another.
SELECT DISTINCT job_uid FROM events WHERE id > ? AND id <= ?

-- name: checkpoints
-- A job's checkpoints.
SELECT id, data FROM events INDEXED BY events_checkpoint WHERE job_uid = ? AND type = 'job.checkpoint' ORDER BY id

-- name: submissions
-- The attempts that a backend took, and which one.
SELECT attempt, json_extract(data, '$.data.backend') FROM events INDEXED BY events_submitted
WHERE job_uid = ? AND type = 'job.submitted' ORDER BY id

-- name: stalls
-- Whether a stall of an attempt was told.
SELECT id FROM events INDEXED BY events_stalled
WHERE job_uid = ? AND type = 'job.stalled' AND attempt >= ? LIMIT 1

-- name: metrics
-- Progress by step; of a step that was reported again the newest attempt's.
SELECT data FROM (
    SELECT data, step, ROW_NUMBER() OVER (PARTITION BY step ORDER BY attempt DESC, id DESC) AS place
    FROM (
        SELECT id, attempt, data, json_extract(data, '$.data.step') AS step
        FROM events INDEXED BY events_progress
        WHERE job_uid = ? AND type = 'job.progress'
    )
    WHERE step > ?
)
WHERE place = 1 ORDER BY step LIMIT ?
