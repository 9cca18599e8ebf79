"""A diffusers model of a hub (one of our own): what of it is fetched, and that it is found again without the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trainyard
from tests.hub import hub_server

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
        done = subprocess.run(given, env=environ, capture_output=True, text=True, timeout=60)
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
