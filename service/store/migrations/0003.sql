-- Which backend has a job's folder, and whether its run had stalled, is asked while its run goes on.

CREATE INDEX events_submitted ON events (job_uid) WHERE type = 'job.submitted';
CREATE INDEX events_stalled ON events (job_uid) WHERE type = 'job.stalled';
