"""Documents of image models over HTTP: which engine is chosen, and what `/train/validate` says of them."""

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from schemas.diffusion.document import prepared


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Any]:
    """What `local` trains an adapter of Flux on."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    return {
        "job_id": "pictures-1",
        "backend": "local",
        "base_model": {"provider": "custom", "model_name": "owner/name"},
        "resources": {"gpus": 0, "cpus": 1, "memory_gb": 1},
        "datasets": [{"source": str(tmp_path / "pictures"), "format": "imagefolder"}],
        "artifacts": {"log_uri": str(tmp_path / "logs"), "output_uri": str(tmp_path / "out")},
        "extra_parameters": {"model_family": "flux"},
    }


async def validated(client: Any, given: dict[str, Any]) -> tuple[int, Any]:
    answer = await client.post("/train/validate", json=given)
    return answer.status, await answer.json()


async def errors(client: Any, given: dict[str, Any]) -> dict[str, str]:
    status, problem = await validated(client, given)
    assert status == 400, problem
    return {error["path"]: error["message"] for error in problem["errors"]}


async def test_a_document_of_pictures_is_for_the_diffusion_engine(client, pictures):
    status, found = await validated(client, pictures)
    assert status == 200, found
    assert found["job_spec"]["engine"] == "diffusion"
    assert found["job_spec"]["request"]["extra_parameters"]["lora_rank"] == 16


async def test_all_errors_of_all_options_are_told_at_once_in_any_spelling(client, pictures):
    pictures["extra_parameters"] |= {"--lora_rank": 0, "use_ema": "maybe", "controlnet": True, "report_to": "swanlab"}
    pictures["extra_parameters"]["data_backend_config"] = [{"id": "a", "repeats": -1}]
    at = "extra_parameters"
    assert (await errors(client, pictures)).keys() == {
        *(f"{at}.lora_rank", f"{at}.use_ema", f"{at}.controlnet", f"{at}.report_to"),
        *(f"{at}.data_backend_config[0].repeats", f"{at}.data_backend_config[0].instance_data_dir"),
    }


async def test_a_configuration_says_where_results_go_by_its_own_word(client, pictures, tmp_path):
    artifacts = pictures.pop("artifacts")
    pictures["extra_parameters"] |= {"--output_dir": str(tmp_path / "runs"), "--logging_dir": "said"}
    status, found = await validated(client, pictures)
    assert status == 200, found
    spec = found["job_spec"]
    assert spec["output"] == str(tmp_path / "runs" / "pictures-1")
    assert spec["request"]["artifacts"]["log_uri"] == str(tmp_path / "runs" / "said")
    assert spec["request"]["extra_parameters"]["resume_from_folder"] == str(tmp_path / "runs")
    found = await errors(client, pictures | {"artifacts": artifacts})
    assert found.keys() == {"extra_parameters.output_dir", "extra_parameters.logging_dir"}


async def test_contradictions_of_options_and_fields_are_told_together(client, pictures):
    pictures["extra_parameters"] |= {"max_train_steps": 5, "num_train_epochs": 2, "snr_gamma": 5, "resolution": 32}
    pictures["tuning_parameters"] = {"packing": True}
    assert (await errors(client, pictures)).keys() == {
        *("extra_parameters.num_train_epochs", "extra_parameters.snr_gamma", "extra_parameters.resolution"),
        "tuning_parameters.packing",
    }


async def test_an_unknown_option_is_a_warning_with_the_nearest_name(client, pictures):
    pictures["extra_parameters"]["lora_rnk"] = 4
    _, found = await validated(client, pictures)
    warned = {w["path"]: w["message"] for w in found["warnings"]}
    assert "did you mean 'lora_rank'" in warned["extra_parameters.lora_rnk"]


async def test_numbers_under_names_with_dashes_are_kept_and_are_no_secrets(client, parts, pictures):
    pictures["extra_parameters"]["--tokenizer_max_length"] = "77"
    job = await (await client.post("/train", json=pictures)).json()
    assert job["metadata"]["request"]["extra_parameters"] == {
        "model_family": "flux",
        "tokenizer_max_length": "77",
        "engine": "diffusion",
    }
    assert job["metadata"]["job_spec"]["request"]["extra_parameters"]["tokenizer_max_length"] == 77


async def test_scripts_are_refused_where_no_program_of_the_callers_own_is_allowed(client, parts, pictures):
    pictures["extra_parameters"] |= {"post_checkpoint_script": "/bin/true {global_step}"}
    assert (await validated(client, pictures))[0] == 200
    parts.settings = evolve(parts.settings, allow_command=False)
    found = await errors(client, pictures)
    assert list(found) == ["extra_parameters.post_checkpoint_script"] and "ALLOW_COMMAND" in str(found)


async def test_the_options_stand_in_the_schema_of_who_asks_for_that_engine(client):
    rows = (await (await client.get("/backends?engine=diffusion")).json())["backends"]
    assert all({"lora_rank", "validation_prompt"} <= row["options_schema"]["properties"].keys() for row in rows)
    rows = (await (await client.get("/backends")).json())["backends"]
    assert not any("lora_rank" in row["options_schema"]["properties"] for row in rows)
    assert (await client.get("/backends?engine=video")).status == 400


@pytest.mark.parametrize(
    ("patch", "engine"),
    [
        ({}, None),
        ({"extra_parameters": {"engine": "diffusion"}}, "diffusion"),
        ({"extra_parameters": {"--model_family": "flux"}}, "diffusion"),
        ({"extra_parameters": {"data_backend_config": "x.json"}}, "diffusion"),
        ({"datasets": [{"source": "x", "format": "imagefolder"}]}, "diffusion"),
        ({"base_model": {"model_name": "/models/flux"}}, "diffusion"),
        ({"base_model": {"model_name": "/models/llama"}}, None),
        ({"extra_parameters": {"engine": "text", "model_family": "flux"}}, "text"),
        ({"extra_parameters": {"command": ["x"]}, "datasets": [{"format": "imagefolder"}]}, None),
        ({"extra_parameters": "no object", "datasets": 3, "base_model": []}, None),
    ],
)
def test_the_engine_is_chosen_by_what_only_it_knows(patch: dict[str, Any], engine: str | None) -> None:
    given = {"base_model": {"model_name": "owner/name"}, "datasets": [{"format": "jsonl"}]} | patch
    found = prepared(given, Path("/srv"), exists=lambda path: path == "/models/flux/model_index.json")
    extra = found.get("extra_parameters")
    assert (extra.get("engine") if isinstance(extra, dict) else None) == engine
    assert found is given or engine == "diffusion"


def test_places_of_options_are_made_absolute(tmp_path: Path) -> None:
    extra = {"model_family": "flux", "data_backend_config": "loader.json", "pretrained_vae_model_name_or_path": "o/vae"}
    extra |= {"user_prompt_library": '{"a": "b"}', "cache_dir": "cache", "cache_dir_vae": "vae"}
    found = prepared({"extra_parameters": extra}, tmp_path)
    assert found["extra_parameters"] == extra | {
        "engine": "diffusion",
        "data_backend_config": str(tmp_path / "loader.json"),
        "cache_dir": str(tmp_path / "cache"),
    }
    assert "datasets" not in found
    assert prepared(found, tmp_path) == found
