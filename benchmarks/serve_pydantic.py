"""What is compared with: FastAPI; pydantic checks the same document, and a dict keeps it until the process ends."""

import os
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field, HttpUrl, SecretStr

AtLeastOne = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class BaseModelSource(BaseModel):
    """`base_model`."""

    provider: Literal["huggingface", "meta", "nemo", "nemotron", "bim", "mistral", "tii", "custom"]
    model_name: str
    revision: str = "main"
    auth_token: SecretStr | None = None
    huggingface_token: SecretStr | None = None
    weights_url: HttpUrl | None = None


class Qlora(BaseModel):
    """`customization.qlora`."""

    use_double_quant: bool | None = None
    bnb_4bit_compute_dtype: Literal["float16", "bfloat16"] | None = None
    bnb_4bit_quant_type: Literal["nf4", "fp4"] | None = None


class PeftOptions(BaseModel):
    """`customization.peft`."""

    use: bool | None = None
    config: dict[str, Any] | None = None


class Customization(BaseModel):
    """`customization`."""

    method: Literal["full", "lora", "qlora", "peft", "adapter", "scratch"] = "lora"
    rank: AtLeastOne = 16
    target_modules: list[str] | None = None
    lora_alpha: Positive = 32
    lora_dropout: Fraction = 0.05
    trainable_layers: list[str] = []
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "bf16"
    qlora: Qlora | None = None
    peft: PeftOptions | None = None


class Resources(BaseModel):
    """`resources`."""

    gpus: Annotated[int, Field(ge=0)] = 1
    gpu_type: str | None = None
    cpus: AtLeastOne = 8
    memory_gb: Annotated[float, Field(ge=1)] = 64
    max_duration_minutes: Positive = 480


class DatasetAuth(BaseModel):
    """`datasets[].auth`."""

    role_arn: str | None = None
    token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None


class Dataset(BaseModel):
    """`datasets[]`."""

    source: str
    format: Literal["jsonl", "parquet", "csv", "hf", "nemo", "arrow", "imagefolder"]
    split: str | None = None
    auth: DatasetAuth | None = None


class Artifacts(BaseModel):
    """`artifacts`."""

    log_uri: str
    output_uri: str
    status_stream_url: HttpUrl | None = None
    auth: DatasetAuth | None = None


class TuningParameters(BaseModel):
    """`tuning_parameters`."""

    learning_rate: Positive | None = None
    batch_size: AtLeastOne = 8
    num_epochs: Positive = 3
    max_steps: AtLeastOne | None = None
    warmup_ratio: Fraction = 0
    gradient_checkpointing: bool | None = None
    max_sequence_length: AtLeastOne | None = None
    seed: int = 42
    logging_steps: AtLeastOne = 10


class Callbacks(BaseModel):
    """`callbacks`."""

    webhook_url: HttpUrl | None = None
    auth_header: SecretStr | None = None


class TrainRequest(BaseModel):
    """The document."""

    job_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
    base_model: BaseModelSource
    customization: Customization = Customization()
    resources: Resources = Resources()
    datasets: Annotated[list[Dataset], Field(min_length=1)]
    artifacts: Artifacts
    tuning_parameters: TuningParameters = TuningParameters()
    callbacks: Callbacks = Callbacks()
    extra_parameters: dict[str, Any] = {}
    backend: str | None = None
    priority: int = 0
    labels: dict[str, str] = {}


class Accepted(BaseModel):
    """The answer."""

    job_id: str
    status: str


app = FastAPI()
jobs: dict[str, TrainRequest] = {}


@app.post("/train", status_code=201)
async def post_train(request: TrainRequest) -> Accepted:
    """Keep it in a dict, and answer in short."""
    jobs[request.job_id] = request
    return Accepted(job_id=request.job_id, status="queued")


def main() -> None:
    """Serve on the port of `BENCH_PORT`."""
    port = int(os.environ["BENCH_PORT"])
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning", loop="uvloop")


if __name__ == "__main__":
    main()
