"""Where the adapter lies, and what can be typed next."""

import json
import shlex
import sys
from pathlib import Path

import corpus
from documents import Document, Place, cpus
from jobs import Trained
from screen import Screen

_PORT = 8001
_ASK = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
adapter = {adapter!r}
tokenizer, model = AutoTokenizer.from_pretrained(adapter), AutoPeftModelForCausalLM.from_pretrained(adapter)
ids = tokenizer("Q: What is a loss mask?\\nA:", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(input_ids=ids, max_new_tokens=60)[0], skip_special_tokens=True))
"""


def show(screen: Screen, place: Place, data: Path, base: Trained, adapter: Trained) -> None:
    """Write a program and a document to go on with, and name the commands."""
    program, document = place.folder / "ask.py", place.folder / "my-first-job.json"
    program.write_text(_ASK.format(adapter=adapter.final), encoding="utf-8")
    document.write_text(json.dumps(_document(place, base), indent=2) + "\n", encoding="utf-8")
    python, trainyard = _typed(Path(sys.executable)), _typed(Path(sys.executable).with_name("trainyard"))
    job = f"http://127.0.0.1:{_PORT}/train/{adapter.job_id}"
    screen.head("Go on from here")
    screen.say(f"The adapter: {adapter.final}")
    screen.say(f"\nAsk it something, with peft ({program.name} holds these lines):\n  {python} {_typed(program)}\n")
    screen.say("".join(f"    {line}\n" for line in program.read_text(encoding="utf-8").splitlines()))
    screen.say(
        f"Start the server again on the same data:\n  {trainyard} server --port {_PORT} --data-dir {_typed(data)}"
    )
    screen.say("\nAnd in another terminal:")
    for command in (
        f"{trainyard} list",
        f"{trainyard} show {adapter.job_id}",
        f"{trainyard} logs {adapter.job_id} --tail 20",
        f"curl -s {job}",
        f"curl -s -N -H 'Accept: text/event-stream' {job}/events",
        f"{trainyard} submit --follow {_typed(document)}",
    ):
        screen.say(f"  {command}")


def _document(place: Place, base: Trained) -> Document:
    """A job of the reader's own: change the rows, and the id for each new try."""
    project = place.folder / "project"
    return {
        "job_id": f"my-first-job-{place.stamp}",
        "base_model": {"provider": "custom", "model_name": base.final},
        "customization": {"method": "lora", "precision": "fp32"},
        "resources": {"gpus": 0, "cpus": cpus(), "memory_gb": 1},
        "datasets": [{"source": str(corpus.INSTRUCTIONS), "format": "jsonl"}],
        "artifacts": {"log_uri": str(project / "logs"), "output_uri": str(project / "results")},
        "tuning_parameters": {"learning_rate": 1e-3, "num_epochs": 2, "eval_ratio": 0.05},
    }


def _typed(path: Path) -> str:
    """A path as it is typed in a shell, short where it lies under the working directory."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
