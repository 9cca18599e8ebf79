"""The README's examples of methods, data and objectives: each is a valid document, and each is trained for real."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import Server
from tests.tiny import make_tiny_llama

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```json\n(.*?)```", re.DOTALL)
EXAMPLES: dict[str, Any] = {
    name: json.loads(text) for name, text in EXAMPLE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
}
#: Those whose result is a whole model.
WHOLE = {"full", "scratch", "merged", "sharded"}
PACKAGES = {"qlora": "bitsandbytes", "int8": "bitsandbytes", "packed": "bitsandbytes", "dpo": "trl", "bucket": "moto"}
#: The README's own way to apply an example.
merged = runpy.run_path(str(ROOT / "examples/patch.py"))["merged"]
SHORT = {"max_steps": 2, "batch_size": 4, "save_steps": None, "logging_steps": 1}


def job(name: str) -> dict[str, Any]:
    """An example as a document of its own, and short."""
    base = json.loads((ROOT / "examples/cpu_job.json").read_text())
    short = {"job_id": name, "resources": {"cpus": 1}, "tuning_parameters": SHORT}
    return dict(merged(merged(base, short), EXAMPLES.get(name, {})))


def test_the_readme_has_an_example_of_every_method() -> None:
    methods = {job(name)["customization"]["method"] for name in EXAMPLES}
    assert methods == {"lora", "qlora", "peft", "adapter", "full", "scratch"}
    assert len(EXAMPLES) >= 14


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, as far as the examples name files of it; the server runs in it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_is_a_valid_document(folder: Path, client: Any, name: str) -> None:
    for path in ("tiny-llama/config.json", "results/answers-1/final/adapter_config.json", "saved/state.json"):
        (folder / "demo" / path).parent.mkdir(parents=True)
        (folder / "demo" / path).write_text("{}")
    for path in ("rows.parquet", "rows.csv", "rows.arrow", "nemo.jsonl"):
        (folder / "demo" / path).write_text("x")
    answer = await client.post("/train/validate?strict=true", json=job(name))
    said = await answer.json()
    assert answer.status == 200, said
    expected = ("resources.", "customization.rank", "customization.lora_alpha")  # of the job that they change
    assert [w for w in said["warnings"] if not w["path"].startswith(expected)] == []


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`my-bucket` of an S3 that runs here; the server and its runs find it."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="example-secret",
    )
    s3.create_bucket(Bucket="my-bucket")
    s3.upload_file(str(ROOT / "examples/data/instructions.jsonl"), "my-bucket", "rows/train.jsonl")
    yield s3
    s3.close()
    server.stop()


@pytest.fixture
def served(folder: Path, bucket: Any) -> Iterator[Server]:
    server = Server(folder / "data", LOCAL_CPU_JOBS="2").start()
    yield server
    server.end()


def write_data(demo: Path) -> None:
    """The same few rows in every format."""
    import datasets
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    asked = [f"What is {n} and {n}?" for n in range(12)]
    said = [f"It is {2 * n}." for n in range(12)]
    table = pa.table({"prompt": asked, "completion": said})
    parquet.write_table(table, demo / "rows.parquet")
    csv.write_csv(table, demo / "rows.csv")
    feather.write_feather(table, str(demo / "rows.arrow"))
    rows = [{"input": a, "output": b} for a, b in zip(asked, said, strict=True)]
    (demo / "nemo.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    datasets.Dataset.from_dict({"prompt": asked, "completion": said}).save_to_disk(str(demo / "saved"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_example_is_trained_and_leaves_what_it_says(folder: Path, served: Server, bucket: Any) -> None:
    for package in set(PACKAGES.values()) | {"peft", "datasets", "obstore"}:
        pytest.importorskip(package)
    make_tiny_llama(folder / "demo/tiny-llama", positions=512)
    write_data(folder / "demo")
    served.post(job("answers-1"))
    assert served.wait_end("answers-1")["status"] == "succeeded"
    for name in EXAMPLES:
        served.post(job(name))
    wrong = []
    for name in EXAMPLES:
        done = served.wait_end(name, 600)
        found = {path.name for path in (folder / "demo/results" / name / "final").glob("*")}
        if name == "bucket":
            found = {item["Key"].rpartition("/")[2] for item in _listed(bucket, "results/bucket/final/")}
            assert _listed(bucket, "logs/bucket/train.log")
        expected = "model.safetensors" if name in WHOLE else "adapter_model.safetensors"
        if done["status"] != "succeeded" or not {expected, "tokenizer.json", "README.md"} <= found:
            tail = served.events(name)[-1]["data"].get("log_tail")
            wrong.append(f"{name}: {done['status']}, {done['detail']}, final/ has {sorted(found)}\n{tail}")
    assert not wrong, "\n".join(wrong)
    manifest = json.loads((folder / "demo/results/formats/manifest.json").read_text())
    assert "no JSON" not in json.dumps(manifest) and '"skipped"' in json.dumps(manifest)


def _listed(bucket: Any, prefix: str) -> list[Any]:
    return list(bucket.list_objects_v2(Bucket="my-bucket", Prefix=prefix).get("Contents", []))
