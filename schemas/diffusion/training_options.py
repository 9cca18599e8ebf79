"""Options of a run's length, batches and checkpoints."""

from functools import partial

from attrs import frozen

from schemas.diffusion.adapter_options import AdapterOptions
from schemas.diffusion.option import option
from schemas.train_terms import AtLeastOne, Count, NotNegative, Seed, Text

_training = partial(option, "training")


@frozen(kw_only=True)
class TrainingOptions(AdapterOptions):
    """How long, in which batches, and what is kept."""

    seed: Seed | None = _training(None, "none: drawn by the job's own id")
    seed_for_each_device: bool = _training(True, "each process drops out places of its own")
    num_processes: AtLeastOne = _training(
        1, "processes of a run on the CPU; on GPUs there is one for each", aliases=("processes",)
    )
    train_batch_size: AtLeastOne = _training(4, "pictures that a device takes at once")
    gradient_accumulation_steps: AtLeastOne = _training(1, "such batches of one step")
    num_train_epochs: NotNegative = _training(1, "rounds through the data; 0 where max_train_steps is given")
    max_train_steps: Count | None = _training(None, "optimizer steps; 0 and none: num_train_epochs says how long")
    resume_from_checkpoint: str = _training(
        "latest", "latest, a checkpoint's name or path; empty: begin anew", empty=True
    )
    resume_from_folder: Text | None = _training(
        None,
        "folder of earlier jobs' results, where latest and names are looked for; none: a given output_dir",
        path=True,
    )
    checkpoint_step_interval: Count = _training(
        500, "steps between checkpoints; 0: at the end and on a stop only", aliases=("checkpointing_steps",)
    )
    checkpoints_total_limit: Count = _training(
        5, "checkpoints that are kept, the newest ones; 0: all", aliases=("save_total_limit",)
    )
    gradient_checkpointing: bool = _training(True, "compute again in the backward pass what else would be kept")
    use_ema: bool = _training(False, "keep a running mean of the weights, which is then the result")
