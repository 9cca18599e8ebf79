"""The first look at the data refuses with file and line."""

import json

import pytest

from trainyard.trainer.failures import DataError
from trainyard.trainer.text.rows import look


def read(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return look([path], lambda: None)


def test_the_three_shapes_are_read_with_their_lines(tmp_path):
    rows = [
        {"text": "a", "id": 4},
        {"prompt": "p", "completion": "c"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    ]
    found = read(tmp_path, "\ufeff" + "\r\n\n".join(map(json.dumps, rows)) + "\n")
    assert [(r.kind, r.line) for r in found.rows] == [("text", 1), ("completion", 3), ("messages", 5)]
    assert found.rows[1].value == ("p", "c")
    assert found.sources[0].rows == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be an object, got a list"),
        ("null", "must be an object, got null"),
        ("{}", "its keys: none"),
        ('{"question": "?"}', "its keys: 'question'"),
        ('{"text": 4}', "text must be a string, got a number"),
        ('{"text": "\\ud800"}', "lone surrogate"),
        ('{"prompt": "p"}', "completion is missing"),
        ('{"prompt": "p", "completion": null}', "completion must be a string, got null"),
        ('{"instruction": "i", "output": "o"}', "not in this version"),
        ('{"messages": []}', "got an empty list"),
        ('{"messages": ["x"]}', r"messages\[0\] must be an object"),
        ('{"messages": [{"role": "wizard", "content": ""}]}', "got 'wizard'"),
        ('{"messages": [{"role": "user", "content": ["x"]}]}', r"messages\[0\].content must be a string"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, words):
    with pytest.raises(DataError, match=words) as raised:
        read(tmp_path, '{"text": "fine"}\n' + line + "\n")
    assert f"{tmp_path / 'rows.jsonl'}:2: " in str(raised.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl:1: is not UTF-8"):
        read(tmp_path, b'{"text": "\xff"}')


@pytest.mark.parametrize(("content", "words"), [("", "is empty"), ("\n \n", "has no row")])
def test_a_file_without_rows_is_refused(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, content)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        look([tmp_path / "nowhere.jsonl"], lambda: None)


def test_rows_with_nothing_to_learn_are_counted_and_refused_when_there_is_no_other(tmp_path):
    empty = ['{"text": " "}', '{"prompt": "p", "completion": ""}', '{"messages": [{"role": "user", "content": "q"}]}']
    found = read(tmp_path, "\n".join([*empty, '{"text": "fine"}']))
    assert [place.rpartition(":")[2] for place in found.without_target] == ["1", "2", "3"]
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no row has a target"):
        read(tmp_path, "\n".join(empty))


def test_many_bad_rows_are_named_up_to_ten(tmp_path):
    with pytest.raises(DataError, match="and 15 more") as raised:
        read(tmp_path, "{}\n" * 25)
    assert str(raised.value).count("rows.jsonl:") == 10
