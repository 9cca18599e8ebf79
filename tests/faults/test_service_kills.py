"""kill -9 of the service: nothing that was answered is lost, nothing is told twice (simulated backend)."""

import json
import random
import shutil
import threading
import time
import urllib.request

import pytest

pytestmark = pytest.mark.slow


def test_every_job_that_was_answered_201_survives_a_kill(server, document):
    server.start()
    accepted: list[str] = []
    stop = threading.Event()

    def post(worker: int) -> None:
        for n in range(10_000):
            if stop.is_set():
                return
            try:
                status, _ = server.request("POST", "/train", document(f"w{worker}-{n}", duration_seconds=0.05, steps=2))
            except OSError:
                return
            if status == 201:
                accepted.append(f"w{worker}-{n}")

    workers = [threading.Thread(target=post, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    late = time.monotonic() + 60
    while len(accepted) <= 30 and time.monotonic() < late:
        time.sleep(0.01)
    server.kill()
    stop.set()
    for worker in workers:
        worker.join()
    assert len(accepted) > 20
    server.start()
    for name in accepted:
        job = server.wait_end(name, seconds=60)
        assert job["status"] == "succeeded"
        types = [e["type"] for e in server.events(name)]
        assert types.count("job.succeeded") == types.count("job.running") == types.count("job.submitted") == 1


def test_a_running_job_goes_on_through_many_kills_with_one_gapless_log(server, document):
    server.start()
    server.post(document("a", duration_seconds=6, steps=60))
    chance = random.Random(7)
    for _ in range(4):
        time.sleep(chance.uniform(0.2, 1.0))
        server.kill()
        server.start()
    assert server.wait_end("a")["status"] == "succeeded"
    events = server.events("a")
    assert [e["sequence"] for e in events] == list(range(1, len(events) + 1))
    assert [e["data"]["step"] for e in events if e["type"] == "job.progress"] == list(range(1, 61))
    assert [e["type"] for e in events].count("job.succeeded") == 1


def test_a_wish_to_cancel_survives_a_kill(server, document):
    server.start()
    server.post(document("a", duration_seconds=300, steps=300))
    server.wait_for("a", "running")
    status, _ = server.request("POST", "/train/a/cancel")
    server.kill()
    assert status == 202
    server.start()
    assert server.wait_end("a")["status"] == "cancelled"


def test_a_reader_goes_on_across_a_restart_without_loss_or_repeat(server, document):
    server.start()
    server.post(document("a", duration_seconds=4, steps=40))
    seen: list[dict] = []
    last = "0"
    killed = False
    until = time.monotonic() + 60
    while time.monotonic() < until and not (seen and seen[-1]["type"] == "job.succeeded"):
        request = urllib.request.Request(
            f"{server.url}/train/a/events", headers={"Accept": "text/event-stream", "Last-Event-ID": last}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as stream:
                for line in stream:
                    if line.startswith(b"data: "):
                        seen.append(json.loads(line[6:]))
                        last = str(seen[-1]["id"])
                    if len(seen) >= 12 and not killed:
                        killed = True
                        server.kill()
                        server.start()
        except OSError:
            time.sleep(0.1)
    assert [e["sequence"] for e in seen] == list(range(1, len(seen) + 1))
    assert seen[-1]["type"] == "job.succeeded"


def test_sigterm_leaves_runs_alone_and_says_nothing_is_lost(server, document):
    server.start()
    server.post(document("a", duration_seconds=5, steps=20))
    server.wait_for("a", "running")
    assert server.stop() == 0
    server.start()
    assert server.wait_end("a")["status"] == "succeeded"


def test_a_first_start_that_is_killed_at_any_moment_is_followed_by_one_that_serves(server, document):
    for n, delay in enumerate((0.05, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)):
        shutil.rmtree(server.data_dir, ignore_errors=True)
        server.start(wait=False)
        time.sleep(delay)
        server.kill()
        server.start()
        server.post(document(f"job-{n}"))
        assert server.wait_end(f"job-{n}")["status"] == "succeeded"
        server.kill()
    server.start()
