from pathlib import Path

import pytest

from schemas.paths import absolute_paths

CWD = Path("/srv/here")


def test_relative_paths_of_data_and_outputs_become_absolute(small):
    small["datasets"].append({"source": "s3://b/k", "format": "csv"})
    found = absolute_paths(small, CWD)
    assert [dataset["source"] for dataset in found["datasets"]] == ["/srv/here/data.jsonl", "s3://b/k"]
    assert found["artifacts"] == {"log_uri": "/srv/here/logs", "output_uri": "/srv/here/out"}
    assert small["artifacts"]["log_uri"] == "logs"


@pytest.mark.parametrize(
    ("name", "placed"),
    [
        ("org/model", "org/model"),
        ("./model", "/srv/here/model"),
        ("../model/", "/srv/model"),
        ("/m", "/m"),
        ("there", "/srv/here/there"),
        ("s3://b/m", "s3://b/m"),
        ("file:///m", "file:///m"),
    ],
)
def test_a_models_name_is_a_path_only_when_it_looks_like_one_or_exists(small, name, placed):
    small["base_model"]["model_name"] = name
    small["datasets"] = [{"source": name, "format": "hf"}]
    found = absolute_paths(small, CWD, exists=lambda path: path.endswith("/there"))
    assert found["base_model"]["model_name"] == placed
    assert found["datasets"][0]["source"] == placed


def test_a_tilde_is_the_home_folder(small, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    small["datasets"][0]["source"] = "~/data.jsonl"
    small["base_model"]["model_name"] = "~/model"
    found = absolute_paths(small, CWD)
    assert found["datasets"][0]["source"] == "/home/me/data.jsonl"
    assert found["base_model"]["model_name"] == "/home/me/model"


@pytest.mark.parametrize(
    "document", [{}, {"datasets": 1, "artifacts": [], "base_model": None}, {"datasets": [1, {"source": 2}]}]
)
def test_wrong_documents_come_back_as_they_are(document):
    assert absolute_paths(document, CWD) == document


def test_paths_among_a_commands_arguments_become_absolute(small):
    command = ["python3", "./train.py", "../x", "./a b", "-c", "/abs", "plain", 5]
    small["extra_parameters"] = {"command": command}
    placed = absolute_paths(small, Path("/srv/site"))["extra_parameters"]["command"]
    assert placed == ["python3", "/srv/site/train.py", "/srv/x", "./a b", "-c", "/abs", "plain", 5]
    small["extra_parameters"] = {"command": "text"}
    assert absolute_paths(small, Path("/srv/site"))["extra_parameters"] == {"command": "text"}
