"""How several processes hold one model: a copy each (ddp), or a share each (fsdp). Decided without torch."""

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import evolve

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text.settings import Settings, draft_settings

STRATEGIES = ("auto", "ddp", "fsdp")


def checked_settings(request: Mapping[str, Any], processes: int = 1) -> Settings:
    """As `read_settings`, and what is wrong with the strategy told together with the rest."""
    settings, problems = draft_settings(request, processes)
    problems += _problems(settings)
    if problems:
        raise ConfigError(*problems)
    return settings


def check_strategy(settings: Settings) -> None:
    """Raises `ConfigError` for a strategy that does not exist, or does not go with the rest of the job."""
    problems = list(_problems(settings))
    if problems:
        raise ConfigError(*problems)


def of_adapter(settings: Settings, kind: str | None) -> Settings:
    """The settings of a job that goes on with an adapter of this type, which is known once the adapter is here."""
    if kind in (None, "LORA"):
        return settings
    found = evolve(settings, peft_config={"peft_type": kind})
    check_strategy(found)
    return found


def choose_strategy(settings: Settings, fits: bool) -> str:
    """`auto` decided: ddp, or fsdp where a whole copy does not fit into a process's memory and sharding can help."""
    if settings.strategy != "auto" or settings.processes == 1:
        return settings.strategy
    return "ddp" if fits or next(_against_sharding(settings), None) is not None else "fsdp"


def may_shard(settings: Settings) -> bool:
    """Whether it may come to shares: then a process loads the model on the host, and only its share leaves it."""
    return choose_strategy(settings, fits=False) == "fsdp"


def _problems(settings: Settings) -> Iterator[str]:
    at = "extra_parameters.strategy"
    if settings.strategy not in STRATEGIES:
        yield f"{at}: {settings.strategy!r} is not one of {', '.join(STRATEGIES)}"
    against = next(_against_sharding(settings), None)
    if settings.strategy == "fsdp" and against is not None:
        yield f"{at}: fsdp {against}"


def _against_sharding(settings: Settings) -> Iterator[str]:
    if settings.processes == 1:
        yield "shards over at least 2 processes, and the job has one"
    if settings.method == "qlora" or settings.precision == "int8":
        yield "does not shard a quantised base; strategy: ddp would run"
    if settings.precision == "fp16":
        yield "has no loss scale for shards, which fp16 needs; precision: bf16 would run"
    if settings.optimizer != "adamw":
        yield f"does not shard the state of {settings.optimizer}; optimizer: adamw would run"
    if settings.objective != "sft":
        yield f"does not go with objective {settings.objective!r}; strategy: ddp would run"
    kind = str((settings.peft_config or {}).get("peft_type", "LORA")).upper()
    if settings.method in ("peft", "adapter") and kind != "LORA":
        yield f"shards whole models and LoRA, not {kind}; strategy: ddp would run"
