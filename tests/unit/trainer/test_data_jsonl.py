"""JSON lines: read with their numbers, refused with their numbers."""

import gzip
import json

import pytest

from tests.unit.trainer.materials import looked, written
from trainyard.trainer.failures import DataError
from trainyard.trainer.text.data import lines


def read(tmp_path, content, **options):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return looked(path, **options)


def test_the_shapes_are_read_with_their_lines(tmp_path):
    rows = [
        {"text": "a", "id": 4},
        {"prompt": "p", "completion": "c"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    ]
    found = read(tmp_path, "\ufeff" + "\r\n\n".join(map(json.dumps, rows)) + "\n")
    assert [(r.kind, r.number) for r in found.rows] == [("text", 1), ("completion", 3), ("messages", 5)]
    assert found.kinds == {"text", "completion", "messages"}
    assert found.rows[1].value == ("p", "c") and found.rows[1].place == f"{tmp_path / 'rows.jsonl'}:3"
    assert (found.sources[0].rows, found.sources[0].bytes) == (3, (tmp_path / "rows.jsonl").stat().st_size)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is not JSON"),
        ('{"prompt": "x"', r"Expecting ',' delimiter \(column 15\)"),
        ("[1]", "must be an object, got a list"),
        ("null", "must be an object, got null"),
        ("{}", "its keys: none"),
        ('{"text": "\\ud800"}', "lone surrogate"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, words):
    with pytest.raises(DataError, match=words) as raised:
        read(tmp_path, '{"text": "fine"}\n' + line + "\n")
    assert str(raised.value).startswith(f"{tmp_path / 'rows.jsonl'}:2: ")


def test_numbers_that_no_double_holds_spoil_no_row(tmp_path):
    assert len(read(tmp_path, '{"text": "a", "id": 123456789012345678901234567890, "score": NaN}').rows) == 1


def test_bytes_that_are_no_text_are_named(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl:1: is not UTF-8 \(byte 11\); save the file as UTF-8"):
        read(tmp_path, b'{"text": "\xff"}')


def test_a_file_that_is_packed_is_called_so(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl:1: is gzip; unpack the file"):
        read(tmp_path, gzip.compress(b'{"text": "t"}\n', mtime=0))


def test_a_line_that_is_too_long_is_named_and_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LINE_BYTES", 1 << 20)
    long = json.dumps({"text": "x" * (3 << 20)})
    content = f'{{"text": "one"}}\n{long}\n{{"text": "three"}}\n'
    with pytest.raises(DataError, match=r"rows\.jsonl:2: is a line of more than 1 MiB"):
        read(tmp_path, content)
    assert [r.number for r in read(tmp_path, content, on_bad_row="skip").rows] == [1, 3]


def test_a_line_of_just_the_limit_is_read(tmp_path, monkeypatch):
    line = '{"text": "one"}'
    monkeypatch.setattr(lines, "LINE_BYTES", len(line))
    assert len(read(tmp_path, f"{line}\n{line}").rows) == 2


@pytest.mark.parametrize(("content", "words"), [("", "is empty"), ("\n \n", "has no row")])
def test_a_file_without_rows_is_refused(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, content)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        looked(tmp_path / "nowhere.jsonl")


def test_rows_with_nothing_to_learn_are_counted_and_refused_when_there_is_no_other(tmp_path):
    empty = ['{"text": " "}', '{"prompt": "p", "completion": ""}', '{"messages": [{"role": "user", "content": "q"}]}']
    found = read(tmp_path, "\n".join([*empty, '{"text": "fine"}']))
    assert [place.rpartition(":")[2] for place in found.without_target] == ["1", "2", "3"]
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no row has a target"):
        read(tmp_path, "\n".join(empty))


def test_many_bad_rows_are_named_up_to_ten(tmp_path):
    with pytest.raises(DataError, match="and 15 more") as raised:
        read(tmp_path, "{}\n" * 25 + '{"text": "fine"}')
    assert str(raised.value).count("rows.jsonl:") == 10


def test_the_way_to_leave_bad_rows_out_is_named_once_and_where_it_would_help(tmp_path):
    skip = r'; extra_parameters\.on_bad_row: "skip" would leave out what is bad$'
    with pytest.raises(DataError, match=skip) as raised:
        read(tmp_path, "{}\n{}\n" + '{"text": "fine"}')
    assert str(raised.value).count("on_bad_row") == 1
    with pytest.raises(DataError) as raised:
        read(tmp_path, "{}\n{}\n")
    assert "on_bad_row" not in str(raised.value)


def test_bad_rows_are_left_out_and_counted_where_that_is_asked(tmp_path):
    found = read(tmp_path, "{}\n" * 25 + '{"text": "fine"}', on_bad_row="skip")
    assert [r.number for r in found.rows] == [26] and found.sources[0].rows == 1
    assert len(found.skipped) == 25 and len(found.skipped.first) == 10
    assert "rows.jsonl:1: has none of the shapes" in found.plain()["skipped"]["first"][0]


def test_a_file_of_bad_rows_is_refused_even_where_they_may_be_skipped(tmp_path):
    with pytest.raises(DataError, match=r"no row can be trained on: .*rows\.jsonl:1"):
        read(tmp_path, "{}\n{}\n", on_bad_row="skip")


def test_nemo_is_jsonl_of_input_and_output(tmp_path):
    path = written(tmp_path / "nemo.jsonl", [{"input": "2 + 2?", "output": "4"}])
    assert looked(path, "nemo").rows[0].value == ("2 + 2?", "4")
