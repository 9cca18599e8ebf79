"""A diffusers model of a hub (one of our own): what of it is fetched, and that it is found again without the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trainyard
from tests.hub import hub_server
from tests.pictures import draw
from tests.tiny_diffusion import shared_tiny

pytestmark = pytest.mark.slow

ROOT = Path(trainyard.__file__).parents[1]
FETCH = """
import json, sys
from trainyard.trainer.sources.hub import Place, fetch_folders

asked = json.loads(sys.argv[1])
try:
    place = Place(repository=asked["name"], revision="main")
    more = {"variant": asked.get("variant"), "only": asked.get("only", ())}
    found = fetch_folders(place, asked.get("token"), "here", lambda: None, lambda text: None, **more)
    print(json.dumps(sorted(p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file())))
except Exception as e:
    print(json.dumps([type(e).__name__, str(e)]))
"""
WHOLE = [
    *("model_index.json", "flux1-dev.safetensors", "README.md", "scheduler/scheduler_config.json"),
    *("vae/config.json", "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors"),
    *("tokenizer/vocab.json", "tokenizer/merges.txt", "text_encoder/model.safetensors", "text_encoder/model.bin"),
]
READ = {
    *("model_index.json", "scheduler/scheduler_config.json", "vae/config.json", "tokenizer/vocab.json"),
    *("vae/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt", "text_encoder/model.safetensors"),
}


def test_only_what_is_read_is_fetched_and_it_is_found_again_without_the_hub(tmp_path):
    for name in WHOLE:
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).write_text("{}")

    def fetched(home="hf", **asked):
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "*",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / home)}
        environ |= {"HF_HUB_OFFLINE": "1"} if asked.get("offline") else {}
        given = [sys.executable, "-P", "-c", FETCH, json.dumps({"name": "owner/tiny"} | asked)]
        done = subprocess.run(given, env=environ, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    with hub_server() as hub:
        hub.add("owner/tiny", tmp_path / "files")
        assert set(fetched()) == READ
        assert set(fetched(offline=True)) == READ
        half = set(fetched("half", variant="fp16"))
        assert half ^ READ == {f"vae/diffusion_pytorch_model{end}.safetensors" for end in ("", ".fp16")}
        wanted = ["tokenizer", "scheduler"]
        assert {name.partition("/")[0] for name in fetched("some", only=wanted)} == {"model_index.json", *wanted}
        assert fetched("some", only=wanted, offline=True) == fetched("some", only=wanted)
        assert fetched("none", offline=True)[0] == "SourceRefused"
        assert fetched(name="owner/nothing")[0] == "SourceRefused"


def test_a_deep_validation_fetches_a_hubs_configurations_and_no_weights(tmp_path, tmp_path_factory):
    model = shared_tiny("pixart_sigma", tmp_path_factory)
    draw(tmp_path / "pictures", count=4, edge=64)
    request = {
        "base_model": {"model_name": "owner/sigma"},
        "datasets": [{"source": str(tmp_path / "pictures"), "format": "imagefolder"}],
        "extra_parameters": {
            "engine": "diffusion",
            "model_family": "pixart_sigma",
            "caption_strategy": "textfile",
            "resolution": 32,
            "resolution_type": "pixel",
            "aspect_bucket_alignment": 16,
            "disable_bucket_pruning": True,
            "tokenizer_max_length": 4,
        },
    }
    spec = {"engine": "diffusion", "request": request, "options": {"cache_dir": str(tmp_path / "cache")}}
    with hub_server() as hub:
        hub.add("owner/sigma", model)
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_PROXY": "*"}
        environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        given = json.dumps({"format": 1, "spec": spec, "secrets": None}).encode()
        argv = [sys.executable, "-P", "-m", "trainyard.trainer.preflight"]
        done = subprocess.run(argv, env=environ, input=given, capture_output=True, timeout=300)
    found = json.loads(done.stdout)
    assert found["ok"] is True, found
    assert found["memory"]["parts"]["weights"] > 0 < found["memory"]["parts"]["activations"]
    assert any("longer than the model reads" in said["message"] for said in found["warnings"])
    assert "bytes" not in found["model"]
    assert list((tmp_path / "hf").rglob("*.json")) and not list((tmp_path / "hf").rglob("*.safetensors"))
