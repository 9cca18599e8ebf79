"""Where the parts of a model are looked for, by what the options name."""

from pathlib import Path

import pytest

from schemas.diffusion import Options
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.source import gathered
from trainyard.trainer.failures import ConfigError, ModelError

FLUX = families.find("flux")


class Places:
    """Folders and files under names; what was asked for is remembered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []

    def add(self, name: str, *paths: str) -> Path:
        for path in paths:
            file = self.folder / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}")
        return self.folder / name

    def __call__(self, name, revision, option, only):
        self.asked.append((name, revision, option, tuple(only)))
        return self.folder / name, "/" in name


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path)


def test_a_flavour_without_a_name_is_that_of_the_hub(places):
    places.add("black-forest-labs/FLUX.1-schnell", "model_index.json")

    found = gathered(Options(model_flavour="schnell", revision="abc", variant="fp16"), FLUX, places)

    assert places.asked == [("black-forest-labs/FLUX.1-schnell", "abc", "pretrained_model_name_or_path", ())]
    assert (found.name, found.revision, found.variant) == ("black-forest-labs/FLUX.1-schnell", "abc", "fp16")
    with pytest.raises(ConfigError, match="'tiny' is not one of dev"):
        gathered(Options(model_flavour="tiny"), FLUX, places)


def test_parts_come_from_where_the_options_say(places):
    places.add("base", "model_index.json")
    whole = places.add("whole", "text_encoder_2/config.json", "tokenizer_2/tokenizer_config.json", "fine/config.json")
    alone = places.add("alone", "config.json", "tokenizer_config.json")
    options = Options(
        pretrained_model_name_or_path="base",
        pretrained_t5_model_name_or_path="whole",
        pretrained_clip_model_name_or_path="alone",
        pretrained_vae_model_name_or_path="alone",
        pretrained_transformer_model_name_or_path="whole",
        pretrained_transformer_subfolder="fine",
    )

    found = gathered(options, FLUX, places)

    assert found.parts == {
        "transformer": whole / "fine",
        "vae": alone,
        "text_encoder": alone,
        "tokenizer": alone,
        "text_encoder_2": whole / "text_encoder_2",
        "tokenizer_2": whole / "tokenizer_2",
    }
    assert ("whole", "main", "pretrained_transformer_model_name_or_path", ("fine",)) in places.asked


def test_the_t5_of_pixart_is_its_only_text_encoder(places):
    places.add("base", "model_index.json")
    whole = places.add("flux", "text_encoder/config.json", "tokenizer/tokenizer_config.json")
    options = Options(pretrained_model_name_or_path="base", pretrained_t5_model_name_or_path="flux")

    found = gathered(options, families.find("pixart_sigma"), places)

    assert found.parts == {"text_encoder": whole / "text_encoder", "tokenizer": whole / "tokenizer"}


def test_single_files_take_tokenizers_from_beside_them_or_from_the_flavours_repository(places):
    models = places.add("models", "flux1-dev.sft", "ae.sft")
    hub = places.add("black-forest-labs/FLUX.1-dev", "tokenizer/x", "tokenizer_2/x", "scheduler/x")
    options = Options(
        pretrained_model_name_or_path="models/flux1-dev.sft", pretrained_vae_model_name_or_path="models/ae.sft"
    )

    found = gathered(options, FLUX, places)

    assert found.parts == {"vae": models / "ae.sft"}
    assert found.at("tokenizer_2") == hub / "tokenizer_2"
    wanted = ("tokenizer", "tokenizer_2", "scheduler")
    assert places.asked[-1] == ("black-forest-labs/FLUX.1-dev", "main", "model_flavour", wanted)

    places.asked.clear()
    places.add("models", "tokenizer/x", "tokenizer_2/x")
    assert gathered(options, FLUX, places).at("tokenizer_2") == models / "tokenizer_2"
    assert len(places.asked) == 2


def test_a_place_without_the_part_is_told_with_its_option(places):
    places.add("base", "model_index.json")
    places.add("empty", "readme")
    options = Options(pretrained_model_name_or_path="base", pretrained_vae_model_name_or_path="empty")

    with pytest.raises(
        ModelError, match=r"pretrained_vae_model_name_or_path: .*empty: there is neither a folder 'vae'"
    ):
        gathered(options, FLUX, places)
