"""How a model, or an adapter alone, is written: for the stock loaders, and so that training goes on from it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, PeftType, peft_model
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from transformers import modeling_utils

from trainyard.trainer.tensor_file import write_tensors
from trainyard.trainer.text.model.adapters import NAME, load
from trainyard.trainer.text.model.base import stored_dtype
from trainyard.trainer.text.model.merging import merged
from trainyard.trainer.text.model.peft_config import is_converted
from trainyard.trainer.text.model.source import Source
from trainyard.trainer.text.model.tokenizer import load_config
from trainyard.trainer.text.settings import Settings

#: What is trained, by its name in the model: for adapters that their own files do not give back as they were.
TRAINED = "trained.safetensors"
ALLOCATOR = "rank_allocator.pt"
_WHOLE_FILES = (PeftType.LORA, PeftType.IA3, PeftType.LOHA, PeftType.LOKR, PeftType.OFT, PeftType.BOFT)
State = Mapping[str, torch.Tensor]
Opened = Callable[[Path], AbstractContextManager[Any]]


def save_model(model: Any, folder: Path, state: State | None = None) -> None:
    """Weights, or the adapter, as the stock loaders read them, without peft's empty model card; no hub is asked.

    `state` stands for the model's own tensors where this process has only a share of them.
    """
    more: dict[str, Any] = {} if state is None else {"state_dict": dict(state)}
    if isinstance(model, PeftModel):
        more |= {"save_embedding_layers": False, "selected_adapters": [NAME]}
        model.create_or_update_model_card = lambda _: None  # it takes longer than a small adapter's weights
    try:
        model.save_pretrained(folder, **more)
    finally:
        vars(model).pop("create_or_update_model_card", None)


def save_for_resume(model: Any, folder: Path, state: State | None = None, opened: Opened | None = None) -> None:
    """As `save_model`, and beside it what the stock format drops; the weights into files that `opened` gives."""
    with nullcontext() if opened is None else _written_into(opened):
        save_model(model, folder, state)
    if not isinstance(model, PeftModel) or not _keeps_more(model):
        return
    tensors = dict(model.named_parameters()) if state is None else dict(state)
    own = {name for name, p in model.named_parameters() if p.requires_grad or name.startswith("prompt_encoder.")}
    save_file({n: t.detach().contiguous() for n, t in tensors.items() if n in own}, folder / TRAINED)
    allocator = getattr(model.base_model, "rankallocator", None)
    if allocator is not None:
        names = ("ipt", "exp_avg_ipt", "exp_avg_unc")
        kept = {name: getattr(allocator, name) for name in names}
        ranks = model.peft_config[NAME].rank_pattern
        with (folder / ALLOCATOR).open("wb") as file:
            torch.save({**kept, "rank_pattern": ranks}, file)


@contextmanager
def _written_into(opened: Opened) -> Iterator[None]:
    """The libraries' savers decide what is in a file; safetensors' own writer would take it through the page cache."""

    def save(tensors: State, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        with opened(Path(path)) as file:
            write_tensors(tensors, file, metadata)

    savers = (modeling_utils, peft_model)
    before = [module.safe_save_file for module in savers]
    for module in savers:
        module.safe_save_file = save
    try:
        yield
    finally:
        for module, own in zip(savers, before, strict=True):
            module.safe_save_file = own


def load_adapter(model: Any, folder: Path, device: torch.device) -> None:
    """What `save_for_resume` wrote of an adapter; a whole model was loaded from the checkpoint itself."""
    if not isinstance(model, PeftModel):
        return
    if not (folder / TRAINED).is_file():
        load(model, folder, str(folder))
        return
    parameters = dict(model.named_parameters())
    for name, tensor in load_file(folder / TRAINED, device=str(device)).items():
        parameters[name].data.copy_(tensor)
    allocator = getattr(model.base_model, "rankallocator", None)
    if allocator is not None and (folder / ALLOCATOR).is_file():
        kept = torch.load(folder / ALLOCATOR, map_location=device, weights_only=True)
        model.peft_config[NAME].rank_pattern = kept.pop("rank_pattern")
        for name, value in kept.items():
            setattr(allocator, name, value)


def save_result(model: Any, source: Source, settings: Settings, folder: Path) -> None:
    """What a job leaves: a whole model in the precision of its base's files, an adapter, or the two merged into one."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    dtype = stored_dtype(load_config(source))
    base.config.use_cache = True
    if not isinstance(model, PeftModel):
        save_model(model.to(dtype), folder)
    elif settings.merge:
        save_model(merged(model, dtype), folder)
    else:
        _save_adapter(model, folder)


def _save_adapter(model: PeftModel, folder: Path) -> None:
    """What changes the base when it starts is written as a plain LoRA of twice the rank."""
    start = getattr(model, "trainyard_start", None)
    if start is None or not is_converted(model.peft_config[NAME]):
        save_model(model, folder)
        return
    config = model.peft_config[NAME]
    before = {name: getattr(config, name) for name in ("init_lora_weights", "r", "lora_alpha")}
    with tempfile.TemporaryDirectory(prefix="trainyard-start-") as kept:
        save_file(start, Path(kept) / SAFETENSORS_WEIGHTS_NAME)
        model.save_pretrained(folder, save_embedding_layers=False, path_initial_model_for_weight_conversion=kept)
    for name, value in before.items():
        setattr(config, name, value)
    (folder / "README.md").unlink(missing_ok=True)


def _keeps_more(model: PeftModel) -> bool:
    return model.peft_config[NAME].peft_type not in _WHOLE_FILES or is_converted(model.peft_config[NAME])
