"""Checkpoints of a run whose output is a bucket: told where they are, and never touched by a run that was replaced."""

import threading
from types import SimpleNamespace

import pytest
import torch
from attrs import evolve

from common.access import Auth
from tests.unit.trainer.test_sources_upload import output, until  # noqa: F401 - a fixture
from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.failures import Fenced, SourceRefused
from trainyard.trainer.keeping import Keeping
from trainyard.trainer.processes import World
from trainyard.trainer.sources.remote import Remote
from trainyard.trainer.sources.upload import Uploader


class Told(list):
    """What an uploader told: the step, and where it is."""

    def of(self, n):
        return lambda uri, kept: self.append((n, uri, kept))


def uri(output, n):  # noqa: F811
    return output.s3.uri(f"results/job-1/checkpoints/step-{n}")


def test_one_is_told_when_it_is_there_and_what_it_replaces_stays_until_then(output):  # noqa: F811
    go, told, there = threading.Event(), Told(), []
    output.fence = lambda: go.wait(60)
    uploader = output.uploader()
    uploader.prune(1, best=0)
    for n in (1, 2):
        uploader.when_there(n, told.of(n))
        uploader.checkpoint(output.save(n))
        uploader.look()
        assert len(told) == n - 1, "it is on its way"
        go.set()
        until(lambda n=n: n in output.claim())
        there.append(output.claim())
        until(lambda n=n: uploader.look() or len(told) == n)
        go.clear()
    assert told == [(1, uri(output, 1), [1]), (2, uri(output, 2), [2])]
    assert there == [[1], [2, 1]]
    go.set()
    uploader.close()
    assert output.claim() == [2]
    uploader.when_there(2, told.of("best"))
    uploader.look()
    assert told[2:] == [("best", uri(output, 2), [2])], "one that turns out the best is told again"


def test_what_never_came_there_is_told_where_it_lies(output):  # noqa: F811
    go, told = threading.Event(), Told()

    def refused():
        go.wait(60)
        raise SourceRefused("no credit is left")

    output.fence, uploader = refused, output.uploader()
    for n in (1, 2, 3):
        path = output.save(n)
        uploader.when_there(n, told.of(n))
        uploader.checkpoint(path)
    (output.local / "checkpoints" / "step-2" / "weights.safetensors").write_bytes(b"cut")
    go.set()
    with pytest.raises(SourceRefused, match="no credit"):
        uploader.close()
    uploader.look()
    assert told == []
    uploader.leave()
    uploader.leave()
    assert told == [(n, str(output.local / "checkpoints" / f"step-{n}"), None) for n in (1, 3)]


@pytest.mark.parametrize("deed", ["checkpoint", "prune", "result", "live"])
def test_a_run_that_was_replaced_neither_overwrites_nor_removes_what_the_newer_one_left(output, s3, deed):  # noqa: F811
    for n in (1, 2):
        s3.put(f"results/job-1/checkpoints/step-{n}/weights.safetensors", b"newer")
        s3.put(f"results/job-1/checkpoints/step-{n}/checkpoint.json", b"{}")
    for name in ("final", "tensorboard"):
        s3.put(f"results/job-1/{name}/file", b"newer")
    before = {key: s3.get(key) for key in s3.objects("results/job-1/")}

    def fenced():
        raise Fenced("attempt 2.0 took over")

    live = output.local / "tensorboard"
    if deed == "live":
        live.mkdir()
        (live / "file").write_bytes(b"older")
    zombie = Uploader(output.open(), output.local, fenced, [1, 2], live=[live])
    if deed == "checkpoint":
        zombie.checkpoint(output.save(1))
    elif deed == "prune":
        zombie.prune(1, best=0)
    elif deed == "result":
        (output.local / "final").mkdir()
        (output.local / "final" / "file").write_bytes(b"older")
        zombie.result(output.local / "final")
    with pytest.raises(Fenced):
        zombie.close()
    assert {key: s3.get(key) for key in s3.objects("results/job-1/")} == before


def test_a_bucket_that_refuses_ends_the_run_only_when_the_checkpoint_is_answered_and_told(attempt, s3, tmp_path):
    """The one that finds the uploader dead stands all the same."""
    out = tmp_path / "out"
    out.mkdir()
    uploader = Uploader(Remote.open("s3://gone/x", Auth(at="artifacts.auth")), out, lambda: None)
    checkpoints = evolve(Checkpoints(out, "5e" * 16, attempt.pair, attempt.fence.check, 0), copies=uploader)
    checkpoints.claim()
    run = SimpleNamespace(control=attempt.control, report=attempt.report)
    stood = []
    keeping = Keeping(run, checkpoints, World.alone(torch.device("cpu")), 1, lambda done: stood.append(done.step))

    def save(n, kind):
        keeping.save(n, kind, state=lambda: n, needed=0, write=write)
        keeping.finish()

    def write(folder, _sums, state):
        (folder / "weights").write_text(f"{state}")
        return {}

    save(1, "step")
    uploader._thread.join(60)
    attempt.command({"id": "c", "command": "checkpoint"})
    attempt.control.poll()
    with pytest.raises(SourceRefused, match="nothing is lost"):
        save(2, "stop")
    assert stood == [1, 2] and [ack["ok"] for ack in attempt.data("ack")] == [True]
    uploader.leave()
    (told,) = attempt.data("checkpoint")
    assert (told["step"], told["kind"], told["uri"]) == (2, "stop", str(out / "checkpoints" / "step-2"))
