"""What a job leaves: `final/` with a model card, and `manifest.json`."""

import json
import time
from pathlib import Path
from typing import Any

from common.clock import stamp
from common.folder import FORMAT, write_whole
from trainyard.trainer.checkpoints import fresh, publish
from trainyard.trainer.run import Run
from trainyard.trainer.text.keep import data_of, save_model
from trainyard.trainer.text.model import Source
from trainyard.trainer.text.rows import Corpus
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position, versions


def write_result(
    run: Run, settings: Settings, corpus: Corpus, source: Source, model: Any, tokenizer: Any, position: Position
) -> str:
    """Write the model or adapter, whole or not at all, then the manifest; the path of `final/`."""
    pair, check = run.claim.pair, run.fence.check
    aside = run.spec.output / f"final.tmp-{pair}"
    fresh(aside)
    model.config.use_cache = True
    save_model(model, aside)
    tokenizer.save_pretrained(aside)
    (aside / "README.md").write_text(_card(run, settings, corpus, source, position), encoding="utf-8")
    final = publish(aside, run.spec.output / "final", pair, check)
    manifest = _manifest(run, settings, corpus, position, final)
    check()
    write_whole(run.spec.output / "manifest.json", json.dumps(manifest, indent=2).encode(), mode=0o644)
    return str(final)


def _manifest(run: Run, settings: Settings, corpus: Corpus, position: Position, final: Path) -> dict[str, Any]:
    spec = run.spec
    return {
        "format": FORMAT,
        "uid": spec.uid,
        "job_id": spec.job_id,
        "attempt": str(run.claim.pair),
        "written_at": stamp(time.time()),
        "request": spec.request,
        "settings": settings.plain(),
        "changes": list(spec.changes),
        "seeds": {"seed": settings.seed},
        "datasets": data_of(corpus),
        "threads": spec.threads,
        "devices": list(spec.devices),
        "versions": versions(),
        "step": position.step,
        "metrics": position.metrics,
        "final": str(final),
    }


def _card(run: Run, settings: Settings, corpus: Corpus, source: Source, position: Position) -> str:
    lora = settings.method == "lora"
    base = f"base_model: {json.dumps(source.name)}\n" if source.folder is None else ""
    library = "peft" if lora else "transformers"
    tags = f"pipeline_tag: text-generation\ntags: [trainyard, {settings.method}]"
    head = f"---\n{base}library_name: {library}\n{tags}\n---\n"
    kind = (
        f"A LoRA adapter (rank {settings.rank}, alpha {settings.alpha:g}, dropout {settings.dropout:g})"
        if lora
        else "A model"
    )
    return "\n".join(
        [
            head,
            f"# {run.spec.job_id}\n",
            f"{kind} fine-tuned from `{source.name}` by Trainyard.\n",
            "## Results\n",
            _table(("measure", "value"), _results(position)),
            "## Training\n",
            _table(("setting", "value"), _settings(settings, position)),
            "## Data\n",
            _table(("file", "rows", "sha256"), [(s.path.name, s.rows, f"`{s.sha256}`") for s in corpus.sources]),
            "## Use\n",
            f"```python\n{_use(source, lora)}\n```\n",
            "Made with " + ", ".join(f"{name} {number}" for name, number in versions().items()) + ".\n",
        ]
    )


def _results(position: Position) -> list[tuple[object, ...]]:
    names = {
        "loss": "training loss, mean of the last report",
        "eval_loss_before": "held-out loss before",
        "eval_loss": "held-out loss after",
    }
    return [(words, f"{position.metrics[key]:.4f}") for key, words in names.items() if key in position.metrics]


def _settings(settings: Settings, position: Position) -> list[tuple[object, ...]]:
    micro, times = settings.micro_batch_size, settings.accumulation
    return [
        ("method", settings.method),
        ("precision", settings.precision),
        ("steps", position.step),
        ("epochs", position.epoch),
        ("batch size", f"{settings.batch_size} ({micro} × {times})"),
        ("learning rate", f"{settings.learning_rate:g}, {settings.lr_scheduler}"),
        ("weight decay", settings.weight_decay),
        ("gradient norm at most", settings.max_grad_norm or "unlimited"),
        ("held-out share", settings.eval_ratio),
        ("seed", settings.seed),
    ]


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _use(source: Source, lora: bool) -> str:
    if not lora:
        return (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("final")\n'
            'tokenizer = AutoTokenizer.from_pretrained("final")'
        )
    return (
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{source.name}")\n'
        'model = PeftModel.from_pretrained(base, "final")\n'
        'tokenizer = AutoTokenizer.from_pretrained("final")'
    )
