"""What a run whose results go to a bucket tells of its checkpoints: where each of them is."""

import pytest

from trainyard.trainer.failures import SourceRefused

pytestmark = pytest.mark.slow


@pytest.fixture
def remote(here, s3):
    here.output = s3.uri("results/job-1")
    here.tuning |= {"max_steps": 4, "save_steps": 2, "save_total_limit": 1}
    return here


def told(here):
    return [(data["step"], data["uri"], data.get("kept")) for data in here.events("checkpoint")]


def test_what_a_bucket_refuses_is_told_with_its_path_and_by_the_next_run_with_its_address(remote, s3, monkeypatch):
    from trainyard.trainer.sources.upload import Uploader

    with monkeypatch.context() as patched:
        checkpoint = Uploader.checkpoint

        def refused(self, path):
            s3.only_known_callers(0)
            checkpoint(self, path)

        patched.setattr(Uploader, "checkpoint", refused)
        try:
            with pytest.raises(SourceRefused, match="nothing is lost"):
                remote.train()
        finally:
            s3.only_known_callers(None)
    kept = remote.folder.path / "output" / "checkpoints" / "step-4"
    assert told(remote) == [(4, str(kept), None)] and kept.is_dir(), "that of step 2 was removed"
    assert remote.train().step == 4
    assert told(remote) == [(4, s3.uri("results/job-1/checkpoints/step-4"), [4])]
    there = {key.split("/")[3] for key in s3.objects("results/job-1/checkpoints/")}
    assert there == {"step-4"} and not kept.exists()
