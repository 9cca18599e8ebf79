"""A job examined without running it: settings, sources, rows, tokenizer, and the model without its weights."""

import logging
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainyard.trainer.failures import ConfigError, placed
from trainyard.trainer.imports import list_models_once, quickly
from trainyard.trainer.text.data import Corpus, look
from trainyard.trainer.text.materials import materials
from trainyard.trainer.text.quantiser import UNUSED, leave_out
from trainyard.trainer.text.settings import Settings, part
from trainyard.trainer.text.strategy import checked_settings, of_adapter

if TYPE_CHECKING:
    import torch

    from trainyard.trainer.preflight import Asked
    from trainyard.trainer.text.model import Source

#: Rows that a tokenizer is trained on, where the model has none and is to be trained from nothing.
_TOKENIZER_ROWS = 20_000
log = logging.getLogger("trainyard.trainer")


def survey(asked: "Asked", folder: Path, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """What the job would do, as JSON; `folder` is thrown away after it. Raises what would end the job."""
    if asked.spec.get("engine", "text") != "text":
        raise ConfigError(f"extra_parameters.engine: {asked.spec['engine']!r} can't be examined in depth; text can")
    settings = checked_settings(asked.request, asked.processes)
    corpus = look(
        materials(asked.request, asked.secrets, cache=asked.cache, check=check, say=log.info, limits=asked.limits),
        on_bad_row=settings.on_bad_row,
        objective=settings.objective,
        seed=settings.seed,
        check=check,
    )
    return _examined(asked, settings, corpus, folder, check)


def _examined(
    asked: "Asked", settings: Settings, corpus: Corpus, folder: Path, check: Callable[[], None]
) -> dict[str, Any]:
    """From here on with torch: tokenizer, tokens, and the model on meta."""
    leave_out(settings)
    with quickly(*UNUSED):
        list_models_once()
        import torch

        from trainyard.trainer.text import model as models
        from trainyard.trainer.text.preflight.blank import blank
        from trainyard.trainer.text.preflight.plan import examine
        from trainyard.trainer.text.preflight.sample import count
        from trainyard.trainer.text.tokens.tokenise import give_template

    models.quiet()
    torch.set_num_threads(1)
    notes: list[str] = []
    seen = torch.cuda.is_available()
    device = torch.device("cuda" if asked.gpus and seen else "cpu")
    if asked.gpus and not seen:
        notes.append("resources.gpus: no GPU is seen from here: whether the job fits on one is not said")
    else:
        models.check_machine(settings, device)
    source = _found(asked, folder, check)
    settings = of_adapter(settings, models.adapter_kind(source))
    tokenizer = models.load_tokenizer(source, settings, islice(corpus.rows, _TOKENIZER_ROWS))
    config = models.load_config(source)
    if "messages" in corpus.kinds and give_template(tokenizer):
        notes.append(
            "base_model.model_name: it has no chat template; messages are written as ChatML, and the result keeps that"
        )
    sample = count(corpus, settings, tokenizer, models.longest(config, settings), check)
    model = blank(source, config, settings, device, notes.append)
    models.check_vocabulary(source, model, sample.examples)
    there = _there(asked, device)
    kind: Literal["cpu", "cuda"] = "cuda" if asked.gpus else "cpu"
    found = examine(corpus, sample, tokenizer, model, settings, device_kind=kind, there=there).plain()
    return found | {"warnings": [placed(said) for said in (*notes, *found["warnings"])]}


def _found(asked: "Asked", folder: Path, check: Callable[[], None]) -> "Source":
    """The model: one on this machine whole, of another place without its weights where that can be."""
    from trainyard.trainer.text import model as models

    request, here = dict(asked.request), not models.remote(asked.request)
    custom, base = part(request, "customization"), part(request, "base_model")
    if not here and custom.get("method") != "adapter":
        request["customization"] = {**custom, "method": "scratch"}
        url = asked.secrets.get("base_model.weights_url") or base.get("weights_url") or ""
        if str(url).endswith(".safetensors"):
            request["base_model"] = {**base, "weights_url": None}
    return models.find(
        request, asked.secrets, into=folder, cache=asked.cache, check=check, say=log.info, limits=asked.limits
    )


def _there(asked: "Asked", device: "torch.device") -> int | None:
    """Memory that a process of the job may have; None where that can't be seen."""
    import torch

    from trainyard.trainer.text.memory.room import available

    if device.type == "cuda":
        return min(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    memory = part(asked.request, "resources").get("memory_gb")
    return None if asked.gpus else available(device, memory, asked.processes)
