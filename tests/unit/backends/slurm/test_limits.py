"""What a cluster can't do for a request, and what the others become: pure."""

from pathlib import Path
from typing import Any

import pytest

from backends.slurm.cluster import Cluster
from backends.slurm.limits import find_errors
from backends.slurm.rows import nodes
from backends.slurm.script import script
from backends.slurm.spec import OPTIONS, build
from common.backend import JobSpec
from common.job import Job
from common.settings import Settings
from schemas.converter import structure
from schemas.train import TrainRequest
from tests.unit.backends.engines.documents import document

CLUSTER = Cluster(
    nodes=nodes(
        "main*|up|infinite|4|8000|(null)|3\n"
        "main*|up|infinite|2|16000|gpu:a100:2|1\n"
        "short|up|1:00:00|4|8000|(null)|2\n"
        "gpu|down|infinite|16|128000|gpu:nvidia_h100:8|2\n"
    )
)


def request(folder: Path, **patch: Any) -> TrainRequest:
    read = structure(document(folder, **patch), TrainRequest)
    assert read.value is not None, read.errors
    return read.value


def errors(folder: Path, cluster: Cluster = CLUSTER, **patch: Any) -> dict[str, str]:
    return {e.path: e.message for e in find_errors(request(folder, **patch), cluster, Settings(data_dir=folder))}


def spec(folder: Path, cluster: Cluster = CLUSTER, settings: Settings | None = None, **patch: Any) -> JobSpec:
    return build(request(folder, **patch), cluster, settings or Settings(data_dir=folder))


def test_a_wrong_partition_is_refused_with_the_real_ones(tmp_path: Path) -> None:
    found = errors(tmp_path, extra_parameters={"partition": "nosuch"})
    assert found == {
        "extra_parameters.partition": "the cluster has no partition 'nosuch'; one of gpu, main, short would run"
    }
    lonely = Cluster(nodes=nodes("a|up|infinite|4|8000|(null)|3"))
    assert "is required" in errors(tmp_path, lonely)["extra_parameters.partition"]


@pytest.mark.parametrize(
    ("resources", "path", "words"),
    [
        ({"cpus": 5}, "resources.cpus", "5 asked, a node of partition 'main' has 4; cpus: 4 would run"),
        ({"memory_gb": 17}, "resources.memory_gb", "memory_gb: 15 would run"),
        ({"gpus": 3}, "resources.gpus", "3 asked, a node of partition 'main' has 2; gpus: 2 would run"),
        ({"gpus": 1, "gpu_type": "H100"}, "resources.gpu_type", "it has a100"),
        ({"gpus": 1, "cpus": 4}, "resources.cpus", "has 2; cpus: 2 would run"),
    ],
)
def test_what_no_node_can_give_is_refused_with_what_there_is(
    tmp_path: Path, resources: dict[str, Any], path: str, words: str
) -> None:
    found = errors(tmp_path, resources=resources)
    assert list(found) == [path]
    assert words in found[path]


def test_more_nodes_than_fit_are_refused(tmp_path: Path) -> None:
    asked = {"resources": {"gpus": 0, "cpus": 4}, "extra_parameters": {"nodes": 4}}
    assert "nodes: 3 would run" in errors(tmp_path, **asked)["extra_parameters.nodes"]


def test_a_deadline_over_the_partitions_is_refused_and_a_default_lowered(tmp_path: Path) -> None:
    short = {"extra_parameters": {"partition": "short"}, "resources": {"gpus": 0}}
    assert errors(tmp_path, **short) == {}
    made = spec(tmp_path, **short)
    assert made.deadline_minutes == 55
    assert "resources.max_duration_minutes" in [warning.path for warning in made.warnings]
    asked = short | {"resources": {"gpus": 0, "max_duration_minutes": 56}}
    assert "max_duration_minutes: 55 would run" in errors(tmp_path, **asked)["resources.max_duration_minutes"]


def test_the_time_limit_leaves_the_whole_grace_behind_the_deadline(tmp_path: Path) -> None:
    patient = Settings(data_dir=tmp_path, grace_seconds=601)
    made = spec(tmp_path, settings=patient, extra_parameters={"partition": "short"}, resources={"gpus": 0})
    assert made.deadline_minutes == 60 - 13
    handed = script(Job(uid="ab", job_id="j", backend="slurm"), 1, made, tmp_path, patient)
    assert "--time=60" in handed.arguments


def test_defaults_are_lowered_to_the_node_that_fits_best(tmp_path: Path) -> None:
    made = spec(tmp_path)
    assert made.options[OPTIONS] == {
        "nodes": 1,
        "gpus": 1,
        "gpu_type": None,
        "cpus": 2,
        "memory_mib": 15360,
        "restarts": False,
    }
    assert {w.path for w in made.warnings} >= {"resources.cpus", "resources.memory_gb"}
    assert (made.lane, made.needs) == ("main", {})


def test_while_the_cluster_is_not_known_nothing_is_refused_for_its_size(tmp_path: Path) -> None:
    asked = {"resources": {"gpus": 64, "cpus": 512}, "extra_parameters": {"partition": "x", "nodes": 99}}
    assert errors(tmp_path, Cluster(), **asked) == {}


def test_a_spec_becomes_sbatchs_arguments_and_a_script(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, slurm_account="lab", slurm_setup="module load cuda")
    made = spec(
        tmp_path,
        settings=settings,
        resources={"gpus": 8, "gpu_type": "h100", "cpus": 16, "memory_gb": 64, "max_duration_minutes": 60.5},
        extra_parameters={"partition": "gpu", "nodes": 2, "qos": "long", "constraint": "a&b", "max_retries": 2},
        tuning_parameters={"batch_size": 32},
    )
    assert (made.options["processes"], made.options["nodes"]) == (8, 2)
    job = Job(uid="ab", job_id="j", backend="slurm")
    handed = script(job, 3, made, tmp_path / "100% of it's", settings)
    assert {
        *("--job-name=j.ab.3", "--partition=gpu", "--account=lab", "--qos=long", "--constraint=a&b", "--nodes=2"),
        *("--gres=gpu:nvidia_h100:8", "--cpus-per-task=16", "--mem=65536M", "--time=66", "--export=NIL", "--requeue"),
        *(f"--output={tmp_path}/100%% of it's/train.log", "--open-mode=append", "--ntasks-per-node=1"),
    } <= set(handed.arguments)
    lines = handed.text.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "module load cuda" in lines
    assert lines[-1].startswith(f"cd -- '{tmp_path}/100% of it'\"'\"'s' && exec ")
    assert " -I -S " in lines[-1]


def test_only_jobs_of_our_own_trainer_with_retries_are_requeued(tmp_path: Path) -> None:
    plain = spec(tmp_path, resources={"gpus": 0})
    own = spec(
        tmp_path, resources={"gpus": 0}, extra_parameters={"engine": "command", "command": ["true"], "max_retries": 2}
    )
    job = Job(uid="ab", job_id="j", backend="slurm")
    for made in (plain, own):
        assert "--no-requeue" in script(job, 1, made, tmp_path, Settings(data_dir=tmp_path)).arguments
