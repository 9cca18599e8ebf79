"""A disk or a quota that is full where job folders lie."""

import errno
import os

import pytest

from common.folder import JobFolder
from tests.integration.service.own_runs import OwnRun


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_folder_that_can_not_be_made_ends_its_job_as_disk_full_and_keeps_no_secrets(
    client, settings, tmp_path, monkeypatch, number
):
    run = OwnRun(client, settings.jobs_dir, tmp_path)

    def full(self, pair):
        assert self.secrets(1).exists()
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(JobFolder, "raise_fence", full)
        answer = await client.post("/train", json=run.document("true"))
        assert answer.status == 201
        job = await run.until(lambda job: job["ended_at"])
    assert (job["status"], job["reason"], job["attempt"]) == ("failed", "disk_full", 1)
    assert f"{run.folder.path} can't be written: {os.strerror(number)}" in job["detail"]
    assert not run.folder.secrets(1).exists()
    other = OwnRun(client, settings.jobs_dir, tmp_path, "with-room")
    await client.post("/train", json=other.document("true"))
    assert (await other.until(lambda job: job["ended_at"]))["status"] == "succeeded"
