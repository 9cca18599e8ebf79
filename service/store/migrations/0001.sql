-- The first schema. Columns that later issues need are here from the start: they are dear to add to a large table.

CREATE TABLE jobs (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,      -- order of acceptance
    uid            TEXT NOT NULL UNIQUE,
    job_id         TEXT NOT NULL UNIQUE COLLATE NOCASE,
    owner          TEXT NOT NULL,
    tenant         TEXT NOT NULL,
    backend        TEXT NOT NULL,
    backend_job_id TEXT,
    status         TEXT NOT NULL,
    phase          TEXT,
    detail         TEXT,
    reason         TEXT,
    attempt        INTEGER NOT NULL,
    version        INTEGER NOT NULL DEFAULT 1,             -- rises with every change of the row
    wanted         TEXT NOT NULL DEFAULT 'run',            -- run, pause, cancel: stored before it is acted on
    priority       INTEGER NOT NULL,
    lane           TEXT NOT NULL,                          -- what the job competes for; strict order within it
    not_before     REAL,                                   -- a retry waits until then
    handle         TEXT,                                   -- of the present attempt, once the backend took it
    created_at     TEXT NOT NULL,
    started_at     TEXT,
    ended_at       TEXT,
    last_event_id  INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    last_time      TEXT NOT NULL,                          -- of the newest event; the next is never before it
    progress       TEXT,
    labels         TEXT NOT NULL,
    document       TEXT NOT NULL,                          -- as posted, secrets masked
    spec           TEXT NOT NULL,                          -- JobSpec
    changes        TEXT NOT NULL DEFAULT '[]',
    warnings       TEXT NOT NULL,
    hooks          TEXT NOT NULL                           -- {"webhook": [event types], "stream": […]}
) STRICT;

CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_backend ON jobs (backend, seq);
CREATE INDEX jobs_by_owner ON jobs (tenant, owner, seq);
CREATE INDEX jobs_to_adopt ON jobs (seq)
    WHERE status IN ('queued', 'running') AND (handle IS NOT NULL OR wanted <> 'run');
CREATE INDEX jobs_waiting ON jobs (lane, priority DESC, seq) WHERE status = 'queued' AND handle IS NULL;

CREATE TABLE labels (
    job_uid TEXT NOT NULL REFERENCES jobs (uid) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (job_uid, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX labels_by_value ON labels (key, value, job_uid);

CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    job_uid  TEXT NOT NULL REFERENCES jobs (uid) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    sequence INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    type     TEXT NOT NULL,
    time     TEXT NOT NULL,
    data     TEXT NOT NULL                                 -- the event as served, JSON, without its id
) STRICT;

CREATE INDEX events_of_job ON events (job_uid);            -- ends in the id, as every index does

CREATE INDEX events_progress ON events (job_uid) WHERE type = 'job.progress';
CREATE INDEX events_checkpoint ON events (job_uid) WHERE type = 'job.checkpoint';

CREATE TABLE sources (
    job_uid TEXT NOT NULL REFERENCES jobs (uid) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    file    TEXT NOT NULL,
    n       INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    PRIMARY KEY (job_uid, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    job_uid TEXT PRIMARY KEY REFERENCES jobs (uid) ON DELETE CASCADE,
    sealed  BLOB NOT NULL                                  -- AES-GCM of {path: value}
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoints (
    id          TEXT PRIMARY KEY,
    owner       TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    url         BLOB NOT NULL,                             -- sealed: it may hold credentials
    secret      BLOB NOT NULL,
    event_types TEXT,
    backend     TEXT,
    description TEXT,
    state       TEXT NOT NULL,
    created_at  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    job_uid    TEXT NOT NULL REFERENCES jobs (uid) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    event_id   INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    target     TEXT NOT NULL,                              -- webhook, stream or an endpoint's id
    type       TEXT NOT NULL,
    state      TEXT NOT NULL DEFAULT 'pending',            -- pending, delivered, dead
    head       INTEGER NOT NULL,                           -- 1: first in its job's line for the target
    webhook_id TEXT NOT NULL,
    created    REAL NOT NULL,
    next_at    REAL NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'pending' AND head = 1;
CREATE INDEX deliveries_line ON deliveries (job_uid, target, state, id);
CREATE INDEX deliveries_of_event ON deliveries (event_id);

CREATE TABLE delivery_attempts (
    delivery_id INTEGER NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    n           INTEGER NOT NULL,
    at          TEXT NOT NULL,
    status      INTEGER,                                   -- the HTTP status, if one came
    error       TEXT,
    seconds     REAL NOT NULL,
    PRIMARY KEY (delivery_id, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    caller  TEXT NOT NULL,
    method  TEXT NOT NULL,
    path    TEXT NOT NULL,
    key     TEXT NOT NULL,
    body    TEXT NOT NULL,                                 -- sha256 of the request's body
    status  INTEGER NOT NULL,
    answer  BLOB NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (caller, method, path, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_expiry ON idempotency (expires);
