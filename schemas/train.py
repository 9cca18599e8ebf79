"""The document of `POST /train`: one frozen class for each of its objects, with every field's limits and default."""

from collections.abc import Mapping, Set
from typing import Annotated, Any, Final

import attrs
from attrs import field, frozen

from schemas.asked import LORA_SPELLINGS, Asked
from schemas.fields import INTERNAL, REST, SPELLING
from schemas.limits import Doc, Length, Range
from schemas.masking import shown_labels, shown_mapping, shown_url
from schemas.trail import Trail
from schemas.train_terms import (
    LIFECYCLE,
    AtLeastOne,
    Command,
    ComputeType,
    Count,
    DataFormat,
    Engine,
    Environment,
    EventName,
    Fraction,
    HeaderSecret,
    HookUrl,
    JobId,
    Labels,
    Location,
    Method,
    Name,
    NotNegative,
    OnBadRow,
    Optimizer,
    Positive,
    Precision,
    Priority,
    Provider,
    QuantType,
    Scheduler,
    Seed,
    Text,
    WeightsUrl,
)
from schemas.values import Secret


@frozen(kw_only=True)
class BaseModelSource:
    """`base_model`: the model that training begins with."""

    provider: Annotated[Provider, Doc("whose model it is; a label for most backends")]
    model_name: Annotated[Location, Doc("hub id, local folder or storage URI")] = field(repr=shown_url)
    revision: Annotated[Text, Doc("hub revision")] = "main"
    auth_token: Annotated[Secret | None, Doc("provider token")] = None
    huggingface_token: Annotated[Secret | None, Doc("hub token; wins over auth_token for hub downloads")] = None
    weights_url: Annotated[WeightsUrl | None, Doc("direct download; wins over model_name")] = field(
        default=None, repr=shown_url
    )


@frozen(kw_only=True)
class Lora:
    """`customization.lora`: another spelling of the LoRA fields of `customization`."""

    rank: Annotated[AtLeastOne | None, Doc("the same as customization.rank")] = None
    target_modules: Annotated[tuple[Text, ...] | None, Doc("the same as customization.target_modules")] = None
    alpha: Annotated[Positive | None, Doc("the same as customization.lora_alpha")] = None
    dropout: Annotated[Fraction | None, Doc("the same as customization.lora_dropout")] = None


@frozen(kw_only=True)
class Qlora:
    """`customization.qlora`: how the frozen base is quantised; used with method `qlora`."""

    use_double_quant: Annotated[bool | None, Doc("quantise the quantisation constants too")] = None
    bnb_4bit_compute_dtype: Annotated[ComputeType | None, Doc("the type that 4-bit weights are computed in")] = None
    bnb_4bit_quant_type: Annotated[QuantType | None, Doc("the 4-bit number format")] = None


@frozen(kw_only=True)
class PeftOptions:
    """`customization.peft`: a configuration of the peft library, passed on as it is."""

    use: Annotated[bool | None, Doc("whether config is used")] = None
    config: Annotated[Mapping[str, Any] | None, Doc("any peft configuration: task_type, peft_type, …")] = field(
        default=None, repr=shown_mapping
    )


@frozen(kw_only=True)
class Customization:
    """`customization`: what is trained, and how much of it.

    The fields of `lora` arrive in the flat ones; `gradient_checkpointing` arrives in `tuning_parameters`.
    """

    method: Annotated[Method, Doc("new-transformer is a spelling of scratch")] = "lora"
    rank: Annotated[AtLeastOne, Doc("LoRA rank")] = 16
    target_modules: Annotated[tuple[Text, ...] | None, Doc("LoRA targets; none: the model's default")] = None
    lora_alpha: Annotated[Positive, Doc("LoRA scaling")] = 32
    lora_dropout: Annotated[Fraction, Doc("LoRA dropout")] = 0.05
    trainable_layers: Annotated[tuple[Text, ...], Doc("module-name prefixes that are trained")] = ()
    precision: Annotated[Precision, Doc("int8 quantises the frozen base")] = "bf16"
    qlora: Qlora | None = None
    peft: PeftOptions | None = None
    lora: Lora | None = field(default=None, metadata=SPELLING)
    gradient_checkpointing: Annotated[bool | None, Doc("the same as tuning_parameters.gradient_checkpointing")] = field(
        default=None, metadata=SPELLING
    )

    @classmethod
    def settle(cls, given: dict[str, Any], document: Mapping[str, Any], trail: Trail) -> None:
        """Bring the nested LoRA fields into the flat ones; say what will not be used."""
        if (lora := given.pop("lora", None)) is not None:
            _spell_flat(lora, given, trail)
        if given.get("target_modules") == ():
            del given["target_modules"]
        if given.get("method") == "new-transformer":
            given["method"] = "scratch"
        method_is_known = "method" in given or document.get("method") is None
        if "qlora" in given and method_is_known and given.get("method", "lora") != "qlora":
            trail.warning(f"is used only with method 'qlora', not with {given.get('method', 'lora')!r}", "qlora")


def _spell_flat(lora: Lora, given: dict[str, Any], trail: Trail) -> None:
    for spelled, name in LORA_SPELLINGS.items():
        value = getattr(lora, spelled)
        if value is None or value == ():
            continue
        if given.get(name, ()) not in ((), value):
            trail.error(f"differs from {trail.path(name)}: give one of them, or the same value", "lora", spelled)
        given[name] = value


@frozen(kw_only=True)
class Resources:
    """`resources`: the machine that the job asks for."""

    gpus: Annotated[Count, Doc("0 asks for a CPU run")] = 1
    gpu_type: Annotated[Text | None, Doc("e.g. A100; matched by a backend that knows its devices")] = None
    cpus: Annotated[AtLeastOne, Doc("also the trainer's thread count")] = 8
    memory_gb: Annotated[float, Range(ge=1), Doc("host memory")] = 64
    max_duration_minutes: Annotated[Positive, Doc("counted from job.running of the present attempt")] = 480
    max_cost: Annotated[Positive | None, Doc("in the price list's currency")] = None


@frozen(kw_only=True)
class DatasetAuth:
    """`datasets[].auth` and `artifacts.auth`: how storage is opened."""

    role_arn: Text | None = None
    token: Secret | None = None
    username: Text | None = None
    password: Secret | None = None
    aws_access_key_id: Secret | None = None
    aws_secret_access_key: Secret | None = None
    aws_session_token: Secret | None = None
    aws_region: Text | None = None


@frozen(kw_only=True)
class Dataset:
    """`datasets[]`: one source of rows; all of them are concatenated, in order."""

    source: Annotated[Location, Doc("URI or path")] = field(repr=shown_url)
    format: Annotated[DataFormat, Doc("hf: a hub dataset or a save_to_disk folder; nemo: NeMo's jsonl")]
    split: Text | None = None
    streaming: bool | None = None
    weight: Annotated[Positive | None, Doc("2: each row twice an epoch; 0.5: a seeded half of them")] = None
    auth: DatasetAuth | None = None


@frozen(kw_only=True)
class Artifacts:
    """`artifacts`: where logs, checkpoints and the model go."""

    log_uri: Annotated[Location, Doc("logs are written under it while the job runs")] = field(repr=shown_url)
    output_uri: Annotated[Location, Doc("checkpoints and the final model")] = field(repr=shown_url)
    status_stream_url: Annotated[HookUrl | None, Doc("lifecycle events are also POSTed there")] = field(
        default=None, repr=shown_url
    )
    auth: DatasetAuth | None = None


@frozen(kw_only=True)
class TuningParameters:
    """`tuning_parameters`: how training goes."""

    learning_rate: Annotated[Positive | None, Doc("none: 2e-4 for adapters, 5e-5 for full")] = None
    batch_size: Annotated[AtLeastOne, Doc("global and effective")] = 8
    micro_batch_size: Annotated[AtLeastOne | None, Doc("rows a device takes at once; none: chosen")] = None
    gradient_accumulation_steps: Annotated[AtLeastOne | None, Doc("none: follows from the batch sizes")] = None
    num_epochs: Positive = 3
    max_steps: Annotated[AtLeastOne | None, Doc("where given it decides, and num_epochs is ignored")] = None
    warmup_ratio: Fraction = 0
    warmup_steps: Count | None = None
    lr_scheduler: Scheduler = "linear"
    optimizer: Optimizer = "adamw"
    weight_decay: NotNegative = 0
    max_grad_norm: Annotated[NotNegative, Doc("0 = off")] = 1.0
    gradient_checkpointing: bool | None = None
    max_sequence_length: Annotated[AtLeastOne | None, Doc("none: the model's, at most 2048")] = None
    packing: bool = False
    objective: Annotated[Name, Doc("sft, dpo, …")] = "sft"
    seed: Seed = 42
    logging_steps: AtLeastOne = 10
    save_steps: Annotated[AtLeastOne | None, Doc("none: at the end and on stop")] = None
    save_total_limit: AtLeastOne = 3
    eval_steps: AtLeastOne | None = None
    eval_ratio: Annotated[float, Range(ge=0, lt=1), Doc("share of the rows held out")] = 0
    early_stopping_patience: AtLeastOne | None = None


_USUAL_TUNING: Final = TuningParameters()


@frozen(kw_only=True)
class Callbacks:
    """`callbacks`: who is told of events."""

    webhook_url: HookUrl | None = field(default=None, repr=shown_url)
    auth_header: Annotated[HeaderSecret | None, Doc("sent verbatim as the Authorization header")] = None
    event_filter: Annotated[tuple[EventName, ...], Doc("event types without job.")] = LIFECYCLE


@frozen(kw_only=True)
class ExtraParameters:
    """`extra_parameters`: the keys that every backend has, and in `options` those of the backend and the engine."""

    engine: Engine | None = None
    command: Annotated[Command | None, Doc("argument list of a trainer of the caller's own")] = field(
        default=None, repr=lambda command: shown_mapping({"command": command}) if command else "None"
    )
    env: Annotated[Environment, Doc("variables for the run; every value is a secret")] = field(factory=dict)
    max_retries: Count = 0
    stall_minutes: Annotated[Positive | None, Doc("no progress for so long: the run is stalled")] = None
    on_bad_row: OnBadRow | None = None
    merge: bool | None = None
    strategy: Text | None = None
    options: Mapping[str, Any] = field(factory=dict, repr=shown_mapping, metadata=REST)

    @classmethod
    def settle(cls, given: dict[str, Any], document: Mapping[str, Any], trail: Trail) -> None:
        """`command` and its engine belong together: where no engine is named, a command is its own."""
        if given.get("engine") == "command" and document.get("command") is None:
            trail.error("is required with engine 'command': a list of strings", "command")
        if "command" in given and given.get("engine", "command") != "command":
            trail.warning(f"is used only with engine 'command', not with {given['engine']!r}", "command")
        elif "command" in given and document.get("engine") is None:
            given["engine"] = "command"


@frozen(kw_only=True)
class TrainRequest:
    """The whole document: one training job."""

    job_id: JobId
    base_model: BaseModelSource
    customization: Customization = Customization()
    resources: Resources = Resources()
    datasets: Annotated[tuple[Dataset, ...], Length(min=1)]
    artifacts: Artifacts
    tuning_parameters: TuningParameters = _USUAL_TUNING
    callbacks: Callbacks = Callbacks()
    extra_parameters: ExtraParameters = ExtraParameters()
    backend: Annotated[Name | None, Doc("a registered backend; none: the server's default")] = None
    priority: Priority = 0
    labels: Annotated[Labels, Doc("kept, shown, filtered by")] = field(factory=dict, repr=shown_labels)
    #: Dotted paths that the document itself gave, containers too; what it gave in another spelling is here in both.
    asked: Set[str] = field(default=frozenset(), eq=False, repr=False, metadata=INTERNAL)

    @property
    def learning_rate(self) -> float:
        """The one asked for, else the method's default."""
        if self.tuning_parameters.learning_rate is not None:
            return self.tuning_parameters.learning_rate
        return 5e-5 if self.customization.method in ("full", "scratch") else 2e-4

    @classmethod
    def settle(cls, given: dict[str, Any], document: Mapping[str, Any], trail: Trail) -> None:
        """One place for gradient checkpointing; note what was asked for."""
        customization, tuning = given.get("customization"), given.get("tuning_parameters", _USUAL_TUNING)
        if customization is not None and (wish := customization.gradient_checkpointing) is not None:
            other = tuning.gradient_checkpointing
            given["customization"] = attrs.evolve(customization, gradient_checkpointing=None)
            if other is None:
                given["tuning_parameters"] = attrs.evolve(tuning, gradient_checkpointing=wish)
            elif other is not wish:
                same = trail.path("tuning_parameters", "gradient_checkpointing")
                message = f"differs from {same}: give one of them, or the same value"
                trail.error(message, "customization", "gradient_checkpointing")
        given["asked"] = Asked(document)


def resolve(request: TrainRequest) -> TrainRequest:
    """The same request with the defaults filled in that depend on other fields."""
    if request.tuning_parameters.learning_rate is not None:
        return request
    tuning = attrs.evolve(request.tuning_parameters, learning_rate=request.learning_rate)
    return attrs.evolve(request, tuning_parameters=tuning)
