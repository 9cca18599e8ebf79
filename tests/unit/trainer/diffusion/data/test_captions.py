"""The words of a picture."""

from pathlib import Path

import pytest

from trainyard.trainer.failures import ConfigError, DataError


def captions(gallery):
    return [picture.captions for picture in gallery.pictures]


def test_a_file_name_is_a_caption_with_blanks_for_underscores(paint, look):
    assert captions(look(paint("a", a_red__cat=(64, 64)))) == [("a red cat",)]


def test_each_line_of_a_text_file_is_a_caption(paint, look):
    folder = paint("a", x=(64, 64))
    (folder / "x.txt").write_bytes("\ufeffa cat\r\n\n  a sleeping cat \na cat\n".encode())
    assert captions(look(folder, caption_strategy="textfile")) == [("a cat", "a sleeping cat")]
    assert captions(look(folder, options={"caption_strategy": "textfile"})) == [("a cat", "a sleeping cat")]


def test_a_text_file_is_one_caption_where_that_is_asked_for(paint, look):
    folder = paint("a", x=(64, 64))
    (folder / "x.txt").write_text("a cat\nasleep\n")
    found = look(folder, caption_strategy="textfile", disable_multiline_split=True)
    assert captions(found) == [("a cat\nasleep",)]


def test_an_instance_prompt_is_the_caption_of_every_picture(paint, look):
    folder = paint("a", x=(64, 64), y=(64, 64))
    found = look(folder, caption_strategy="instanceprompt", instance_prompt="a sks cat")
    assert captions(found) == [("a sks cat",)] * 2
    assert found.captions == ("a sks cat",)


def test_an_instance_prompt_stands_before_or_instead_of_a_caption(paint, look):
    folder = paint("a", asleep=(64, 64))
    assert captions(look(folder, instance_prompt="sks", prepend_instance_prompt=True)) == [("sks asleep",)]
    assert captions(look(folder, options={"instance_prompt": "sks", "only_instance_prompt": True})) == [("sks",)]
    assert captions(look(folder, instance_prompt="sks")) == [("asleep",)]


def test_what_an_entry_says_goes_before_the_option(paint, look):
    folder = paint("a", x=(64, 64))
    found = look(folder, instance_prompt="own", options={"instance_prompt": "sks", "only_instance_prompt": True})
    assert captions(found) == [("own",)]
    kept = look(folder, only_instance_prompt=False, options={"instance_prompt": "s", "only_instance_prompt": True})
    assert captions(kept) == [("x",)]


@pytest.mark.parametrize(
    "fields",
    [{"caption_strategy": "instanceprompt"}, {"prepend_instance_prompt": True}, {"only_instance_prompt": True}],
)
def test_an_instance_prompt_that_is_missing_is_refused(paint, look, fields):
    with pytest.raises(ConfigError, match=r"data_backend_config\[one\]\.instance_prompt: is required with"):
        look(paint("a", x=(64, 64)), **fields)


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "x.txt is not beside it"), (b" \n\n", "x.txt is empty"), (b"caf\xe9", r"x.txt is not UTF-8 \(byte 4\)")],
)
def test_a_picture_without_a_caption_is_told_by_name(paint, look, text: bytes | None, why):
    folder: Path = paint("a", x=(64, 64), y=(64, 64))
    (folder / "y.txt").write_text("a dog")
    if text is not None:
        (folder / "x.txt").write_bytes(text)
    with pytest.raises(DataError, match=f"a/x.png: has no caption: {why}; .*on_bad_row"):
        look(folder, caption_strategy="textfile")
    found = look(folder, caption_strategy="textfile", options={"on_bad_row": "skip"})
    assert captions(found) == [("a dog",)]
    assert "x.png: has no caption" in found.notes[0]


def test_the_empty_caption_is_among_them_where_captions_are_dropped(paint, look):
    folder = paint("a", x=(64, 64))
    assert look(folder, options={"caption_dropout_probability": 0.1}).captions == ("x", "")
    assert look(folder).captions == ("x",)
