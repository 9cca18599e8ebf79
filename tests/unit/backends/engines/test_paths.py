"""Local models and files, looked at before a job is accepted."""

from pathlib import Path

import pytest

from backends.engines import paths


def test_a_hub_id_is_left_to_the_run() -> None:
    assert paths.model_problem("owner/na-me.1") is None
    assert paths.model_problem("gpt2") is None
    assert paths.model_path("owner/name") is None


def test_a_model_folder_needs_a_configuration(tmp_path: Path) -> None:
    assert "holds no config.json" in (paths.model_problem(str(tmp_path)) or "")
    (tmp_path / "adapter_config.json").touch()
    assert "method: adapter would go on with it" in (paths.model_problem(f"file://{tmp_path}") or "")
    assert paths.model_problem(str(tmp_path), "adapter") is None
    (tmp_path / "config.json").touch()
    assert paths.model_problem(str(tmp_path)) is None
    assert paths.model_problem(f"file://{tmp_path}") is None
    assert "is not a folder" in (paths.model_problem(str(tmp_path / "config.json")) or "")


def test_a_path_from_home_is_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.model_path("~/model") == tmp_path / "model"
    assert paths.place("~nobody-of-that-name/x") is not None


def test_rows_must_be_in_a_file_that_has_some(tmp_path: Path) -> None:
    rows = tmp_path / "my rows.jsonl"
    assert paths.dataset_problem(str(rows)) == f"there is no file {rows} on this machine; give a JSONL file that exists"
    rows.touch()
    assert "is empty" in (paths.dataset_problem(str(rows)) or "")
    rows.write_text("{}\n")
    assert paths.dataset_problem(str(rows)) is None
    assert paths.dataset_problem(f"file://{tmp_path}/my%20rows.jsonl") is None
    assert paths.dataset_problem(str(tmp_path)) is None
    (tmp_path / "empty").mkdir()
    assert "is empty" in (paths.dataset_problem(str(tmp_path / "empty"), "csv") or "")


def test_a_dataset_of_a_hub_is_left_to_the_run(tmp_path: Path) -> None:
    assert paths.dataset_problem("owner/rows@v1", "hf") is None
    assert paths.is_hub_dataset("owner/rows", "hf") and not paths.is_hub_dataset("owner/rows", "jsonl")
    (tmp_path / "file").touch()
    assert "is a file; give a folder that save_to_disk wrote" in (
        paths.dataset_problem(str(tmp_path / "file"), "hf") or ""
    )


def test_a_folder_to_write_in_may_be_made_later_but_not_below_a_file(tmp_path: Path) -> None:
    assert paths.folder_problem(str(tmp_path / "a" / "b")) is None
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is not a folder" in (paths.folder_problem(str(tmp_path / "file" / "x")) or "")
    assert paths.folder_problem("s3://bucket/x") is None
