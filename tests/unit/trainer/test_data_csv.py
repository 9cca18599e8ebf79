"""csv: every cell is text, rows are told by the line that they begin on."""

import json
import subprocess
import sys

import pytest

from tests.unit.trainer.materials import looked, texts
from trainyard.trainer.failures import DataError
from trainyard.trainer.text.data import lines

TALK = [{"role": "user", "content": "q, r"}, {"role": "assistant", "content": 'say "a"'}]


def read(tmp_path, content, **options):
    path = tmp_path / "rows.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return looked(path, "csv", **options)


def test_cells_are_text_and_rows_have_the_line_they_begin_on(tmp_path):
    found = read(tmp_path, '\ufeffprompt,completion,id\r\n1,01,x\r\n\r\n"two\nlines","a, ""b""",y\r\nnaïve,€,z\r\n')
    assert texts(found) == [("1", "01"), ("two\nlines", 'a, "b"'), ("naïve", "€")]
    assert [r.number for r in found.rows] == [2, 4, 6]


def test_an_empty_input_is_none(tmp_path):
    found = read(tmp_path, "instruction,input,output\nGo.,,gone\n")
    assert texts(found) == [("### Instruction:\nGo.\n\n### Response:\n", "gone")]


def test_messages_are_json_in_a_cell(tmp_path):
    cell = json.dumps(TALK).replace('"', '""')
    assert texts(read(tmp_path, f'messages\n"{cell}"\n')) == [TALK]
    with pytest.raises(DataError, match=r"rows\.csv:2: messages must be JSON in a csv file"):
        read(tmp_path, "messages\nhello\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,id\na,1\nb\n", r"rows\.csv:3: has 1 cells, the header 2"),
        ("text\na\nb,c\n", r"rows\.csv:3: has 2 cells, the header 1"),
        (b"text\na\n\xe9t\xe9\n", r"rows\.csv:3: is not UTF-8 \(byte 1 of line 3\); save the file as UTF-8"),
        ('text\na\n"b\nc\nd', r"rows\.csv:3: is not csv: unexpected end of data"),
        ('text\n"a"b\n', r"rows\.csv:2: is not csv"),
        ("text;id\na;1\n", "columns must be separated by commas"),
        ("text,text\na,b\n", "names column 'text' twice"),
        (b"t\xe9xt\na\n", r"rows\.csv: its header is not UTF-8"),
        ("", "is empty"),
        ("text\n", "has no row"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, content)


def test_bad_rows_spoil_only_themselves(tmp_path):
    content = b'text\none\n\xff\ntwo\n"a"b\nthree,3\nfour\n'
    found = read(tmp_path, content, on_bad_row="skip")
    assert texts(found) == ["one", "two", "four"] and len(found.skipped) == 3


def test_a_line_or_a_cell_that_is_too_long_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LINE_BYTES", 1000)
    with pytest.raises(DataError, match=r"rows\.csv:3: is a line of more than"):
        read(tmp_path, f"text\nfine\n{'x' * 2000}\n")
    with pytest.raises(DataError, match=r"rows\.csv:3: is not csv: field larger"):
        read(tmp_path, 'text\nfine\n"' + "short\n" * 400)


def test_lines_and_csv_are_read_without_the_libraries_of_tables(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text\na\n")
    code = f"""
import sys
from pathlib import Path
from trainyard.trainer.text.data import Material, look
path = Path({str(path)!r})
look([Material(at="datasets[0]", source=str(path), path=path, format="csv")])
print(*sorted({{"pyarrow", "numpy", "datasets", "torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
