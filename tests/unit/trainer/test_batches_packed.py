"""Packed batches: every row once an epoch, no sequence too long, the same again for the same seed."""

import numpy as np
import pytest


def test_an_epoch_packs_every_row_once_and_wastes_little():
    from trainyard.trainer.text.tokens.batches import packed_batches

    lengths = [n % 97 + 1 for n in range(1000)]
    batches = packed_batches(lengths, 128, 4, seed=1, epoch=0)
    sequences = [sequence for batch in batches for sequence in batch]
    assert sorted(i for sequence in sequences for i in sequence) == list(range(1000))
    assert max(sum(lengths[i] for i in sequence) for sequence in sequences) <= 128
    assert sum(lengths) > 0.95 * 128 * len(sequences)
    assert all(len(batch) == 4 for batch in batches[:-1])
    assert batches == packed_batches(lengths, 128, 4, seed=1, epoch=0)
    other = packed_batches(lengths, 128, 4, seed=1, epoch=1)
    assert batches != other and len(batches) == len(other), "each epoch has as many steps"


def test_packed_rows_lie_end_to_end_with_their_own_positions_and_no_first_token_is_predicted():
    import torch

    from trainyard.trainer.text.tokens.batches import collate
    from trainyard.trainer.text.tokens.examples import Example

    some = [Example(np.arange(10, 10 + n, dtype=np.int32), np.ones(n, np.bool_)) for n in (3, 2, 4)]
    micro = collate([some[:2], some[2:]], 0, torch.device("cpu"), packed=True)
    assert micro.inputs["input_ids"].tolist() == [[10, 11, 12, 10, 11, 10, 11, 12, 13]]
    assert micro.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3]]
    assert micro.inputs["cu_seq_lens_q"].tolist() == [0, 3, 5, 9] and micro.inputs["max_length_q"] == 4
    assert micro.columns.tolist() == [0, 1, 3, 5, 6, 7] and micro.learned is None
    assert micro.targets.tolist() == [[11, 12, 11, 11, 12, 13]]
    assert micro.tokens == 9


def test_a_padded_batch_tells_which_of_its_targets_count():
    import torch

    from trainyard.trainer.text.tokens.batches import collate
    from trainyard.trainer.text.tokens.examples import Example

    some = [Example(np.arange(5, 5 + n, dtype=np.int32), np.arange(n) >= start) for n, start in ((4, 2), (3, 1))]
    micro = collate([[e] for e in some], 0, torch.device("cpu"))
    assert micro.inputs["input_ids"].tolist() == [[5, 6, 7, 8], [5, 6, 7, 0]]
    assert micro.columns.tolist() == [0, 1, 2]
    assert micro.learned.tolist() == [[False, True, True], [True, True, False]]
    assert micro.targets[micro.learned].tolist() == [7, 8, 6, 7]
    assert micro.tokens == pytest.approx(7)
