"""Secrets in pieces of bytes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from service.masker import Masker

MASK = "••••"


def test_the_longest_value_is_masked_first_and_short_ones_are_left():
    masker = Masker(["token", "token-long", "abc"])
    assert masker.text("a token-long, a token, abc") == f"a {MASK}, a {MASK}, abc"


def test_a_value_is_masked_also_as_json_writes_it_and_in_parts_of_its_url():
    masker = Masker(['quo"te', "https://me:pass@host/x?sig=abcdef"])
    assert masker.text('{"k": "quo\\"te"}') == f'{{"k": "{MASK}"}}'
    assert masker.text("login with pass, sig=abcdef") == f"login with {MASK}, {MASK}"


def test_printing_a_masker_shows_nothing():
    assert "hunter2-hunter2" not in repr(Masker(["hunter2-hunter2"]))


@given(
    st.lists(st.text("ab-", min_size=4, max_size=9), min_size=1, max_size=4),
    st.text("ab- ", max_size=60),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_pieces_are_masked_as_the_whole_is(values, text, cuts):
    masker = Masker(values)
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    stream = masker.stream()
    shown = b"".join(stream.feed(data[a:b]) for a, b in itertools.pairwise(edges)) + stream.flush()
    assert not any(value.encode() in shown for value in values)
    if len(values) == 1:
        assert shown == masker.mask(data)


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_without_secrets_nothing_changes_or_waits(data, cuts):
    stream = Masker([]).stream()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert b"".join(stream.feed(data[a:b]) for a, b in itertools.pairwise(edges)) == data
    assert stream.pending == 0
