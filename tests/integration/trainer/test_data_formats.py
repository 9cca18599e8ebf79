"""Real jobs over data of every format."""

import csv
import json
import re

import pytest

pytestmark = pytest.mark.slow
WORDS = [f"Job {n} kept {n % 5} checkpoints." for n in range(12)]


def of_every_format(folder):
    """One dataset a format, each in another shape; the documents of them."""
    import datasets
    import pyarrow as pa
    from pyarrow import feather, parquet

    folder.mkdir()
    lines = [json.dumps({"text": words}) + "\n" for words in WORDS]
    (folder / "rows.jsonl").write_text("".join([*lines, "{}\n"]))
    (folder / "nemo.jsonl").write_text(
        "".join(json.dumps({"input": "Tell.", "output": words}) + "\n" for words in WORDS)
    )
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("instruction", "output"), *(("Tell.", words) for words in WORDS)])
    talks = [[{"role": "user", "content": "Tell."}, {"role": "assistant", "content": words}] for words in WORDS]
    (folder / "parts").mkdir()
    parquet.write_table(pa.table({"messages": talks[:6]}), folder / "parts" / "train-00000-of-00002.parquet")
    parquet.write_table(pa.table({"messages": talks[6:]}), folder / "parts" / "train-00001-of-00002.parquet")
    feather.write_feather(pa.table({"prompt": ["Tell. "] * 12, "completion": WORDS}), folder / "rows.feather")
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": WORDS})}).save_to_disk(folder / "saved")
    return [
        {"source": str(folder / "rows.jsonl"), "format": "jsonl", "streaming": True},
        {"source": str(folder / "nemo.jsonl"), "format": "nemo", "weight": 2},
        {"source": str(folder / "rows.csv"), "format": "csv", "weight": 0.5},
        {"source": str(folder / "parts"), "format": "parquet", "split": "train"},
        {"source": str(folder / "rows.feather"), "format": "arrow"},
        {"source": str(folder / "saved"), "format": "hf", "split": "train[:50%]"},
    ]


def test_a_job_learns_from_every_format_at_once(job, tmp_path):
    job.datasets, job.extra = of_every_format(tmp_path / "data"), {"on_bad_row": "skip"}
    job.tuning |= {"max_steps": 2, "eval_ratio": 0.1}
    assert job.run() == 0, job.log
    said = [event["message"] for event in job.events("log")]
    assert any("1 row is bad and left out: " in words and "rows.jsonl:13: has none" in words for words in said)
    manifest = json.loads((job.output / "manifest.json").read_text())
    assert [data["rows"] for data in manifest["datasets"]] == [12, 12, 12, 6, 6, 12, 6]
    (numbers,) = [match for words in said if (match := re.search(r"(\d+) rows to train on, (\d+) held out", words))]
    # nemo twice, half of the csv: 72; a row that is taken twice is held out twice.
    assert int(numbers[1]) + int(numbers[2]) == 72 and 6 <= int(numbers[2]) <= 12


def test_a_bad_row_of_a_table_ends_a_job_before_torch_is_imported(job, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"prompt": ["p", "q"], "completion": ["c", None]}), path)
    job.datasets = [{"source": str(path), "format": "parquet"}]
    assert job.start(options=("-X", "importtime")).wait(60) == 65
    assert f"{path}: row 2: completion is missing" in job.events("log")[-1]["message"]
    imported = {line.split("|")[-1].strip() for line in job.log.splitlines() if line.startswith("import time:")}
    assert "pyarrow" in imported and not imported & {"torch", "transformers", "datasets", "pandas"}
