"""What a job leaves: `final/` with a model card, and `manifest.json`."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel

from common.clock import stamp
from common.folder import FORMAT, write_whole
from trainyard.trainer.checkpoints import fresh, publish
from trainyard.trainer.finishing import flush_all
from trainyard.trainer.run import Run
from trainyard.trainer.surroundings import versions
from trainyard.trainer.text import model as models
from trainyard.trainer.text.card import Card
from trainyard.trainer.text.data import Corpus
from trainyard.trainer.text.keep import data_of
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position


def write_result(
    run: Run,
    settings: Settings,
    corpus: Corpus,
    source: models.Source,
    model: Any,
    tokenizer: Any,
    position: Position,
    notes: Mapping[str, Any] | None = None,
) -> str:
    """Write the model or adapter, whole or not at all, then the manifest, with `notes`; the address of `final/`.

    The model must be in one piece; it is of no use afterwards where the adapter was merged.
    """
    pair, check = run.claim.pair, run.fence.check
    card = Card(
        run=run,
        settings=settings,
        corpus=corpus,
        source=source,
        position=position,
        adapter=model.peft_config[models.NAME] if isinstance(model, PeftModel) else None,
        parameters=(models.trainable(model), models.parameters(model)),
        notes=notes or {},
    )
    aside = run.spec.output / f"final.tmp-{pair}"
    try:
        fresh(aside)
        with run.control.interruptible():  # the last checkpoint has it all: a stop need not wait
            models.save_result(model, source, settings, aside)
            tokenizer.save_pretrained(aside)
            flush_all(aside)
        (aside / "README.md").write_text(card.text(), encoding="utf-8")
        final = publish(aside, run.spec.output / "final", pair, check)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    manifest = _manifest(card, final) | dict(notes or {})
    check()
    write_whole(run.spec.output / "manifest.json", json.dumps(manifest, indent=2).encode(), mode=0o644)
    return run.spec.uri(final)


def _manifest(card: Card, final: Path) -> dict[str, Any]:
    spec, settings, position = card.run.spec, card.settings, card.position
    trained, parameters = card.parameters
    return {
        "format": FORMAT,
        "uid": spec.uid,
        "job_id": spec.job_id,
        "attempt": str(card.run.claim.pair),
        "written_at": stamp(time.time()),
        "request": spec.request,
        "settings": settings.plain(),
        "changes": spec.all_changes(position.changes),
        "seeds": {"seed": settings.seed},
        "datasets": data_of(card.corpus),
        **card.corpus.plain(),
        "base": {"name": card.source.name, "revision": card.source.revision, "adapter": card.source.asked},
        "parameters": {"trained": trained, "all": parameters},
        "merged": card.merged,
        "threads": spec.threads,
        "devices": list(spec.devices),
        "versions": versions(),
        "step": position.step,
        "result_step": position.result_step or position.step,
        "metrics": position.metrics,
        "final": spec.uri(final),
    }
