"""What a job leaves: `final/` with a model card, and `manifest.json`."""

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from common.clock import stamp
from common.folder import FORMAT, write_whole
from trainyard.trainer.checkpoints import fresh, publish
from trainyard.trainer.diffusion.card import Card
from trainyard.trainer.diffusion.comfyui import name_as_asked
from trainyard.trainer.diffusion.ema import Average
from trainyard.trainer.diffusion.keep import PACKAGES, plain
from trainyard.trainer.diffusion.model import Trained
from trainyard.trainer.surroundings import versions

GRID = "validation.png"


def write_result(card: Card, trained: Trained, average: Average | None, grid: Path | None) -> str:
    """Write what was trained, of a running mean the mean, whole or not at all, then the manifest; where it is.

    `grid`: the newest pictures, which go into the model card.
    """
    run = card.job.run
    pair, check = run.claim.pair, run.fence.check
    aside = run.spec.output / f"final.tmp-{pair}"
    fresh(aside)
    with average.shown() if average is not None else nullcontext():
        trained.write(aside)
    name_as_asked(aside, card.job.options)
    if grid is not None:
        shutil.copyfile(grid, aside / GRID)
    (aside / "README.md").write_text(card.text(GRID if grid is not None else None), encoding="utf-8")
    final = publish(aside, run.spec.output / "final", pair, check)
    check()
    write_whole(run.spec.output / "manifest.json", json.dumps(_manifest(card, final), indent=2).encode(), mode=0o644)
    return run.spec.uri(final)


def _manifest(card: Card, final: Path) -> dict[str, Any]:
    job, position = card.job, card.position
    spec, weights = job.run.spec, job.weights
    notes: Mapping[str, Any] = card.notes
    return {
        "format": FORMAT,
        "uid": spec.uid,
        "job_id": spec.job_id,
        "attempt": str(job.run.claim.pair),
        "written_at": stamp(time.time()),
        "request": spec.request,
        "settings": plain(job.options),
        "changes": spec.all_changes(position.changes),
        "seeds": {"seed": job.seed},
        "datasets": job.gallery.plain(),
        "left_out": job.gallery.notes,
        "base": {"name": weights.name, "revision": weights.revision, "family": job.family.name},
        "parameters": {"trained": card.parameters[0], "all": card.parameters[1]},
        "threads": spec.threads,
        "devices": list(spec.devices),
        "versions": versions(PACKAGES),
        "step": position.step,
        "metrics": position.metrics,
        "final": spec.uri(final),
        **notes,
    }
