"""Where caches lie: what entries and options come to."""

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.diffusion import Options
from schemas.diffusion.dataloader import Entry
from trainyard.trainer.diffusion.cache.placing import Place, When, places
from trainyard.trainer.failures import ConfigError

CACHE = Path("/service/cache")


def options(**values: object) -> Options:
    return Options(model_family="flux", pretrained_model_name_or_path="m", **values)


def image(name: str = "photos", **values: object) -> Entry:
    return Entry(id=name, at=f"data_backend_config[{name}]", **values)


def texts(name: str = "words", **values: object) -> Entry:
    return image(name, dataset_type="text_embeds", **values)


def test_where_nothing_is_said_they_lie_in_the_services_cache() -> None:
    found = places([image()], options(), CACHE)
    assert found.latents["photos"] == Place(CACHE / "diffusion") and found.all_ahead
    assert found.texts["photos"] == found.texts[""] == Place(CACHE / "diffusion" / "cache")


def test_relative_folders_lie_in_cache_dir_and_absolute_ones_where_they_say() -> None:
    found = places([image()], options(cache_dir="/own", cache_dir_text="words", cache_dir_vae="/latents"), CACHE)
    assert found.latents["photos"] == Place(Path("/latents")) and found.texts["photos"] == Place(Path("/own/words"))


def test_entries_have_folders_of_their_own_and_name_those_of_others() -> None:
    entries = [
        image(cache_dir_vae="/latents/photos"),
        image("drawings", image_embeds="kept", text_embeds="special"),
        image("edits", dataset_type="conditioning"),
        image("kept", dataset_type="image_embeds", cache_dir="/latents/drawings"),
        texts(default=True, cache_dir="/words", text_encoder_batch_size=7),
        texts("special", cache_dir="special"),
    ]
    found = places(entries, options(cache_dir="/own"), CACHE)
    assert {name: str(place.folder) for name, place in found.latents.items()} == {
        "": "/own",
        "photos": "/latents/photos",
        "drawings": "/latents/drawings",
        "edits": "/own",
    }
    assert found.texts["photos"] == found.texts[""] == Place(Path("/words"), batch=7)
    assert found.texts["drawings"] == Place(Path("/own/special"))


def test_an_entry_says_when_and_the_option_where_it_says_nothing() -> None:
    entries = [
        image(),
        image("fresh", vae_cache_disable=True, vae_cache_ondemand=False),
        image("ahead", vae_cache_ondemand=False),
        texts(text_cache_disable=True),
    ]
    found = places(entries, options(vae_cache_ondemand=True), CACHE)
    wanted = {"": When.AHEAD, "photos": When.ON_DEMAND, "fresh": When.NEVER, "ahead": When.AHEAD}
    assert {name: place.when for name, place in found.latents.items()} == wanted
    assert {place.when for place in found.texts.values()} == {When.NEVER} and not found.all_ahead
    assert places([], options(text_cache_ondemand=True), CACHE).texts[""].when is When.ON_DEMAND


@pytest.mark.parametrize(
    ("entries", "values", "problem"),
    [
        ([image(text_embeds="none")], {}, r"\[photos\]\.text_embeds: 'none' is no text_embeds entry"),
        ([image(image_embeds="words"), texts()], {}, "image_embeds: 'words' is no image_embeds entry"),
        ([texts(), texts("more")], {}, r"\[more\]\.default: there are 2 text_embeds .*must stand in one"),
        ([texts(default=True), texts("more", default=True)], {}, "must stand in only one"),
        ([image()], {"vae_cache_ondemand": True, "vae_cache_disable": True}, "what vae_cache_disable does not keep"),
        ([image(cache_dir_vae=__file__)], {}, rf"\[photos\]\.cache_dir_vae: {__file__} can't be a folder"),
    ],
)
def test_what_can_not_be_is_refused_with_its_place(entries: list[Entry], values: dict[str, bool], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        places(entries, options(**values), CACHE)


def test_it_is_known_without_torch() -> None:
    program = "import sys, trainyard.trainer.diffusion.cache.placing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
