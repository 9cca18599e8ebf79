"""How much room a checkpoint needs."""

import pytest
import torch

from trainyard.trainer.diffusion.ema import Average
from trainyard.trainer.diffusion.keep import room
from trainyard.trainer.diffusion.model.trained import save_tensors
from trainyard.trainer.optimizer_file import OPTIMIZER, save_optimizer

MIB = 1 << 20


@pytest.mark.parametrize(
    ("dtype", "twice", "mean"),
    [(torch.bfloat16, False, False), (torch.bfloat16, False, True), (torch.float32, True, True)],
)
def test_it_is_what_is_written_and_a_little_over(tmp_path, dtype, twice, mean):
    parameters = {"a": torch.nn.Parameter(torch.ones(1024, 1024, dtype=dtype))}
    optimizer = torch.optim.AdamW(parameters.values())
    parameters["a"].grad = torch.ones_like(parameters["a"])
    optimizer.step()
    average = Average(parameters, 0.9, 1, 0, torch.device("cpu")) if mean else None
    save_tensors(parameters, tmp_path / "weights")
    if twice:
        save_tensors(parameters, tmp_path / "stock")
    if average is not None:
        average.save(tmp_path)
    with (tmp_path / OPTIMIZER).open("wb") as file:
        save_optimizer(optimizer.state_dict(), torch.amp.GradScaler("cpu", enabled=False), file)
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert written < room(parameters, optimizer, average, twice=twice) < written * 1.03 + MIB
