"""Results copied to S3 (moto's server) while training goes on."""

import json
import time
from urllib.parse import urlsplit

import pytest

from common.access import Auth
from common.folder import Pair
from tests.s3 import Gate
from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.failures import ConfigError, Fenced, SourceRefused
from trainyard.trainer.sources import upload
from trainyard.trainer.sources.remote import Remote
from trainyard.trainer.sources.upload import Uploader

UID = "5e" * 16


class Output:
    """A run's local folder, and the same at the remote."""

    def __init__(self, s3, folder, uid=UID):
        self.s3, self.local = s3, folder
        self.fence = lambda: None
        self.checkpoints = Checkpoints(folder, uid, Pair(1), lambda: None, 0)
        self.checkpoints.claim()

    def open(self, auth=Auth(at="artifacts.auth")):
        return Remote.open(self.s3.uri("results/job-1"), auth)

    def claim(self):
        return self.open().claim(self.checkpoints.uid, lambda: None, print)

    def uploader(self, live=()):
        return Uploader(self.open(), self.local, lambda: self.fence(), live=live)

    def save(self, step, size=1000):
        def write(folder):
            (folder / "weights.safetensors").write_bytes(bytes([step]) * size)
            (folder / "sub").mkdir()
            (folder / "sub" / "state.json").write_text("{}")
            return {}

        return self.checkpoints.save(step, 0, write).path

    def keys(self):
        return [key.removeprefix("results/job-1/") for key in self.s3.objects("results/job-1/")]


@pytest.fixture
def output(s3, tmp_path):
    return Output(s3, tmp_path / "out")


def until(condition):
    late = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.05)


def step(n):
    return [f"checkpoints/step-{n}/{name}" for name in ("checkpoint.json", "sub/state.json", "weights.safetensors")]


def test_checkpoints_and_results_are_copied_and_pruned_ones_removed(output):
    uploader = output.uploader()
    path = output.save(1)
    uploader.checkpoint(path)
    until(lambda: output.claim() == [1])
    uploader.checkpoint(output.save(2))
    uploader.prune(1, best=0)
    (output.local / "final").mkdir()
    (output.local / "final" / "model.safetensors").write_bytes(b"m" * 10)
    (output.local / "manifest.json").write_text("{}")
    uploader.result(output.local / "final")
    uploader.result(output.local / "manifest.json")
    uploader.close()
    assert output.keys() == [*step(2), "final/model.safetensors", "manifest.json"]
    assert not (output.local / ".uploads").exists()


def test_the_oldest_goes_only_when_the_newest_is_told_however_soon_that_is_there(output, s3):
    uploader, told = output.uploader(), []
    uploader.checkpoint(output.save(1))
    uploader.when_there(1, lambda uri, kept: told.append((uri, kept)))
    until(lambda: uploader.look() or told)
    uploader.prune(1, best=0)
    uploader.checkpoint(output.save(2))
    until(lambda: 2 in uploader._there)  # the training has not looked yet
    assert (uploader._superfluous(), uploader._there) == (None, {1, 2})
    uploader.when_there(2, lambda uri, kept: told.append((uri, kept, output.claim())))
    uploader.look()
    uploader.close()
    first, second = (s3.uri(f"results/job-1/checkpoints/step-{n}") for n in (1, 2))
    assert told == [(first, [1]), (second, [2], [2, 1])]
    assert output.claim() == [2]


def test_what_grows_is_copied_while_it_grows_and_what_others_left_stays(output, s3, monkeypatch):
    monkeypatch.setattr(upload, "_LIVE_SECONDS", 0.05)
    s3.put("results/job-1/tensorboard/of-another-machine", b"older")
    uploader = output.uploader(live=[output.local / "tensorboard", output.local / "validation"])
    time.sleep(0.2)
    (output.local / "tensorboard").mkdir()
    path = output.local / "tensorboard" / "events"
    for content in (b"one", b"one and two"):
        whole = output.local / "events.new"
        whole.write_bytes(content)
        whole.rename(path)  # a look between the two halves of a write would send it once more
        until(
            lambda: (
                "tensorboard/events" in [*output.keys()]
                and s3.get("results/job-1/tensorboard/events") == path.read_bytes()
            )
        )
    asked = s3.asked("PUT", "results/job-1/tensorboard/events")
    time.sleep(0.3)
    assert s3.asked("PUT", "results/job-1/tensorboard/events") == asked == 2, "what did not change is not sent again"
    picture = output.local / "validation" / "step-2" / "a.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"seen")
    until(lambda: "validation/step-2/a.png" in [*output.keys()])
    monkeypatch.setattr(upload, "_LIVE_SECONDS", 60)
    path.write_bytes(b"all of it")
    uploader.close()
    assert s3.get("results/job-1/tensorboard/events") == b"all of it"
    assert output.keys() == ["tensorboard/events", "tensorboard/of-another-machine", "validation/step-2/a.png"]


def test_the_mark_comes_last_and_only_while_the_fence_lets_us(output):
    def fenced_when_all_else_is_there():
        if output.keys() == step(1)[1:]:
            raise Fenced("attempt 2.0 took over")

    output.fence, uploader = fenced_when_all_else_is_there, output.uploader()
    uploader.checkpoint(output.save(1))
    with pytest.raises(Fenced):
        uploader.close()
    assert output.keys() == step(1)[1:] and output.claim() == []


def test_the_newest_whole_checkpoint_is_brought_to_another_machine(output, tmp_path, s3):
    uploader = output.uploader()
    for n in (1, 2, 3):
        uploader.checkpoint(output.save(n))
        until(lambda n=n: n in output.claim())
    uploader.close()
    s3.client.delete_object(Bucket=s3.bucket, Key="results/job-1/checkpoints/step-3/weights.safetensors")
    assert output.claim() == [2, 1]
    other = Output(s3, tmp_path / "another machine")
    other.open().bring(2, other.checkpoints.folder / "step-2", lambda: None, print)
    newest = other.checkpoints.newest()
    assert newest is not None and newest.step == 2


def test_the_best_checkpoint_and_those_of_an_earlier_run_count(output):
    for n in (1, 2, 3):
        uploader = output.uploader()
        uploader.checkpoint(output.save(n))
        uploader.close()
    later = Uploader(output.open(), output.local, lambda: None, output.claim())
    later.prune(2, best=1)
    later.checkpoint(output.save(4))
    later.close()
    assert output.claim() == [4, 3, 1]


def test_files_of_an_older_checkpoint_of_that_step_do_not_stay(output, s3):
    s3.put("results/job-1/checkpoints/step-1/checkpoint.json", json.dumps({"uid": UID}).encode())
    s3.put("results/job-1/checkpoints/step-1/left-over", b"x")
    uploader = output.uploader()
    uploader.checkpoint(output.save(1))
    uploader.close()
    assert output.keys() == step(1) and output.claim() == [1]


def test_the_folder_of_another_job_is_refused(output, s3):
    s3.put("results/job-1/checkpoints/step-7/checkpoint.json", json.dumps({"uid": "other"}).encode())
    with pytest.raises(ConfigError, match=r"artifacts\.output_uri: s3://.* another job .*step-7.* of other"):
        output.claim()


def test_refused_credentials_are_found_at_the_beginning(output, s3):
    s3.only_known_callers(0)
    try:
        with pytest.raises(SourceRefused, match=r"artifacts\.output_uri: .*artifacts\.auth says who"):
            output.open(Auth(at="artifacts.auth", access_key_id="A", secret_access_key="s")).claim(
                UID, lambda: None, print
            )
    finally:
        s3.only_known_callers(None)


def test_a_bucket_that_vanishes_ends_the_upload_and_names_where_all_is_kept(output, s3):
    uploader = Uploader(Remote.open("s3://gone/x", Auth(at="artifacts.auth")), output.local, lambda: None)
    uploader.checkpoint(output.save(1))
    with pytest.raises(SourceRefused, match=r"nothing is lost: all of it is in .*/out"):
        uploader.close()
    with pytest.raises(SourceRefused):
        uploader.checkpoint(output.save(2))


@pytest.mark.slow
def test_a_lost_network_is_waited_for_and_a_waiting_checkpoint_makes_way(output, s3, monkeypatch):
    gate = Gate(urlsplit(s3.url).port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    try:
        uploader = output.uploader()
        gate.shut = True
        for n in (1, 2, 3):
            uploader.checkpoint(output.save(n))
            until(lambda: uploader._sending == 1)
        output.checkpoints.prune(1)
        gate.shut = False
        uploader.close()
        assert output.keys() == step(1) + step(3), "2 made way for 3"
        gate.shut = True
        hurried = output.uploader()
        hurried.checkpoint(output.save(4))
        began = time.monotonic()
        with pytest.raises(SourceRefused, match="nothing is lost"):
            hurried.close(patient=False)
        assert time.monotonic() - began < 20
    finally:
        gate.close()


@pytest.mark.slow
def test_the_best_checkpoint_does_not_make_way(output, s3, monkeypatch):
    gate = Gate(urlsplit(s3.url).port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    try:
        uploader = output.uploader()
        gate.shut = True
        for n in (1, 2, 3, 4):
            uploader.checkpoint(output.save(n))
            until(lambda: uploader._sending == 1)
            uploader.prune(3, best=2 if n > 1 else 0)
        gate.shut = False
        uploader.close()
        assert output.keys() == step(1) + step(2) + step(4), "3 made way for 4"
    finally:
        gate.close()
