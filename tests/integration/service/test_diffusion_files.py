"""Documents of image models that name files: what is read, what is kept of it, what may run."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from service.operations.accept import accept, check, reads_files

AT = "extra_parameters"
CONFIG = f"{AT}.data_backend_config"


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """What `local` trains an adapter of Flux on: a dataloader in a file."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    wrote(tmp_path)
    return {
        "job_id": "pictures-1",
        "backend": "local",
        "base_model": {"provider": "custom", "model_name": "owner/name"},
        "resources": {"gpus": 0, "cpus": 1, "memory_gb": 1},
        "artifacts": {"log_uri": str(tmp_path / "logs"), "output_uri": str(tmp_path / "out")},
        "extra_parameters": {"model_family": "flux", "data_backend_config": str(tmp_path / "loader.json")},
    }


def wrote(folder: Path, **more: Any) -> list[dict[str, Any]]:
    rows = [{"id": "a", "instance_data_dir": str(folder / "pictures"), **more}]
    (folder / "loader.json").write_text(json.dumps(rows))
    return rows


async def validated(client: Any, given: dict[str, Any], query: str = "") -> tuple[int, dict[str, str], Any]:
    answer = await client.post(f"/train/validate{query}", json=given)
    found = await answer.json()
    told = found["warnings"] if answer.status == 200 else found["errors"]
    return answer.status, {one["path"]: one["message"] for one in told}, found


@pytest.mark.parametrize("name", ["post_checkpoint_script", "--post_checkpoint_script"])
async def test_a_script_is_refused_in_every_spelling(client, parts, given, name):
    parts.settings = evolve(parts.settings, allow_command=False)
    given[AT][name] = "/bin/true"
    status, errors, _ = await validated(client, given)
    assert status == 400 and list(errors) == [f"{AT}.post_checkpoint_script"]


@pytest.mark.parametrize("dashes", [3, 4, 6, 8])
async def test_a_script_under_more_dashes_is_unknown_and_does_not_run(client, parts, given, dashes):
    parts.settings = evolve(parts.settings, allow_command=False)
    name = "-" * dashes + "post_checkpoint_script"
    given[AT][name] = "/bin/true"
    status, told, found = await validated(client, given)
    assert status == 200 and "is not a known field" in told[f"{AT}.{name}"]
    assert not found["job_spec"]["request"][AT].get("post_checkpoint_script")
    assert (await validated(client, given, "?strict=true"))[0] == 400


@pytest.mark.parametrize("name", ["data_backend_config", "lycoris_config"])
async def test_a_pipe_or_device_is_refused_and_the_service_goes_on(client, given, tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    for place in ("/dev/zero", str(tmp_path / "pipe")):
        status, errors, _ = await validated(client, given | {AT: given[AT] | {"lora_type": "lycoris", name: place}})
        assert status == 400 and "is no regular file" in errors[f"{AT}.{name}"]


@pytest.mark.parametrize(
    ("patch", "reads"),
    [
        ({AT: {"--data_backend_config": "x.json"}}, True),
        ({AT: {"engine": "diffusion", "lycoris_config": "x.json"}}, True),
        ({"base_model": {"model_name": "models/flux"}}, True),
        ({AT: {"engine": "text"}}, False),
        ({}, False),
    ],
)
def test_documents_that_name_files_are_not_read_on_the_loop(parts, tmp_path, patch, reads):
    parts.cwd = tmp_path
    (tmp_path / "models" / "flux").mkdir(parents=True)
    (tmp_path / "models" / "flux" / "model_index.json").write_text("{}")
    assert reads_files(parts, {"base_model": {"model_name": "owner/name"}} | patch) is reads


@pytest.mark.parametrize("as_text", [True, False])
async def test_secrets_of_a_dataloader_are_not_stored_in_clear(client, parts, given, as_text):
    rows = [{"id": "a", "instance_data_dir": "pictures", "my_api_key": "HUSH", "aws_secret_access_key": ""}]
    given[AT]["data_backend_config"] = json.dumps(rows) if as_text else rows
    parts.cwd = Path(given["artifacts"]["log_uri"]).parent
    accepted = accept(parts, given, strict=False)
    assert "HUSH" not in json.dumps(accepted.document) + json.dumps(accepted.spec.request)
    assert accepted.secrets == {f"{CONFIG}[0].my_api_key": "HUSH"}
    again = check(parts, accepted.document, masked=True)
    assert again.spec.request == accepted.spec.request


async def test_the_same_document_is_the_same_job_though_its_file_became_another(client, given, tmp_path):
    first = await client.post("/train", json=given)
    assert first.status == 201, await first.json()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.png").write_bytes(b"")
    (tmp_path / "loader.json").write_text(json.dumps([{"id": "a", "instance_data_dir": str(tmp_path / "more")}]))
    again = await client.post("/train", json=given)
    assert again.status == 200, await again.json()
    shown = (await again.json())["metadata"]
    assert shown["request"][AT]["data_backend_config"] == str(tmp_path / "loader.json")
    run = shown["job_spec"]["request"]
    assert [run["datasets"][0]["source"], run[AT]["data_backend_config"][0]["instance_data_dir"]] == [
        str(tmp_path / "pictures")
    ] * 2


async def test_an_unknown_field_in_a_file_is_a_warning_and_strictly_an_error(client, given, tmp_path):
    wrote(tmp_path, repeat=10)
    status, told, _ = await validated(client, given)
    assert status == 200 and "did you mean 'repeats'" in told[f"{CONFIG}[0].repeat"]
    status, told, _ = await validated(client, given, "?strict=true")
    assert status == 400 and list(told) == [f"{CONFIG}[0].repeat"]


@pytest.mark.parametrize("rows", [[], [{"id": "a", "disabled": True}], [{"id": "a", "dataset_type": "text_embeds"}]])
async def test_a_dataloader_that_trains_on_nothing_is_told_once(client, given, rows):
    given[AT]["data_backend_config"] = rows
    status, errors, _ = await validated(client, given)
    assert status == 400 and list(errors) == [CONFIG]
    assert "no entry of dataset_type image" in errors[CONFIG]
