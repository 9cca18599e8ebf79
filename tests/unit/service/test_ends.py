"""What is left of an attempt when it is closed: nothing that is secret, nothing that may write."""

from common.folder import JobFolder, Pair
from service.ends import close_attempt


def test_a_run_that_was_begun_again_leaves_no_secret_behind(tmp_path):
    folder = JobFolder(tmp_path / "job")
    folder.make({}, 1, {"values": {"a": "b"}})
    tokens = [folder.attempt(Pair(1, restart)) / "job_token" for restart in (0, 1)]
    for token in tokens:
        token.parent.mkdir(parents=True)
        token.touch()
    close_attempt(folder, 2)
    assert folder.fence() == Pair(3)
    assert [path for path in (*tokens, folder.secrets(1)) if path.exists()] == []
