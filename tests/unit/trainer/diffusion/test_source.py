"""Where the parts of a model are looked for, by what the options name."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from attrs import evolve
from safetensors.torch import save_file

from schemas.diffusion import Options
from tests.diffusion_here import DiffusionHere
from tests.https import web_server
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.fetching import Asking, NotHere
from trainyard.trainer.diffusion.source import find, gathered, look
from trainyard.trainer.failures import ConfigError, ModelError, SourceRefused

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


@pytest.fixture
def single(places):
    """Makes `models/flux1-dev.sft` with a transformer and these parts in it, and other files beside it."""
    starts = {"vae": "first_stage_model.", "text_encoder": "conditioner.embedders.0.transformer."}

    def made(*parts):
        names = ["double_blocks.0.x", *(f"{starts[part]}x" for part in parts)]
        file = places.add("models", "ae.sft", "clip_l.sft", "t5.sft") / "flux1-dev.sft"
        save_file({name: torch.ones(1) for name in names}, file)
        return file

    return made


OF_FILES = {
    "pretrained_model_name_or_path": "models/flux1-dev.sft",
    "pretrained_vae_model_name_or_path": "models/ae.sft",
    "pretrained_clip_model_name_or_path": "models/clip_l.sft",
    "pretrained_t5_model_name_or_path": "models/t5.sft",
}


def test_the_four_files_of_a_flux_need_tokenizers_that_are_had_without_a_token(places, single):
    single()
    clip = places.add("openai/clip-vit-large-patch14", "tokenizer_config.json", "vocab.json", "config.json")
    t5 = places.add("google/t5-v1_1-xxl", "tokenizer_config.json", "spiece.model")

    found = gathered(Options(**OF_FILES), FLUX, places)

    assert (found.at("tokenizer"), found.at("tokenizer_2"), found.beside) == (clip, t5, None)
    assert [asked for asked in places.asked if asked[2] == "model_flavour"] == [
        ("openai/clip-vit-large-patch14", "main", "model_flavour", ("tokenizer",)),
        ("google/t5-v1_1-xxl", "main", "model_flavour", ("tokenizer_2",)),
    ]


def test_tokenizers_beside_single_files_are_taken_and_nothing_is_fetched(places, single):
    file, models = single(), places.add("models", "tokenizer/x", "tokenizer_2/x")

    found = gathered(Options(**OF_FILES), FLUX, places)

    assert found.at("tokenizer_2") == models / "tokenizer_2" and found.at("transformer") == file
    assert {asked[0] for asked in places.asked} == {*OF_FILES.values()}


def test_what_a_single_file_lacks_and_no_option_names_is_the_flavours_own(places, single):
    single("vae", "text_encoder")
    places.add("models", "tokenizer/x", "tokenizer_2/x")
    hub = places.add("black-forest-labs/FLUX.1-schnell", "text_encoder_2/x", "scheduler/x")
    options = Options(**OF_FILES, model_flavour="schnell")

    found = gathered(evolve(options, pretrained_t5_model_name_or_path=None), FLUX, places)

    wanted = ("black-forest-labs/FLUX.1-schnell", "main", "model_flavour", ("text_encoder_2", "scheduler"))
    assert places.asked[-1] == wanted
    assert (found.at("text_encoder_2"), found.at("scheduler")) == (hub / "text_encoder_2", hub / "scheduler")


def test_what_is_trained_is_never_taken_from_elsewhere_than_the_file(places, single):
    save_file({"transformer_blocks.0.x": torch.ones(1)}, single().with_name("other.safetensors"))
    places.add("models", "tokenizer/x", "tokenizer_2/x")

    found = gathered(Options(**OF_FILES | {"pretrained_model_name_or_path": "models/other.safetensors"}), FLUX, places)

    assert {asked[0] for asked in places.asked} == {"models/other.safetensors", *list(OF_FILES.values())[1:]}
    assert "models/other.safetensors has no transformer (" in "; ".join(FLUX.check(found, Options()))


def test_where_that_can_not_be_had_the_options_are_named(places, single):
    single()

    def refused(name, *asked):
        if name == "PixArt-alpha/PixArt-Sigma-XL-2-512-MS":
            raise SourceRefused(f"{name}: can't be reached")
        return places(name, *asked)

    options = Options(pretrained_model_name_or_path="models/flux1-dev.sft", model_flavour="600M-512")
    with pytest.raises(SourceRefused) as e:
        gathered(options, families.find("pixart_sigma"), refused)
    assert "can't be reached (wanted for vae, text_encoder, tokenizer, which the single file lacks; " in str(e.value)
    assert "pretrained_vae_model_name_or_path, pretrained_t5_model_name_or_path may name them" in str(e.value)


def test_what_weights_of_an_address_lack_is_the_models_that_is_named(places, single):
    file = single("text_encoder")
    named = places.add("mine", "model_index.json", "vae/x", "text_encoder_2/x", "scheduler/x", "tokenizer/x")
    options = Options(pretrained_model_name_or_path="mine", revision="abc")

    found = gathered(options, FLUX, places, url="models/flux1-dev.sft")

    assert (found.root, found.at("transformer"), found.at("vae")) == (file, file, named / "vae")
    assert places.asked[0] == ("models/flux1-dev.sft", "", "base_model.weights_url", ())
    wanted = ("vae", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    assert places.asked[1:] == [("mine", "abc", "pretrained_model_name_or_path", wanted)]


def test_weights_of_an_address_are_fetched_as_a_file_or_unpacked_and_are_not_looked_at_from_afar(
    tmp_path, single, monkeypatch
):
    file, whole = single(), io.BytesIO()
    with zipfile.ZipFile(whole, "w") as packed:
        packed.writestr("model/model_index.json", "{}")
        packed.writestr("model/vae/config.json", "{}")
    here = DiffusionHere(tmp_path / "job", file.parent, tmp_path)
    here.more["download_hosts"] = "localhost"
    options = Options(pretrained_model_name_or_path=str(file.parent))
    with web_server(tmp_path) as web:
        monkeypatch.setenv("SSL_CERT_FILE", str(web.certificate))
        monkeypatch.setenv("NO_PROXY", "localhost")
        web.files |= {"/w.safetensors?signature=1": file.read_bytes(), "/whole.zip": whole.getvalue()}
        here.base["weights_url"] = web.uri("/w.safetensors?signature=1")
        found = find(here.run(), options, FLUX)
        assert found.root.read_bytes() == file.read_bytes() and found.at("transformer") == found.root
        assert "signature" not in found.name and found.beside == file.parent
        with pytest.raises(NotHere, match=r"w\.safetensors"):
            look(Asking.of(here.run()), options, FLUX)
        here.base["weights_url"] = web.uri("/whole.zip")
        assert (find(here.run(), options, FLUX).root / "model_index.json").is_file()


def test_a_place_without_the_part_is_told_with_its_option(places):
    places.add("base", "model_index.json")
    places.add("empty", "readme")
    options = Options(pretrained_model_name_or_path="base", pretrained_vae_model_name_or_path="empty")

    with pytest.raises(
        ModelError, match=r"pretrained_vae_model_name_or_path: .*empty: there is neither a folder 'vae'"
    ):
        gathered(options, FLUX, places)
