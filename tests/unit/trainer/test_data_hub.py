"""Format hf: what save_to_disk wrote, and what the datasets library finds by a name."""

import pytest

from tests.unit.trainer.materials import looked, texts, written
from trainyard.trainer.failures import ConfigError, DataError, SourceRefused

pytest.importorskip("datasets")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def saved(folder, **splits):
    """A save_to_disk folder of one dataset, or of several splits."""
    from datasets import Dataset, DatasetDict

    made = {name: Dataset.from_dict({"text": rows, "id": list(range(len(rows)))}) for name, rows in splits.items()}
    (made["whole"] if "whole" in made else DatasetDict(made)).save_to_disk(folder)
    return folder


def test_a_saved_dataset_is_read(tmp_path):
    found = looked(saved(tmp_path / "set", whole=[f"n {i}" for i in range(2500)]), "hf")
    assert texts(found)[::1000] == ["n 0", "n 1000", "n 2000"] and found.rows[9].place == f"{tmp_path}/set: row 10"
    assert found.sources[0].bytes > 0


@pytest.mark.parametrize(
    ("split", "wanted"),
    [
        (None, ["a", "b", "c", "d"]),
        ("train", ["a", "b", "c", "d"]),
        ("test", ["e"]),
        ("train[1:3]", ["b", "c"]),
        ("train[:50%]", ["a", "b"]),
        ("train[75%:]", ["d"]),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_or_a_slice_of_it_is_taken(tmp_path, split, wanted, streaming):
    folder = saved(tmp_path / "set", train=["a", "b", "c", "d"], test=["e"])
    assert texts(looked(folder, "hf", split=split, streaming=streaming)) == wanted


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("dev", "has no 'dev'; it has test, valid"),
        (None, "has the splits test, valid; name one"),
        ("a[", "must be the name"),
    ],
)
def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path, split, words):
    folder = saved(tmp_path / "set", test=["e"], valid=["f"])
    with pytest.raises(ConfigError, match=r"datasets\[0\]\.split: ") as raised:
        looked(folder, "hf", split=split)
    assert words in str(raised.value)


def test_a_copy_of_a_hub_datasets_folder_is_read(tmp_path):
    written(tmp_path / "repo" / "data" / "train-00000-of-00001.jsonl", [{"text": "t"}])
    written(tmp_path / "repo" / "data" / "test-00000-of-00001.jsonl", [{"text": "u"}])
    assert texts(looked(tmp_path / "repo", "hf")) == ["t"]
    assert texts(looked(tmp_path / "repo", "hf", split="test", streaming=True)) == ["u"]


def test_a_folder_without_a_dataset_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match=r"datasets\[0\]\.source: .*/set: it holds neither what save_to_disk wrote"):
        looked(tmp_path / "set", "hf")
    with pytest.raises(DataError, match="there is no such folder and no such hub dataset"):
        looked(tmp_path / "nowhere", "hf")


def test_a_saved_dataset_that_lost_a_file_is_refused(tmp_path):
    folder = saved(tmp_path / "set", whole=["a"])
    next(folder.glob("*.arrow")).unlink()
    with pytest.raises(DataError, match=r"datasets\[0\]\.source: .*set"):
        looked(folder, "hf")


def named(folder, **values):
    """By the name of a repository, as of a hub; the library takes a folder for one."""
    return looked(None, "hf", hub=f"hf://datasets/{folder}", source="hf://datasets/some/one", **values)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_is_read_by_its_name(tmp_path, streaming):
    rows = [{"prompt": "p", "completion": f"c{i}", "extra": None} for i in range(5)]
    written(tmp_path / "repo" / "train.jsonl", rows)
    written(tmp_path / "repo" / "test.jsonl", rows[:1])
    found = named(tmp_path / "repo", streaming=streaming)
    assert texts(found) == [("p", f"c{i}") for i in range(5)] == texts(found)
    assert found.streaming == streaming and found.rows[4].place == "hf://datasets/some/one: row 5"
    assert texts(named(tmp_path / "repo", streaming=streaming, split="train[1:3]")) == [("p", "c1"), ("p", "c2")]
    assert len(found.sources[0].sha256) == 64 and found.sources[0].bytes > 0
    with pytest.raises(ConfigError, match="has no 'dev'; it has train, test"):
        named(tmp_path / "repo", streaming=streaming, split="dev")


@pytest.mark.parametrize("streaming", [False, True])
def test_one_of_several_configurations_is_named_before_the_split(tmp_path, streaming):
    for name in ("one", "two"):
        written(tmp_path / "repo" / f"{name}.jsonl", [{"text": name}])
    listed = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("one", "two"))
    (tmp_path / "repo" / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")
    assert texts(named(tmp_path / "repo", split="two/train", streaming=streaming)) == ["two"]
    assert texts(named(tmp_path / "repo", split="one/", streaming=streaming)) == ["one"]
    with pytest.raises(
        DataError, match=r"\['one', 'two'\].* a configuration is named in split, as configuration/train"
    ):
        named(tmp_path / "repo", streaming=streaming)


def test_a_share_of_a_streamed_dataset_is_refused(tmp_path):
    written(tmp_path / "repo" / "train.jsonl", [{"text": "t"}])
    with pytest.raises(ConfigError, match=r"how many rows a streamed dataset has is not known; .*train\[:1000\]"):
        named(tmp_path / "repo", streaming=True, split="train[:10%]")


def test_a_hub_that_may_not_be_asked_is_refused(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceRefused, match=r"datasets\[0\]\.source: hf://datasets/some/one: "):
        named("no-such-owner/no-such-set")
