"""Files that options name: only regular ones are read, each once, and what is in them is never quoted."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from schemas.diffusion.contents import put_in
from schemas.diffusion.document import filled, prepared
from schemas.diffusion.files import FileProblem, read_json
from schemas.diffusion.pipelines import INDEX, pipeline_of

PICTURES = {"id": "a", "instance_data_dir": "pictures"}


def document(**extra: Any) -> dict[str, Any]:
    return {"base_model": {"model_name": "owner/name"}, "extra_parameters": {"model_family": "flux", **extra}}


def put(**options: Any) -> tuple[dict[str, Any], dict[str, str]]:
    found, errors = put_in(options, "at")
    return found, {error.path: error.message for error in errors}


def test_a_pipe_a_device_and_a_folder_are_no_files_and_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(FileProblem, match="is no regular file"):
            read_json(path)
    os.mkfifo(tmp_path / INDEX)
    assert pipeline_of(tmp_path) is None


def test_a_large_file_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_bytes(b"[" + b" " * (4 << 20) + b"]")
    with pytest.raises(FileProblem, match="larger than 4 MiB"):
        read_json(path)


@pytest.mark.parametrize("number", ["9" * 30, "-" + "9" * 60, "9e999", "-9.5E+999"])
def test_a_number_that_can_not_be_kept_is_not_quoted(tmp_path: Path, number: str) -> None:
    (tmp_path / "named.json").write_text(f"[{number}]")
    with pytest.raises(FileProblem) as e:
        read_json(tmp_path / "named.json")
    message = str(e.value).removeprefix(str(tmp_path))
    assert message.startswith("/named.json: [0]: is a") and "9" not in message


@pytest.mark.parametrize(
    ("name", "content", "place", "kind"),
    [
        ("data_backend_config", [{**PICTURES, "crop_style": "HUSH", "repeats": "HUSH"}], "[0].crop_style", "a string"),
        ("data_backend_config", "HUSH", "", "a string"),
        ("lycoris_config", {"algo": "HUSH"}, ".algo", "a string"),
        ("lycoris_config", ["HUSH"], "", "a list"),
    ],
)
def test_an_error_in_a_file_names_the_kind_of_a_value_and_not_the_value(
    tmp_path: Path, name: str, content: Any, place: str, kind: str
) -> None:
    path = tmp_path / "named.json"
    path.write_text(json.dumps(content))
    found, errors = put(**{name: str(path)})
    assert found == {name: str(path)} and "HUSH" not in str(errors)
    assert errors[f"at.{name}{place}"].endswith(f"got {kind}")


def test_a_file_is_read_once_and_what_becomes_of_it_later_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "loader.json").write_text(json.dumps([PICTURES]))
    (tmp_path / "adapter.json").write_text('{"algo": "loha"}')
    stored = prepared(document(data_backend_config="loader.json", lycoris_config="adapter.json"), tmp_path)
    extra = filled(stored).document["extra_parameters"]
    (tmp_path / "loader.json").unlink()
    assert extra["data_backend_config"] == [{"id": "a", "instance_data_dir": str(tmp_path / "pictures")}]
    assert extra["lycoris_config"] == {"algo": "loha"}
    assert put_in(extra, "at") == (extra, [])


def test_text_with_json_in_it_is_what_the_text_says(tmp_path: Path) -> None:
    extra = {"data_backend_config": json.dumps([PICTURES]), "lycoris_config": '{"algo": "loha"}'}
    found = prepared(document(**extra), tmp_path)["extra_parameters"]
    assert found["data_backend_config"] == [{"id": "a", "instance_data_dir": str(tmp_path / "pictures")}]
    assert found["lycoris_config"] == {"algo": "loha"}
    assert "holds text that can't be read" in put(lycoris_config="{nothing")[1]["at.lycoris_config"]


def test_an_option_that_is_not_set_names_no_file(tmp_path: Path) -> None:
    found = filled(prepared(document(data_backend_config="None", lycoris_config=""), tmp_path))
    assert found.errors == () and "datasets" not in found.document


@pytest.mark.parametrize("how", ["inline", "text", "file"])
def test_datasets_follow_from_what_a_dataloader_trains_on(tmp_path: Path, how: str) -> None:
    rows = [
        PICTURES,
        {"id": "b", "instance_data_dir": "off", "disable": "true"},
        {"id": "c", "dataset_type": "conditioning", "instance_data_dir": "c", "conditioning_type": "reference_loose"},
        {"id": "d", "dataset_type": "text_embeds"},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    config = {"inline": rows, "text": json.dumps(rows), "file": "rows.json"}[how]
    stored = prepared(document(data_backend_config=config), tmp_path)
    found = filled(stored)
    assert "datasets" not in stored and found.errors == ()
    assert found.document["datasets"] == [{"source": str(tmp_path / "pictures"), "format": "imagefolder"}]
