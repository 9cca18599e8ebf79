"""What others build on: a change here breaks them, so it is made on purpose, in this list and in the changelog."""

from importlib.metadata import distribution

from attrs import fields

import trainyard
from common.event import KINDS, LIFECYCLE
from common.job import Phase, Reason, Status
from common.settings import Settings, variable
from service.app import ROUTES

SERVED = """
POST /train
GET /train
POST /train/validate
GET /train/{job_id}
DELETE /train/{job_id}
POST /train/{job_id}/cancel
POST /train/{job_id}/resume
POST /train/{job_id}/pause
PATCH /train/{job_id}
POST /train/{job_id}/checkpoint
POST /train/{job_id}/attempts/{attempt}/events
POST /train/{job_id}/attempts/{attempt}/events/kubeflow
GET /train/{job_id}/events
GET /train/{job_id}/logs
GET /train/{job_id}/metrics
GET /train/{job_id}/checkpoints
GET /events
GET /backends
GET /healthz
GET /readyz
GET /metrics
"""
ANSWERED_404_IN_WORDS = """
POST /train/{job_id}/clone
GET /usage
* /webhooks
* /webhooks/{rest:.*}
* /api
* /api/{rest:.*}
* /download-images
* /caption-images
* /create-dataset-config
* /run
* /status/{run_id}
* /logs/{run_id}
* /health
"""
EVENTS = """queued submitted running phase progress log checkpoint validation artifact stalled changed retrying paused
succeeded failed cancelled"""
LIFECYCLE_EVENTS = "queued submitted running checkpoint retrying paused changed stalled succeeded failed cancelled"
STATUSES = "queued running succeeded failed cancelled"
PHASES = """waiting downloading validating preparing caching training evaluating uploading pausing paused stopping"""
REASONS = """config data model credentials out_of_memory nan_loss disk_full exit_code killed preempted node_failure
backend_unavailable time_limit cost_limit stalled lost rejected cancelled cancelled_outside internal"""
SETTINGS = """HOST PORT DATA_DIR JOBS_DIR CACHE_DIR BACKEND TOKEN SECRET_KEY ALLOW_COMMAND PUBLIC_URL LOG_FORMAT
LOG_LEVEL LOCAL_CPU_JOBS LOCAL_DEVICES GRACE_SECONDS LOST_SECONDS POLL_SECONDS RETRY_SECONDS BACKEND_DOWN_SECONDS
SLURM_PARTITION SLURM_ACCOUNT SLURM_SETUP SLURM_POLL_SECONDS SLURM_CALL_SECONDS SLURM_CALLS
SUBMIT_CONCURRENCY MAX_BODY_BYTES
MAX_EVENT_BYTES MAX_LOG_LINE_BYTES MAX_TRAIN_LOG_BYTES MAX_DOWNLOAD_BYTES DOWNLOAD_HOSTS MAX_QUEUED_JOBS
MAX_SUBSCRIBERS MIN_FREE_BYTES WRITER_QUEUE RING_BYTES PING_SECONDS STOP_SECONDS MIRROR_SECONDS
PREFLIGHTS PREFLIGHT_SECONDS WEBHOOK_TIMEOUT_SECONDS WEBHOOK_FIRST_RETRY_SECONDS WEBHOOK_GIVE_UP_SECONDS
WEBHOOK_CONCURRENCY WEBHOOK_CONCURRENCY_PER_HOST"""
ENTRY_POINTS = {
    ("console_scripts", "trainyard"),
    ("trainyard.backends", "local"),
    ("trainyard.backends", "simulated"),
    ("trainyard.backends", "slurm"),
}
NAMES = {"APIError", "BaseTrainerBackend", "CallError", "Client", "UnreachableError"}


def lines(text: str) -> set[str]:
    return set(text.strip().splitlines())


def test_routes() -> None:
    assert {f"{route.method} {route.path}" for route in ROUTES} == lines(SERVED) | lines(ANSWERED_404_IN_WORDS)


def test_event_names() -> None:
    assert list(KINDS) == [f"job.{name}" for name in EVENTS.split()]
    assert {f"job.{name}" for name in LIFECYCLE_EVENTS.split()} == LIFECYCLE


def test_statuses_phases_and_reasons() -> None:
    assert [*Status] == STATUSES.split()
    assert [*Phase] == PHASES.split()
    assert [*Reason] == REASONS.split()


def test_environment_variables() -> None:
    assert {variable(a) for a in fields(Settings)} == {f"TRAINYARD_{name}" for name in SETTINGS.split()}


def test_entry_points() -> None:
    found = {(point.group, point.name) for point in distribution("trainyard").entry_points}
    assert found == ENTRY_POINTS


def test_names_of_the_package() -> None:
    assert set(dir(trainyard)) >= NAMES
