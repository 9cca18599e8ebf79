"""The model card: what was trained, from what, on what, how well, and how to load it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from trainyard.trainer.run import Run
from trainyard.trainer.surroundings import versions
from trainyard.trainer.text.data import Corpus
from trainyard.trainer.text.data.material import counted
from trainyard.trainer.text.model import Source
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position

_GIB = 1 << 30


@frozen(kw_only=True)
class Card:
    """What a card is made of. `adapter` is the configuration of the adapter that was trained; None of a whole model."""

    run: Run
    settings: Settings
    corpus: Corpus
    source: Source
    position: Position
    adapter: Any = None
    #: Parameters that were trained, and all of them.
    parameters: tuple[int, int] = (0, 0)
    notes: Mapping[str, Any] = {}

    @property
    def merged(self) -> bool:
        """Whether the adapter became part of a whole model."""
        return self.adapter is not None and self.settings.merge

    def text(self) -> str:
        """As markdown."""
        sections = [
            self._head(),
            f"# {self.run.spec.job_id}\n",
            f"{self._kind()}, {self._origin()}, by Trainyard.\n",
            "## Results\n",
            _table(("measure", "value"), self._results()),
            "## Training\n",
            _table(("setting", "value"), [row for row in self._settings() if row[1] is not None]),
            "## Data\n",
            _table(("file", "rows", "sha256"), self._sources()),
            *self._left_out(),
            *self._changes(),
            "## Use\n",
            f"```python\n{self._use()}\n```\n",
            "Made with " + ", ".join(f"{name} {number}" for name, number in versions().items()) + ".\n",
        ]
        return "\n".join(sections)

    def _head(self) -> str:
        base = f"base_model: {json.dumps(self.source.name)}\n" if self.source.of_hub else ""
        library = "peft" if self.adapter is not None and not self.merged else "transformers"
        tags = f"pipeline_tag: text-generation\ntags: [trainyard, {self.settings.method}]"
        return f"---\n{base}library_name: {library}\n{tags}\n---\n"

    def _kind(self) -> str:
        if self.adapter is None:
            return "A model"
        name = self.adapter.peft_type.value
        if name == "LORA":
            config = self.adapter
            variant = "DoRA" if config.use_dora else "rsLoRA" if config.use_rslora else "LoRA"
            dropout = f"{config.lora_dropout:g}" if self.settings.objective == "sft" else "off"
            told = f"rank {config.r}, alpha {config.lora_alpha:g}, dropout {dropout}"
            name = f"{variant} adapter ({told})"
        else:
            name = f"{name} adapter"
        article = "An" if name[0] in "AEIO" else "A"
        return f"{article} {name}" + (", merged into its base" if self.merged else "")

    def _origin(self) -> str:
        if self.settings.method == "scratch":
            return f"trained from random weights of the configuration of `{self.source.name}`"
        if self.source.asked:
            return f"trained on from `{self.source.asked}`, an adapter of `{self.source.name}`"
        url = self.run.spec.request["base_model"].get("weights_url")
        return f"fine-tuned from `{self.source.name}`" + (f" with the weights of `{url}`" if url else "")

    def _results(self) -> list[tuple[object, ...]]:
        names = {
            "loss": "training loss, mean of the last report",
            "eval_loss_before": "held-out loss before",
            "eval_loss": "held-out loss after",
        }
        metrics = self.position.metrics
        return [(words, f"{metrics[key]:.4f}") for key, words in names.items() if key in metrics]

    def _settings(self) -> list[tuple[object, ...]]:
        settings, position = self.settings, self.position
        peak = (self.notes.get("memory") or {}).get("peak_bytes")
        tokens = self.notes.get("tokens")
        layers = "layers trained besides" if settings.adapts else "layers trained, and no others"
        early = settings.early_stopping_patience is not None
        return [
            ("method", settings.method),
            ("objective", None if settings.objective == "sft" else settings.objective),
            ("base held in", self._held_in()),
            ("precision", settings.precision),
            ("parameters trained", f"{self.parameters[0]:,} of {self.parameters[1]:,}"),
            (layers, ", ".join(settings.trainable_layers) or None),
            ("steps", position.step),
            ("result of step", (position.result_step or position.step) if early else None),
            ("epochs", f"{round(self.notes.get('epochs', position.epoch), 2):g}"),
            ("tokens of the data", f"{tokens:,}" if tokens else None),
            ("batch size", self._batch()),
            ("packing", "yes" if settings.packing else None),
            ("optimizer", settings.optimizer),
            ("learning rate", f"{settings.learning_rate:g}, {settings.lr_scheduler}"),
            ("weight decay", settings.weight_decay),
            ("gradient norm at most", settings.max_grad_norm or "unlimited"),
            ("held-out share", settings.eval_ratio),
            ("seed", settings.seed),
            ("memory at the peak", f"{peak / _GIB:.2f} GiB" if peak else None),
        ]

    def _held_in(self) -> str | None:
        if self.settings.method == "qlora":
            return f"4 bits ({self.settings.quant_type}{', double quantisation' if self.settings.double_quant else ''})"
        return "8 bits" if self.settings.precision == "int8" else None

    def _batch(self) -> str:
        settings = self.settings
        processes = f" × {settings.processes} processes" if settings.processes > 1 else ""
        micro = settings.micro_batch_size or settings.share
        return f"{settings.batch_size} ({micro} × {settings.accumulation}{processes})"

    def _sources(self) -> list[tuple[object, ...]]:
        return [(one.name or one.path.name, one.rows, f"`{one.sha256}`") for one in self.corpus.sources]

    def _left_out(self) -> list[str]:
        told = (
            (self.corpus.skipped, "could not be read and", "skipped"),
            (self.corpus.without_target, "had nothing to learn and", "left out"),
        )
        return [
            f"{counted(len(tally), f'row {why} was', f'rows {why} were')} {done}.\n"
            for tally, why, done in told
            if tally
        ]

    def _changes(self) -> list[str]:
        changes = self.run.spec.all_changes(self.position.changes)
        rows = [(c["step"], path, value) for c in changes for path, value in c["values"].items()]
        return ["## Changed while it was trained\n", _table(("after step", "what", "new value"), rows)] if rows else []

    def _use(self) -> str:
        if self.adapter is None or self.merged:
            return _USE_WHOLE
        revision = f', revision="{self.source.revision}"' if self.source.revision not in (None, "main") else ""
        return _USE_ADAPTER.format(name=self.source.name, revision=revision)


_USE_WHOLE = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("final")
tokenizer = AutoTokenizer.from_pretrained("final")"""

_USE_ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("{name}"{revision})
model = PeftModel.from_pretrained(base, "final")
tokenizer = AutoTokenizer.from_pretrained("final")"""


def _table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"
