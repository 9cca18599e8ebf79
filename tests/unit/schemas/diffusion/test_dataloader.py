"""The dataloader file: entries alone, and what they must say together."""

from typing import Any

import pytest

from schemas.diffusion import Options
from schemas.diffusion.data_rules import data_contradictions
from schemas.diffusion.dataloader import Entry, read_entries

SET = {"id": "a", "instance_data_dir": "/a"}
EDITED = {"id": "c", "dataset_type": "conditioning", "instance_data_dir": "/c", "conditioning_type": "reference_strict"}
TEXTS = {"id": "t", "dataset_type": "text_embeds", "default": True}


def entries(*rows: dict[str, Any]) -> tuple[Entry, ...]:
    read = read_entries(list(rows), "config")
    assert read.value is not None, read.errors
    return read.value


def errors(document: Any) -> dict[str, str]:
    return {e.path: e.message for e in read_entries(document, "config").errors}


def together(*rows: dict[str, Any], **options: Any) -> dict[str, str]:
    return dict(data_contradictions(Options(**options), entries(*rows), "config"))


def test_an_entry_knows_where_it_stands_and_disabled_ones_are_left_out() -> None:
    found = entries({**SET, "disable": "true"}, {**SET, "id": "b", "conditioning_data": "c"})
    assert [(entry.id, entry.at) for entry in found] == [("b", "config[1]")]
    assert found[0].conditioning_data == ("c",)
    assert found[0].resolution is None and found[0].crop is False


def test_older_spellings_of_fields_and_values() -> None:
    [one] = entries({**SET, "text_embed_cache": "t", "crop_style": "centre", "caption_strategy": "instance_prompt"})
    assert (one.text_embeds, one.crop_style, one.caption_strategy) == ("t", "center", "instanceprompt")
    ratios = entries({**SET, "crop_aspect": "closest", "crop_aspect_buckets": [1, {"aspect_bucket": 0.5, "weight": 2}]})
    assert [getattr(one, "aspect_bucket", one) for one in ratios[0].crop_aspect_buckets or ()] == [1, 0.5]


@pytest.mark.parametrize(
    ("row", "field", "words"),
    [
        ({"instance_data_dir": "/a"}, "id", "is required"),
        ({"id": "a"}, "instance_data_dir", "the folder of the files"),
        ({**EDITED, "conditioning_type": None}, "conditioning_type", "reference_strict or reference_loose"),
        ({**SET, "crop_aspect": "closest"}, "crop_aspect_buckets", "is required with crop_aspect 'closest'"),
        ({**SET, "crop_aspect": "random", "crop_aspect_buckets": []}, "crop_aspect_buckets", "is required"),
        ({**SET, "minimum_aspect_ratio": 2, "maximum_aspect_ratio": 1}, "minimum_aspect_ratio", "more than"),
        ({**SET, "start_epoch": 3, "end_epoch": 2}, "start_epoch", "more than end_epoch 2"),
        ({**SET, "disable_vae_cache": True}, "disable_vae_cache", "vae_cache_disable means that"),
        ({**SET, "default": True}, "default", "is for text_embeds alone"),
        ({**SET, "repeats": -1}, "repeats", "≥ 0"),
    ],
)
def test_what_is_wrong_with_one_entry(row: dict[str, Any], field: str, words: str) -> None:
    found = errors([row])
    assert list(found) == [f"config[0].{field}"] and words in found[f"config[0].{field}"]


def test_a_dataloader_is_a_list_of_objects() -> None:
    assert errors({"id": "a"}) == {"config": "must be a list, got an object"}
    assert errors([SET, 3]) == {"config[1]": "must be an object with id, got 3"}


@pytest.mark.parametrize(
    ("rows", "path", "words"),
    [
        ([TEXTS], "config", "no entry of dataset_type image"),
        ([SET, {**SET, "instance_data_dir": "/b"}], "config[1].id", "ids must differ"),
        ([{**SET, "text_embeds": "x"}], "config[0].text_embeds", "is the id of no text_embeds entry"),
        ([{**SET, "image_embeds": "a"}], "config[0].image_embeds", "is the id of no image_embeds entry"),
        ([{**SET, "conditioning_data": ["x"]}], "config[0].conditioning_data", "there are none"),
        ([SET, EDITED], "config[1].id", "would never be shown"),
        ([SET, TEXTS, {**TEXTS, "id": "u"}], "config[2].default", "only one can be the default"),
        ([SET, {**TEXTS, "default": False}, {**TEXTS, "id": "u", "default": False}], "config[1].default", "one of the"),
        ([{**SET, "start_epoch": 2}], "config", "no data set that starts at once"),
        ([{**SET, "maximum_image_size": 900}], "config[0].maximum_image_size", "needs target_downsample_size"),
        ([{**SET, "target_downsample_size": 900}], "config[0].target_downsample_size", "needs maximum_image_size"),
        (
            [{**SET, "maximum_image_size": 900, "target_downsample_size": 901}],
            "config[0].target_downsample_size",
            "more than maximum_image_size 900",
        ),
        ([{**SET, "resolution": 1024, "resolution_type": "area"}], "config[0].resolution", "must be under 20"),
        ([{**SET, "resolution": 1, "resolution_type": "pixel"}], "config[0].resolution", "must be at least 16"),
        ([{**SET, "resolution": 32, "resolution_type": "pixel"}], "config[0].resolution", "leaves no bucket"),
        ([{**SET, "caption_strategy": "instanceprompt"}], "instance_prompt", "is required with caption_strategy"),
    ],
)
def test_what_is_wrong_with_entries_together(rows: list[dict[str, Any]], path: str, words: str) -> None:
    found = together(*rows)
    assert path in found and words in found[path], found


def test_pictures_to_edit_are_for_a_model_that_edits() -> None:
    pair = {**SET, "conditioning_data": ["c"]}, EDITED
    found = together(*pair, model_family="flux", model_flavour="dev")
    assert found == {"config[1].dataset_type": "'conditioning' is for a model that edits, and flux dev does not"}
    assert together(*pair, model_family="flux", model_flavour="kontext") == {}
    assert together(*pair, model_family="of_somebody_else") == {}


def test_a_size_that_the_options_say_is_told_at_the_option() -> None:
    assert list(together(SET, maximum_image_size=900)) == ["maximum_image_size"]
    assert list(together(SET, resolution=32, resolution_type="pixel")) == ["resolution"]
    assert together(SET, resolution=32, resolution_type="pixel", aspect_bucket_alignment=16) == {}


def test_pairs_that_belong_together_are_taken() -> None:
    assert together({**SET, "conditioning_data": ["c"]}, EDITED, TEXTS) == {}
    assert together(SET, {**EDITED, "source_dataset_id": "a"}) == {}
