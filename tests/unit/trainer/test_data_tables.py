"""csv, parquet and arrow: the same rows from each, told by their numbers."""

import pytest

from tests.unit.trainer.materials import looked, texts
from trainyard.trainer.failures import DataError

pytest.importorskip("pyarrow")
TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def table(path, columns):
    """Write columns in the format that the suffix names."""
    import pyarrow as pa
    from pyarrow import feather, ipc, parquet

    made = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".parquet":
        parquet.write_table(made, path, row_group_size=700)
    elif path.suffix == ".feather":
        feather.write_feather(made, path, compression="lz4")
    else:
        start = ipc.new_stream if path.stem == "stream" else ipc.new_file
        with start(path, made.schema) as writer:
            writer.write_table(made)
    return path


FORMS = [("rows.parquet", "parquet"), ("rows.arrow", "arrow"), ("stream.arrow", "arrow"), ("rows.feather", "arrow")]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_the_rows_of_a_table_are_read_in_their_order(tmp_path, name, form):
    path = table(tmp_path / name, {"id": range(2500), "text": [f"number {i}" for i in range(2500)]})
    found = looked(path, form)
    assert texts(found) == [f"number {i}" for i in range(2500)]
    assert found.rows[-1].place == f"{path}: row 2500"
    assert found.sources[0].rows == 2500 and found.sources[0].bytes == path.stat().st_size


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_messages_may_lie_in_a_column(tmp_path, name, form):
    found = looked(table(tmp_path / name, {"messages": [TALK, TALK]}), form)
    assert texts(found) == [TALK, TALK]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_bad_row_of_a_table_is_named_by_its_number(tmp_path, name, form):
    import pyarrow as pa

    bad = pa.array([b"fine", b"\xff", b"fine too", None], pa.binary()).view(pa.string())
    path = table(tmp_path / name, pa.table({"text": bad}))
    with pytest.raises(DataError, match="row 2: is not UTF-8") as raised:
        looked(path, form)
    assert f"{path}: row 4: has none of the shapes" in str(raised.value)
    assert [r.number for r in looked(path, form, on_bad_row="skip").rows] == [1, 3]


def test_categories_are_text(tmp_path):
    import pyarrow as pa

    column = pa.array(["a", "b", "a"]).dictionary_encode()
    assert texts(looked(table(tmp_path / "rows.parquet", {"text": column}), "parquet")) == ["a", "b", "a"]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_table_that_is_cut_off_is_refused(tmp_path, name, form):
    path = table(tmp_path / name, {"text": [f"number {i}" for i in range(5000)]})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{name}: is not {form} that can be read"):
        looked(path, form)


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("content", ["", '{"text": "t"}\n'])
def test_a_file_of_another_format_is_refused(tmp_path, form, content):
    path = tmp_path / "rows.bin"
    path.write_text(content)
    with pytest.raises(DataError, match=f"rows.bin: is not {form}"):
        looked(path, form)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_table_without_rows_is_refused(tmp_path, name, form):
    import pyarrow as pa

    with pytest.raises(DataError, match="has no row"):
        looked(table(tmp_path / name, pa.table({"text": pa.array([], pa.string())})), form)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.parquet: No such file"):
        looked(tmp_path / "nowhere.parquet", "parquet")
