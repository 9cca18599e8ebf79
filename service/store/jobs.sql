-- name: insert_job
-- A new job with the state that its first event gives it.
INSERT INTO jobs (uid, job_id, owner, tenant, backend, status, phase, attempt, priority, lane, created_at,
                  last_event_id, last_sequence, last_time, labels, document, spec, warnings, hooks)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_label
-- One label of a job, for filters.
INSERT INTO labels (job_uid, key, value) VALUES (?, ?, ?)

-- name: insert_secrets
-- The sealed secrets of a job.
INSERT INTO secrets (job_uid, sealed) VALUES (?, ?)

-- name: same_name
-- The job that has this id in any case, if there is one.
SELECT uid, job_id, document FROM jobs WHERE job_id = ?

-- name: folded
-- What fold needs of a row, and what an append decides by.
SELECT uid, job_id, backend, priority, labels, backend_job_id, status, phase, reason, attempt, progress, created_at,
       started_at, ended_at, last_event_id, last_sequence, last_time, version, detail, not_before, hooks
FROM jobs WHERE uid = ?

-- name: update_job
-- Write a fold back; what is given as NULL from `wanted` on stays as it is; a new attempt has no handle but a given one.
UPDATE jobs SET backend = ?, backend_job_id = ?, status = ?, phase = ?, reason = ?, attempt = ?, progress = ?,
       started_at = ?, ended_at = ?, last_event_id = ?, last_sequence = ?, last_time = ?,
       wanted = COALESCE(?, wanted), handle = COALESCE(?, CASE WHEN ? THEN NULL ELSE handle END),
       not_before = ?, detail = ?, version = version + ?
WHERE uid = ?

-- name: rewrite_job
-- What a resume or a change of the job's own document writes anew; NULL stays as it is.
UPDATE jobs SET priority = ?, labels = ?, lane = COALESCE(?, lane), spec = COALESCE(?, spec),
       warnings = COALESCE(?, warnings), changes = COALESCE(?, changes)
WHERE uid = ?

-- name: forget_labels
-- Make room for other labels.
DELETE FROM labels WHERE job_uid = ?

-- name: replace_secrets
-- The sealed secrets of a job, in place of what it had.
INSERT INTO secrets (job_uid, sealed) VALUES (?, ?) ON CONFLICT (job_uid) DO UPDATE SET sealed = excluded.sealed

-- name: retries
-- The beginnings of a job's attempts, newest first, and why each was needed.
SELECT type, json_extract(data, '$.data.reason') FROM events INDEXED BY events_beginning
WHERE job_uid = ? AND type IN ('job.queued', 'job.retrying') ORDER BY id DESC

-- name: set_detail
-- The one column that changes without an event.
UPDATE jobs SET detail = ? WHERE uid = ? AND detail IS NOT ?

-- name: by_name
-- A job by the caller's id, exact in case, within a scope.
SELECT * FROM jobs
WHERE job_id = :job_id AND job_id = :job_id COLLATE BINARY
  AND (:owner IS NULL OR owner = :owner) AND (:tenant IS NULL OR tenant = :tenant)

-- name: by_uid
-- A job by its own id.
SELECT * FROM jobs WHERE uid = ?

-- name: to_adopt
-- Live jobs that a backend took, or that are to be ended; what only waits is left to the dispatcher.
SELECT * FROM jobs INDEXED BY jobs_to_adopt
WHERE status IN ('queued', 'running') AND (handle IS NOT NULL OR wanted <> 'run') AND seq > ? ORDER BY seq LIMIT ?

-- name: lanes
-- The lanes with jobs that no backend took yet, by hopping through the index.
WITH RECURSIVE hop (lane) AS (
    SELECT MIN(lane) FROM jobs INDEXED BY jobs_waiting WHERE status = 'queued' AND handle IS NULL
    UNION ALL
    SELECT (SELECT MIN(lane) FROM jobs INDEXED BY jobs_waiting
            WHERE status = 'queued' AND handle IS NULL AND lane > hop.lane)
    FROM hop WHERE hop.lane IS NOT NULL
)
SELECT lane FROM hop WHERE lane IS NOT NULL

-- name: waiting
-- The first jobs of a lane that may start now, without some.
SELECT * FROM jobs INDEXED BY jobs_waiting
WHERE status = 'queued' AND handle IS NULL AND lane = ? AND phase IS NOT 'paused' AND wanted = 'run'
  AND (not_before IS NULL OR not_before <= ?) AND uid NOT IN (SELECT value FROM json_each(?))
ORDER BY priority DESC, seq LIMIT ?

-- name: secrets
-- The sealed secrets of a job.
SELECT sealed FROM secrets WHERE job_uid = ?

-- name: last_accepted
-- The newest job's place in the order of acceptance.
SELECT COALESCE(MAX(seq), 0) FROM jobs

-- name: count_jobs
-- Jobs by status.
SELECT status, COUNT(*) FROM jobs GROUP BY status
