"""What each of several processes begins its own chance with."""

import pytest
import torch

from trainyard.trainer.diffusion import train
from trainyard.trainer.processes import World

pytestmark = pytest.mark.slow


class Enough(Exception):
    """What was wanted is known."""


@pytest.mark.parametrize(("rank", "given", "seed"), [(2, True, 9), (2, False, 7), (0, True, 7)])
def test_a_process_drops_out_places_of_its_own_where_that_is_asked_for(job, monkeypatch, rank, given, seed):
    seen = []

    def begun(*_):
        seen.append(torch.initial_seed())
        raise Enough

    monkeypatch.setattr(train.World, "join", lambda *_: World(torch.device("cpu"), rank))
    monkeypatch.setattr(train, "make_optimizer", begun)
    with pytest.raises(Enough):
        job("flux", seed=7, seed_for_each_device=given).train()
    assert seen == [seed]
