import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.strict_json import MAX_DEPTH, JSONProblem, parse_json

REFUSED = [
    (b"", "$", "empty"),
    (b" \n", "$", "empty"),
    (b"{", "$", "line 1, column 2"),
    (b'{"a": 1,}', "$", "not JSON"),
    (b"{'a': 1}", "$", "not JSON"),
    (b"[1] 2", "$", "Extra data"),
    (b'"a\x00b"', "$", "not JSON"),
    (b"\xef\xbb\xbf{}", "$", "byte order mark"),
    (b'"\xff"', "$", "UTF-8: byte 0xff at offset 1"),
    (b'"\xed\xa0\x80"', "$", "UTF-8"),
    ('{"a": 1}'.encode("utf-16"), "$", "UTF-8"),
    (b'{"c": {"rank": 1, "x": 2, "rank": 1}}', "c.rank", "twice"),
    (b'{"a": [{}, {"k": 1, "k": 2}]}', "a[1].k", "twice"),
    (b'{"a": {"k": 1, "k": 2}, "a": 3}', "a", "twice"),
    (b'{"a": [1, NaN]}', "a[1]", "NaN"),
    (b'{"a": Infinity}', "a", "Infinity"),
    (b'{"a": -Infinity}', "a", "-Infinity"),
    (b'{"a": {"b": 1e999}}', "a.b", "too large"),
    (b'{"a": -1e999}', "a", "too large"),
    (b'{"a": 9007199254740993}', "a", "2^53"),
    (b'{"a": -9007199254740993}', "a", "2^53"),
    (b'{"a": ' + b"9" * 5000 + b"}", "a", "2^53"),
    (b'{"a": ["\\ud800"]}', "a[0]", "surrogate"),
    (b'{"a": {"\\uDC00": 1}}', "a", "surrogate"),
    (b'{"a": "x\\u0000y"}', "a", "NUL"),
    (b'{"x\\u0000": 1}', "$", "NUL"),
    (b"[" * 65 + b"]" * 65, "$", "deep"),
    (b'{"a":' * 500 + b"1" + b"}" * 500, "$", "deep"),
    (b"[" * 100_000, "$", "deep"),
    (b"[" * 100_000 + b"]" * 100_000, "$", "deep"),
    (b"[" * 70 + b"NaN" + b"]" * 70, "$", "deep"),
]


@pytest.mark.parametrize(
    ("body", "path", "words"), REFUSED, ids=[words + str(n) for n, (_, _, words) in enumerate(REFUSED)]
)
def test_refuses_with_a_path_and_a_sentence(body, path, words):
    with pytest.raises(JSONProblem) as caught:
        parse_json(body)
    assert caught.value.path == path
    assert words in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"9007199254740992", 2**53),
        (b"-9007199254740992", -(2**53)),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"[[[' + b"[" * 500 + b'"', None),
        (b"1e-999", 0.0),
        (b"1.5e300", 1.5e300),
        (b'{"a": 1, "b": {"a": 1}}', {"a": 1, "b": {"a": 1}}),
        (b" null ", None),
    ],
)
def test_takes_what_is_only_odd(body, value):
    found = parse_json(body)
    if value is not None:
        assert found == value


def test_the_usage_guide_is_read_as_json_reads_it(body, document):
    assert parse_json(body) == document


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(body):
    with contextlib.suppress(JSONProblem):
        parse_json(body)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.booleans())
def test_whatever_json_writes_is_read_back(value, escaped):
    text = json.dumps(value, ensure_ascii=escaped)
    assert parse_json(text.encode()) == value
