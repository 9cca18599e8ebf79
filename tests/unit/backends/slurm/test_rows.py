"""What Slurm prints, read; the lines are those of Slurm 22.05."""

from backends.slurm.rows import Nodes, Row, accounted, name_of, nodes, queued

UID = "9f3c" * 8
QUEUE = f"""\
3|my-job.{UID}.2{" " * 180}|PENDING|1|0|BeginTime{" " * 190}
4|a.b.{UID}.1|FAILED|0|768|NonZeroExitCode
5|a.{UID}.1|FAILED|0|9|JobLaunchFailure
6|somebody-elses|RUNNING|0|0|None
7|a.{UID}.x|RUNNING|0|0|None
slurm_load_jobs error: nothing
"""


def test_only_jobs_of_ours_are_read_from_the_queue() -> None:
    assert queued(QUEUE) == [
        Row(id=3, uid=UID, attempt=2, state="PENDING", restarts=1, reason="BeginTime"),
        Row(id=4, uid=UID, attempt=1, state="FAILED", status=768, reason="NonZeroExitCode"),
        Row(id=5, uid=UID, attempt=1, state="FAILED", status=9, reason="JobLaunchFailure"),
    ]
    assert queued("") == []


def test_a_status_is_an_exit_code_or_a_signal() -> None:
    left, killed = queued(QUEUE)[1:]
    assert (left.code, left.signal, killed.code, killed.signal) == (3, None, None, 9)


def test_a_name_is_read_back_whatever_the_job_is_called() -> None:
    name = name_of("a.b.c", UID, 12)
    [row] = queued(f"1|{name}|RUNNING|0|0|None")
    assert (row.uid, row.attempt) == (UID, 12)


def test_accounting_is_read_with_who_cancelled_and_the_signal() -> None:
    listing = f"8|a.{UID}.1|CANCELLED by 0|0:15\n8.batch|batch|CANCELLED|0:15\n9|a.{UID}.2|FAILED|42:0\n"
    assert accounted(listing) == [
        Row(id=8, uid=UID, attempt=1, state="CANCELLED", status=15),
        Row(id=9, uid=UID, attempt=2, state="FAILED", status=42 << 8),
    ]


def test_nodes_are_read_with_their_gpus_and_time_limits() -> None:
    listing = """\
main*|up|infinite|4|8000|gpu:2|2
big|up|2-12:00:00|128|515000|gpu:a100:4(S:0-1),gpu:t4:2,shard:8|10
small|down|30:00|2+|900|(null)|1
"""
    main, big, small = nodes(listing)
    assert main == Nodes(
        partition="main", default=True, up=True, minutes=None, cpus=4, memory_mib=8000, gpus={"gpu": 2}, count=2
    )
    assert (big.minutes, big.gpus, big.default) == (60 * 60, {"a100": 4, "t4": 2}, False)
    assert (big.gpus_of(None), big.gpus_of("A100"), big.gpus_of("T4"), big.gpus_of("H100")) == (4, 4, 2, 0)
    assert (small.minutes, small.up, small.gpus) == (30, False, {})
    assert str(big) == "10 × 128 CPUs, 502 GiB, 4 a100, 2 t4"
