-- How an attempt began is asked when one ends: it must not cost a walk through all events of a long job.

CREATE INDEX events_beginning ON events (job_uid) WHERE type IN ('job.queued', 'job.retrying');
