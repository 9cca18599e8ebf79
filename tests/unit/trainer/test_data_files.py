"""Folders of files, their splits, and what does not go together."""

import pytest

from tests.unit.trainer.materials import looked, material, texts, written
from trainyard.trainer.failures import ConfigError, DataError
from trainyard.trainer.text.data import look


def files(folder, *names):
    for name in names:
        written(folder / name, [{"text": name}])
    return folder


def test_a_folder_is_its_files_in_order_of_their_names(tmp_path):
    files(tmp_path, "b.jsonl", "a.jsonl", "more/c.ndjson", ".hidden/d.jsonl", "_tmp.jsonl")
    (tmp_path / "README.md").write_text("not a row")
    found = looked(tmp_path)
    assert texts(found) == ["a.jsonl", "b.jsonl", "more/c.ndjson"]
    assert [s.name for s in found.sources] == [f"{tmp_path}/{name}" for name in texts(found)]


def test_a_file_without_rows_in_a_folder_is_passed_over(tmp_path):
    files(tmp_path, "a.jsonl")
    (tmp_path / "b.jsonl").write_text("")
    assert texts(looked(tmp_path)) == ["a.jsonl"]


@pytest.mark.parametrize(
    ("split", "wanted"),
    [
        ("train", ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]),
        (None, ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]),
        ("test", ["test.jsonl"]),
        ("extra", ["extra/one.jsonl", "extra/two.jsonl"]),
    ],
)
def test_a_split_is_the_files_of_its_name_or_its_folder(tmp_path, split, wanted):
    files(tmp_path, "train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test.jsonl", "training_notes.jsonl")
    files(tmp_path, "extra/one.jsonl", "extra/two.jsonl")
    assert texts(looked(tmp_path, split=split)) == wanted


@pytest.mark.parametrize(
    ("names", "split", "words"),
    [
        (["a.jsonl"], "train[:10%]", "is a slice, which only format hf has; for a share of the rows give weight"),
        (["train.jsonl", "test.jsonl"], "dev", "has no 'dev'; it has test, train"),
        (["test.jsonl", "dev.jsonl"], None, "has the splits dev, test; name one"),
    ],
)
def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path, names, split, words):
    with pytest.raises(ConfigError, match=r"datasets\[0\]\.split: ") as raised:
        looked(files(tmp_path, *names), split=split)
    assert words in str(raised.value)


def test_a_file_that_stands_alone_is_the_split_train(tmp_path):
    files(tmp_path, "rows.jsonl", "test.jsonl")
    assert texts(looked(tmp_path / "rows.jsonl", split="train")) == ["rows.jsonl"]
    assert texts(looked(tmp_path / "test.jsonl", split="test")) == ["test.jsonl"]
    with pytest.raises(
        ConfigError, match=r"'test' is a file or a subfolder of a folder, and .*rows\.jsonl is one file"
    ):
        looked(tmp_path / "rows.jsonl", split="test")


def test_files_of_different_columns_are_refused_by_both_names(tmp_path):
    (tmp_path / "a.csv").write_text("text,id\nx,1\n")
    (tmp_path / "b.csv").write_text("text,name\nx,1\n")
    with pytest.raises(DataError) as raised:
        looked(tmp_path, "csv")
    assert f"{tmp_path}/b.csv: has other columns than {tmp_path}/a.csv" in str(raised.value)
    assert "id: a column there, none here; name: none there, a column here" in str(raised.value)


def test_files_of_different_types_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a"], "id": [1]}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"text": pa.array(["a"], pa.large_string()), "id": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"\(id: int64 there, string here\); the files"):
        looked(tmp_path, "parquet")


def test_a_column_of_nulls_may_be_of_any_type(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a"], "system": pa.nulls(1)}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"text": ["b"], "system": ["s"]}), tmp_path / "b.parquet")
    assert texts(looked(tmp_path, "parquet")) == ["a", "b"]


def test_json_files_of_different_shapes_are_refused_but_extras_are_not(tmp_path):
    written(tmp_path / "a.jsonl", [{"instruction": "i", "output": "o"}])
    written(tmp_path / "b.jsonl", [{"instruction": "i", "input": "more", "output": "o", "id": 3}])
    assert len(looked(tmp_path).rows) == 2
    written(tmp_path / "c.jsonl", [{"text": "t"}])
    with pytest.raises(DataError, match=r"c\.jsonl: has other columns than .*a\.jsonl \(instruction: a column there"):
        looked(tmp_path)


def test_a_folder_without_a_file_of_the_format_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no file of format parquet \(\.parquet, \.pq\)"):
        looked(files(tmp_path, "a.jsonl"), "parquet")


def test_pictures_are_for_the_other_engine(tmp_path):
    with pytest.raises(ConfigError, match=r"datasets\[0\]\.format: imagefolder .* engine diffusion"):
        looked(tmp_path, "imagefolder")


def test_several_datasets_follow_each_other(tmp_path):
    files(tmp_path, "a.jsonl", "b.jsonl")
    found = look([material(tmp_path / "b.jsonl"), material(tmp_path / "a.jsonl"), material(tmp_path / "b.jsonl")])
    assert texts(found) == ["b.jsonl", "a.jsonl", "b.jsonl"] and len(found.sources) == 3
