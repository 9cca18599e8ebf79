"""What Slurm's commands complain of, with commands of our own in their place."""

import asyncio
from pathlib import Path

import pytest

from backends.slurm.client import CommandLine, NotReached, SbatchRefused, Script
from common.errors import BackendFull, BackendUnavailable

GONE = "scancel: error: Kill job error on job id 5: Invalid job id specified"
FAILED = "sbatch: error: Batch job submission failed: "
POLICY = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
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
            await cluster.cancel([5], "job")
            return
        with pytest.raises(BackendUnavailable, match=refusal) as refused:
            await cluster.cancel([5, 6], "job")
        assert "id 5" not in refused.value.message
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("complaint", "error"),
    [
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", BackendFull),
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", BackendFull),
        (POLICY, BackendFull),  # an older Slurm, that does not say which limit: nothing is lost by waiting
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", SbatchRefused),
        (f"sbatch: error: please contact help@site, connect to the portal\n{FAILED}Unspecified error", SbatchRefused),
        (f"{FAILED}Invalid qos specification", SbatchRefused),
        (f"{FAILED}Required partition not available (inactive or drain)", BackendUnavailable),
        (f"{FAILED}Socket timed out on send/recv operation", BackendUnavailable),
        (f"{FAILED}Unable to contact slurm controller (connect failure)", NotReached),
        ("sbatch: fatal: Could not establish a configuration source", NotReached),
    ],
)
async def test_what_sbatch_says_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, error: type[Exception]
) -> None:
    (command := tmp_path / "sbatch").write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{complaint}\nEND\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    cluster = CommandLine(60, 1)
    try:
        with pytest.raises(Exception) as refused:
            await cluster.submit(Script((), "#!/bin/sh\n"))
        assert refused.type is error
    finally:
        cluster.close()


async def test_the_end_of_a_calls_time_ends_what_it_began_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command := tmp_path / "sinfo").write_text(f"#!/bin/sh\nsleep 500 & echo $! >{tmp_path}/pid\nwait\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    cluster = CommandLine(0.5, 1)
    try:
        async with asyncio.timeout(60):
            while not (tmp_path / "pid").exists():  # a slow start is cut off before it began anything
                with pytest.raises(BackendUnavailable, match=r"nothing within 0\.5 s"):
                    await cluster.nodes()
    finally:
        cluster.close()
