"""A configuration's own words for what a `/train` document says by its fields: taken where the field is left out."""

from pathlib import Path
from typing import Any

import pytest

from schemas.diffusion.document import filled, prepared
from schemas.diffusion.request import read_job

AT = "extra_parameters"


def ready(cwd: Path, extra: dict[str, Any], **document: Any) -> dict[str, Any]:
    return dict(prepared({AT: {"model_family": "flux", **extra}, **document}, cwd))


def wrong(cwd: Path, extra: dict[str, Any], **document: Any) -> dict[str, str]:
    return {error.path.removeprefix(f"{AT}."): error.message for error in filled(ready(cwd, extra, **document)).errors}


@pytest.mark.parametrize(
    ("extra", "artifacts"),
    [
        ({"--output_dir": "/w/kontext"}, {"output_uri": "/w/kontext", "log_uri": "/w/kontext/logs"}),
        ({"output_dir": "out", "logging_dir": "said"}, {"output_uri": "CWD/out", "log_uri": "CWD/out/said"}),
        ({"output_dir": "s3://b/x", "logging_dir": "said"}, {"output_uri": "s3://b/x", "log_uri": "s3://b/x/said"}),
        ({"output_dir": "/w", "logging_dir": "/logs"}, {"output_uri": "/w", "log_uri": "/logs"}),
        ({"logging_dir": "said"}, {"log_uri": "CWD/said"}),
        ({"output_dir": "None"}, None),
    ],
)
def test_places_of_results_are_those_of_the_configuration(
    tmp_path: Path, extra: dict[str, str], artifacts: dict[str, str] | None
) -> None:
    whole = {name: place.replace("CWD", str(tmp_path)) for name, place in (artifacts or {}).items()}
    assert ready(tmp_path, extra).get("artifacts") == (whole or None)
    assert wrong(tmp_path, extra) == {}


def test_the_field_wins_where_it_says_the_same_and_another_is_an_error(tmp_path: Path) -> None:
    both = {"output_uri": "file:///w/", "log_uri": "/elsewhere"}
    assert ready(tmp_path, {"output_dir": "/w"}, artifacts=both)["artifacts"] == both
    assert wrong(tmp_path, {"output_dir": "/w"}, artifacts=both) == {}
    message = "says another than artifacts.output_uri: give one of them, or the same value"
    assert wrong(tmp_path, {"output_dir": "/v"}, artifacts=both) == {"output_dir": message}
    assert wrong(tmp_path, {"output_dir": ["/v"]}) == {"output_dir": "must be the path of a folder"}


@pytest.mark.parametrize("devices", ["0,1", [0, 1], ["0", "1", "1"], "[0, 1]"])
def test_devices_that_are_named_say_how_many_there_are(tmp_path: Path, devices: Any) -> None:
    extra = {"--accelerate_visible_devices": devices}
    assert ready(tmp_path, extra)["resources"] == {"gpus": 2}
    assert ready(tmp_path, extra, resources={"cpus": 3})["resources"] == {"gpus": 2, "cpus": 3}
    assert wrong(tmp_path, extra, resources={"gpus": 2}) == {}
    assert wrong(tmp_path, extra, resources={"gpus": 1}).keys() == {"accelerate_visible_devices"}
    assert wrong(tmp_path, {"accelerate_visible_devices": {"a": 1}}).keys() == {"accelerate_visible_devices"}


def test_earlier_runs_are_those_of_the_folder_that_the_configuration_names(tmp_path: Path) -> None:
    def folder(**extra: Any) -> str | None:
        model = {"provider": "custom", "model_name": "owner/name"}
        job, errors = read_job(
            ready(tmp_path, extra, base_model=model, datasets=[{"source": "/p", "format": "imagefolder"}])
        )
        assert job is not None, errors
        return job.options.resume_from_folder

    assert folder(output_dir="runs") == str(tmp_path / "runs")
    assert folder(output_dir="runs", resume_from_folder="older") == str(tmp_path / "older")
    assert folder() is None


def test_the_usual_file_of_an_adapter_that_nobody_wrote_is_none(tmp_path: Path) -> None:
    def adapter(path: str) -> tuple[Any, list[str]]:
        found = filled(ready(tmp_path, {"lycoris_config": path}))
        return found.document[AT].get("lycoris_config"), [error.path for error in found.errors]

    assert adapter("config/lycoris_config.json") == (None, [])
    assert adapter("config/other.json")[1] == [f"{AT}.lycoris_config"]
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "lycoris_config.json").write_text('{"algo": "loha"}')
    assert adapter("config/lycoris_config.json") == ({"algo": "loha"}, [])
