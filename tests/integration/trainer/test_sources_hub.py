"""Models and data sets of a hub (one of our own), by `huggingface_hub` as a job's process uses it."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import trainyard
from tests.hub import hub_server

pytestmark = pytest.mark.slow

ROOT = Path(trainyard.__file__).parents[1]
MODEL = """
import json, sys
from pathlib import Path
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.datasets import fetch_datasets
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.sources.model import model_folder

request, values, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
limits = Limits(patient=request.get("patient", True))
more = {"cache": folder / "cache", "check": lambda: None, "say": lambda text: None, "limits": limits}
try:
    if "datasets" in request:
        print(json.dumps([str(f.path or f.hub) for f in fetch_datasets(request, Secrets(values), **more)]))
    else:
        found = model_folder(request, Secrets(values), into=folder / "model", **more)
        print(json.dumps(sorted(p.name for p in found.iterdir())))
except Exception as e:
    print(json.dumps([type(e).__name__, str(e)]))
"""
FILES = {
    "config.json": "{}",
    "tokenizer.json": "{}",
    "chat_template.jinja": "x",
    "model.safetensors": "w",
    "pytorch_model.bin": "p",
    "original/consolidated.00.pth": "o",
    "README.md": "r",
}


@pytest.fixture
def hub(tmp_path):
    with hub_server() as made:
        folder = tmp_path / "files"
        for name, text in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        made.add("owner/tiny", folder)
        made.add("owner/data", folder, "datasets")
        yield made


@pytest.fixture
def ask(hub, tmp_path):
    def asked(request, secrets=None, **environ):
        base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*"}
        given = [json.dumps(request), json.dumps(secrets or {}), str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-P", "-c", MODEL, *given],
            env=base | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"} | environ,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return asked


def model(name="owner/tiny", method="lora", **more):
    return {"base_model": {"model_name": name, **more}, "customization": {"method": method}}


def test_a_model_comes_without_pickles_and_once(hub, ask):
    wanted = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]
    assert ask(model()) == ask(model()) == wanted
    assert hub.got("model.safetensors") == 1
    assert ask(model(), HF_HUB_OFFLINE="1") == wanted


def test_pickles_come_where_there_is_nothing_else_and_weights_only_where_they_are_used(hub, ask):
    assert "model.safetensors" not in ask(model(method="scratch")) and not hub.got("model.safetensors")
    del hub.repositories["models/owner/tiny"]["model.safetensors"]
    assert "pytorch_model.bin" in ask(model())


def test_what_the_hub_refuses_or_lacks_is_told_with_its_field(hub, ask):
    assert ask(model("owner/none"))[0] == "SourceRefused"
    kind, said = ask(model(revision="v9"))
    assert kind == "ModelError" and said.startswith("base_model.model_name: owner/tiny (revision v9)")
    hub.gated.add("models/owner/tiny")
    kind, said = ask(model(), {"base_model.auth_token": "hf_wrong"})
    assert kind == "SourceRefused" and "hf_wrong" not in said
    good = {"base_model.huggingface_token": "hf_good", "base_model.auth_token": "hf_wrong"}
    assert "model.safetensors" in ask(model(), good)
    kind, said = ask(model("owner/other"), HF_HUB_OFFLINE="1")
    assert kind == "SourceRefused" and ("HF_HUB_OFFLINE" in said or "not in the cache" in said)


@pytest.fixture
def mute():
    """A server that hangs up on everybody; the number of callers so far."""
    listener, callers = socket.create_server(("127.0.0.1", 0)), []

    def hang_up():
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            callers.append(caller)
            caller.close()

    thread = threading.Thread(target=hang_up, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", callers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_hub_that_does_not_answer_is_asked_once_by_a_validation_and_the_cache_then(hub, ask, mute):
    url, callers = mute
    kind, said = ask(model() | {"patient": False}, {"base_model.auth_token": "hf_any"}, HF_ENDPOINT=url)
    assert kind == "SourceRefused" and said.startswith("base_model.model_name: owner/tiny (revision main): ")
    assert "the hub can't be reached, whatever the token, and it is not in the cache" in said
    assert len(callers) == 1
    known = ask(model())
    assert ask(model() | {"patient": False}, HF_ENDPOINT=url) == known


def test_files_folders_and_ids_of_data_sets(hub, ask, tmp_path):
    def rows(source, form="jsonl"):
        return {"datasets": [{"source": source, "format": form}]}

    (path,) = ask(rows("hf://datasets/owner/data/config.json"))
    assert Path(path).name == "config.json" and Path(path).read_text() == "{}"
    (folder,) = ask(rows("hf://datasets/owner/data/original"))
    assert [p.name for p in Path(folder).iterdir()] == ["consolidated.00.pth"]
    assert ask(rows("hf://datasets/owner/data", "hf")) == ask(rows("owner/data", "hf")) == ["owner/data"]
    kind, said = ask(rows("hf://datasets/owner/data/none.jsonl"))
    assert kind == "DataError" and said.startswith("datasets[0].source: hf://datasets/owner/data/none.jsonl")
    kind, said = ask(rows("hf://nothing"))
    assert kind == "ConfigError" and "hf://[datasets/]owner/name" in said
