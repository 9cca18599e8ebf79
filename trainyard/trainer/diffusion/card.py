"""The model card: what was trained, from what, on what, how well, and how to load it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from schemas.diffusion.lycoris import LycorisFile
from trainyard.trainer.diffusion.job import Job
from trainyard.trainer.diffusion.keep import PACKAGES
from trainyard.trainer.diffusion.state import Position
from trainyard.trainer.surroundings import versions

_GIB = 1 << 30


@frozen(kw_only=True)
class Card:
    """What a card is made of."""

    job: Job
    position: Position
    #: Parameters that were trained, and all of the denoiser.
    parameters: tuple[int, int]
    #: `epochs`, and of `memory` the `peak_bytes` of a step.
    notes: Mapping[str, Any]

    def text(self, grid: str | None) -> str:
        """As markdown; `grid`: a file beside it with the newest pictures."""
        note = self.job.options.model_card_note
        sections = [
            self._head(grid),
            f"# {self.job.run.spec.job_id}\n",
            f"{self._kind()}, trained from `{self.job.weights.name}` ({self.job.family.name}), by Trainyard.\n",
            *([f"{note}\n"] if note else []),
            *(["Its pictures are safe for work.\n"] if self.job.options.model_card_safe_for_work else []),
            *([f"![pictures of the last validation]({grid})\n", _prompts(self.job)] if grid else []),
            "## Results\n",
            _table(("measure", "value"), self._results()),
            "## Training\n",
            _table(("setting", "value"), [row for row in self._settings() if row[1] is not None]),
            "## Data\n",
            _table(("set", "pictures", "repeats", "sha256"), self._sets()),
            *[f"{note}.\n" for note in self.job.gallery.notes],
            *self._changes(),
            "## Use\n",
            f"```python\n{self._use()}\n```\n",
            "Made with " + ", ".join(f"{name} {number}" for name, number in versions(PACKAGES).items()) + ".\n",
        ]
        return "\n".join(sections)

    def _head(self, grid: str | None) -> str:
        options, weights = self.job.options, self.job.weights
        lines = [f"base_model: {json.dumps(weights.name)}"] if weights.revision else []
        library = "peft" if self.job.family.name == "pixart_sigma" and options.model_type == "lora" else "diffusers"
        lines += [f"library_name: {library}", "pipeline_tag: text-to-image"]
        lines.append(f"tags: [trainyard, {self.job.family.name}, {options.model_type}]")
        if options.instance_prompt:
            lines.append(f"instance_prompt: {json.dumps(options.instance_prompt)}")
        if grid and (prompt := options.validation_prompt):
            lines += ["widget:", f"- text: {json.dumps(prompt)}", f"  output: {{url: {grid}}}"]
        return "---\n" + "\n".join(lines) + "\n---\n"

    def _kind(self) -> str:
        options = self.job.options
        if options.model_type == "full":
            return "A whole model"
        if isinstance(options.lycoris_config, LycorisFile):
            return f"A LyCORIS adapter ({options.lycoris_config.algo})"
        alpha = options.lora_alpha or options.lora_rank
        told = f"rank {options.lora_rank}, alpha {alpha:g}, dropout {options.lora_dropout:g}"
        return f"A {'DoRA' if options.use_dora else 'LoRA'} adapter ({told})"

    def _results(self) -> list[tuple[object, ...]]:
        metrics = self.position.metrics
        return [("training loss, mean of the last report", f"{metrics['loss']:.4f}")] if "loss" in metrics else []

    def _settings(self) -> list[tuple[object, ...]]:
        options, processes = self.job.options, self.job.run.spec.processes
        micro, steps = options.train_batch_size, options.gradient_accumulation_steps
        at_most = f"{options.max_grad_norm:g} ({options.grad_clip_method})" if options.max_grad_norm else "unlimited"
        peak = (self.notes.get("memory") or {}).get("peak_bytes")
        return [
            ("precision", options.mixed_precision),
            ("base held in", None if options.base_model_precision == "no_change" else options.base_model_precision),
            ("parameters trained", f"{self.parameters[0]:,} of {self.parameters[1]:,}"),
            ("steps", self.position.step),
            ("epochs", f"{self.notes['epochs']:g}"),
            ("batch size", f"{micro * steps * processes} ({micro} × {steps} × {processes})"),
            ("resolution", f"{options.resolution:g} ({options.resolution_type})"),
            ("optimizer", options.optimizer),
            ("learning rate", f"{options.learning_rate:g}, {options.lr_scheduler}"),
            ("weight decay", options.adam_weight_decay),
            ("gradient at most", at_most),
            ("loss", options.loss_type),
            ("captions dropped", options.caption_dropout_probability),
            ("running mean", f"{options.ema_decay:g}" if options.use_ema else None),
            ("seed", self.job.seed),
            ("memory at the peak", f"{peak / _GIB:.2f} GiB" if peak else None),
        ]

    def _sets(self) -> list[tuple[object, ...]]:
        return [(one["id"], one["pictures"], one["repeats"], f"`{one['sha256']}`") for one in self.job.gallery.plain()]

    def _changes(self) -> list[str]:
        changes = self.job.run.spec.all_changes(self.position.changes)
        rows = [(c["step"], path, value) for c in changes for path, value in c["values"].items()]
        return ["## Changed while it was trained\n", _table(("after step", "what", "new value"), rows)] if rows else []

    def _use(self) -> str:
        options, weights = self.job.options, self.job.weights
        told = {"revision": weights.revision if weights.revision != "main" else None, "variant": weights.variant}
        more = "".join(f', {name}="{value}"' for name, value in told.items() if value)
        base = f'"{weights.name}"{more}'
        if options.model_type == "full":
            return _WHOLE.format(base='"final"' + (f', variant="{weights.variant}"' if weights.variant else ""))
        if options.lora_type == "lycoris" and isinstance(options.lycoris_config, LycorisFile):
            strength = options.lycoris_config.multiplier
            return _LYCORIS.format(base=base, part=self.job.family.part, strength=strength)
        return (_PEFT if self.job.family.name == "pixart_sigma" else _LORA).format(base=base)


_WHOLE = """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained({base})"""

_LORA = """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained({base})
pipeline.load_lora_weights("final")"""

_PEFT = """from diffusers import DiffusionPipeline
from peft import PeftModel

pipeline = DiffusionPipeline.from_pretrained({base})
pipeline.transformer = PeftModel.from_pretrained(pipeline.transformer, "final")"""

_LYCORIS = """from diffusers import DiffusionPipeline
from lycoris import create_lycoris_from_weights

pipeline = DiffusionPipeline.from_pretrained({base})
network, _ = create_lycoris_from_weights({strength}, "final/pytorch_lora_weights.safetensors", pipeline.{part})
network.apply_to()"""


def _prompts(job: Job) -> str:
    """What the pictures show."""
    return "\n".join(f"- {prompt.text}" for prompt in job.plan.prompts) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"
