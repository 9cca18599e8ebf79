-- name: drop_waiting_progress
-- Progress that waits and was never tried is replaced by the newest.
DELETE FROM deliveries
WHERE job_uid = ? AND target = ? AND state = 'pending' AND type = 'job.progress' AND tries = 0 AND head = 0

-- name: insert_delivery
-- One event for one target; it is the head of its line when nothing waits before it.
INSERT INTO deliveries (job_uid, event_id, target, type, head, webhook_id, created, next_at)
SELECT :uid, :event, :target, :type,
       NOT EXISTS (SELECT 1 FROM deliveries WHERE job_uid = :uid AND target = :target AND state = 'pending'),
       :webhook_id, :now, :now

-- name: switch_off
-- A target that answered 410 gets nothing more from this job.
UPDATE jobs SET hooks = json_remove(hooks, '$.' || ?) WHERE uid = ?

-- name: kill_line
-- What waits for a target that was switched off.
UPDATE deliveries SET state = 'dead', head = 0 WHERE job_uid = ? AND target = ? AND state = 'pending'

-- name: due
-- Heads of lines whose time has come, the hosts (as the documents name them) in turn: none crowds out the others.
WITH heads AS (
    SELECT d.id, d.next_at,
           CASE WHEN json_valid(j.document) THEN json_extract(j.document, CASE d.target
               WHEN 'stream' THEN '$.artifacts.status_stream_url' ELSE '$.callbacks.webhook_url' END) END AS url
    FROM deliveries d JOIN jobs j ON j.uid = d.job_uid
    WHERE d.state = 'pending' AND d.head = 1 AND d.next_at <= ?
), turns AS (
    SELECT id, next_at, ROW_NUMBER() OVER (
        PARTITION BY substr(url, 1, 8 + instr(substr(url, 9) || '/', '/')) ORDER BY next_at, id
    ) AS turn FROM heads ORDER BY turn, next_at LIMIT ?
)
SELECT d.id, d.job_uid AS uid, j.job_id, d.target, d.type, d.webhook_id, d.created, d.tries, d.event_id, e.data
FROM turns t JOIN deliveries d ON d.id = t.id JOIN events e ON e.id = d.event_id JOIN jobs j ON j.uid = d.job_uid
ORDER BY t.turn, t.next_at

-- name: next
-- When the next delivery is due.
SELECT MIN(next_at) FROM deliveries WHERE state = 'pending' AND head = 1

-- name: insert_attempt
-- Every try is recorded.
INSERT INTO delivery_attempts (delivery_id, n, at, status, error, seconds) VALUES (?, ?, ?, ?, ?, ?)

-- name: update_delivery
-- How the delivery stands after a try.
UPDATE deliveries SET state = ?, tries = ?, next_at = ?, head = ? WHERE id = ?

-- name: promote
-- The next in a line becomes its head.
UPDATE deliveries SET head = 1 WHERE id = (
    SELECT MIN(id) FROM deliveries WHERE job_uid = ? AND target = ? AND state = 'pending'
)

-- name: count_deliveries
-- Pending and dead deliveries.
SELECT state, COUNT(*) FROM deliveries WHERE state IN ('pending', 'dead') GROUP BY state
