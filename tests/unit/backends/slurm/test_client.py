"""What Slurm's commands complain of, with commands of our own in their place."""

from pathlib import Path

import pytest

from backends.slurm.client import CommandLine
from common.errors import BackendUnavailable

GONE = "scancel: error: Kill job error on job id 5: Invalid job id specified"
DENIED = "scancel: error: Kill job error on job id 6: Access/permission denied"


@pytest.mark.parametrize(("lines", "refusal"), [((GONE,), None), ((GONE, DENIED), "id 6: Access")])
async def test_a_job_that_is_gone_hides_no_refusal_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], refusal: str | None
) -> None:
    command = tmp_path / "scancel"
    command.write_text("#!/bin/sh\n" + "".join(f"echo '{line}' >&2\n" for line in lines) + "exit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    cluster = CommandLine(10, 1)
    try:
        if refusal is None:
            await cluster.cancel([5])
            return
        with pytest.raises(BackendUnavailable, match=refusal) as refused:
            await cluster.cancel([5, 6])
        assert "id 5" not in refused.value.message
    finally:
        cluster.close()
