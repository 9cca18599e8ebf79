"""Packing: every row once, no bin over its room, as few bins as best fit needs."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.trainer.text.tokens.packing import pack


@st.composite
def rows(draw):
    longest = draw(st.sampled_from([1, 7, 64, 511, 512, 513, 3000]))
    return draw(st.lists(st.integers(1, longest), max_size=200)), longest


def plain_best_fit(lengths, longest):
    """The rule by its own words, one row after the other."""
    rooms = []
    for length in sorted(lengths, reverse=True):
        fits = [room for room in rooms if room >= length]
        room = min(fits) if fits else longest
        if fits:
            rooms.remove(room)
        rooms.append(room - length)
    return sorted(rooms)


@given(rows())
@settings(max_examples=200, deadline=None)
def test_every_row_lies_in_one_bin_and_the_bins_are_those_of_best_fit(drawn):
    lengths, longest = drawn
    bins = pack(lengths, longest)
    assert sorted(i for bin_ in bins for i in bin_) == list(range(len(lengths)))
    rooms = [longest - sum(lengths[i] for i in bin_) for bin_ in bins]
    assert all(bins) and min(rooms, default=0) >= 0
    assert sorted(rooms) == plain_best_fit(lengths, longest)
    assert bins == pack(lengths, longest)


@given(rows())
@settings(max_examples=50, deadline=None)
def test_at_most_one_bin_is_not_half_full(drawn):
    lengths, longest = drawn
    fills = sorted(sum(lengths[i] for i in bin_) for bin_ in pack(lengths, longest))
    assert all(2 * fill > longest for fill in fills[1:])


@pytest.mark.parametrize("lengths", [[0, 3], [3, 11]])
def test_a_length_that_fits_no_bin_is_refused(lengths):
    with pytest.raises(ValueError, match="lengths must be from 1 to 10"):
        pack(lengths, 10)


@pytest.mark.slow
@pytest.mark.parametrize("longest", [2048, 131_072])
def test_a_million_rows_are_packed_in_seconds(longest):
    chance = random.Random(0)
    lengths = [min(longest, 1 + int(chance.lognormvariate(5.5, 1.0))) for _ in range(1_000_000)]
    start = time.process_time()
    bins = pack(lengths, longest)
    assert time.process_time() - start < 8
    assert sum(lengths) > 0.99 * longest * (len(bins) - 1)
