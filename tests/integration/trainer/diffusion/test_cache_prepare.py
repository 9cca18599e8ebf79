"""Both caches filled by a real family's VAE and text encoders, which are gone before the training begins."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.diffusion import Options
from schemas.diffusion.dataloader import Entry
from tests.pictures import edits
from tests.tiny_diffusion import shared_tiny
from trainyard.trainer.diffusion.cache import Caches, Prompt, prepare
from trainyard.trainer.diffusion.data import Epochs, Gallery, pixels, survey
from trainyard.trainer.diffusion.families.flux import Flux
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import Stopped
from trainyard.trainer.processes import World

pytestmark = pytest.mark.slow


class Watched(Flux):
    """Flux that remembers what it loaded, without holding it."""

    def __init__(self) -> None:
        self.vaes: list[Any] = []
        self.sides: list[Any] = []

    def vae(self, *args: Any) -> Any:
        vae = super().vae(*args)
        self.vaes.append(weakref.ref(vae))
        return vae

    def texts(self, *args: Any) -> Any:
        side = super().texts(*args)
        self.sides.append(side.__class__)
        return side


class Job:
    """Twelve pictures to edit and what they became, a tiny Kontext, and a cache that jobs share."""

    def __init__(self, folder: Path, model: Path) -> None:
        after, before = edits(folder / "data", count=6, edge=64)
        self.entries: list[Any] = [
            {"id": "after", "instance_data_dir": str(after), "caption_strategy": "textfile"},
            {"id": "before", "instance_data_dir": str(before), "dataset_type": "conditioning"},
            {"id": "words", "dataset_type": "text_embeds", "cache_dir": str(folder / "words")},
        ]
        self.entries[0]["conditioning_data"] = ("before",)
        self.entries[1]["conditioning_type"] = "reference_strict"
        self.values: dict[str, Any] = {"resolution": 64, "resolution_type": "pixel_area", "aspect_bucket_alignment": 16}
        self.values |= {"train_batch_size": 1, "text_encoder_batch_size": 4, "vae_dtype": "fp32", "seed": 1}
        self.values |= {"tokenizer_max_length": 32, "mixed_precision": "no"}
        self.folder, self.weights, self.family = folder, Weights(name="tiny", root=model), Watched()
        self.said: list[str] = []
        self.check: Callable[[], None] = lambda: None

    @property
    def options(self) -> Options:
        return Options(
            model_family="flux",
            model_flavour="kontext",
            pretrained_model_name_or_path=str(self.weights.root),
            **self.values,
        )

    def survey(self) -> Gallery:
        return survey(self._entries(), self.options, 16, 1, lambda: None, lambda *_, **__: None)

    def prepare(self, **more: Any) -> Caches:
        self.said.clear()
        return prepare(
            self.family,
            self.weights,
            self.options,
            self._entries(),
            self.survey(),
            World.alone(torch.device("cpu")),
            folder=self.folder / "cache",
            check=self.check,
            say=lambda message, **_: self.said.append(message),
            **more,
        )

    def files(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.folder.rglob("*.safetensors")}

    def _entries(self) -> list[Entry]:
        return [Entry(at=f"data_backend_config[{n}]", **e) for n, e in enumerate(self.entries)]


@pytest.fixture
def job(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path, shared_tiny("flux", tmp_path_factory, flavour="kontext"))


def modules() -> list[Any]:
    gc.collect()
    return [o for o in gc.get_objects() if type(o).__name__ in ("AutoencoderKL", "T5EncoderModel", "CLIPTextModel")]


@pytest.fixture
def alive(job: Job) -> Callable[[], set[str]]:
    before = modules()  # of other tests
    return lambda: {type(o).__name__ for o in modules() if not any(o is other for other in before)}


def test_all_is_made_once_and_vae_and_text_encoders_are_gone_before_the_training(
    job: Job, alive: Callable[[], set[str]]
) -> None:
    caches = job.prepare(prompts=("a prompt of the validation",))
    assert [said.partition(" in ")[0] for said in job.said] == ["cached 8 prompts", "cached 12 pictures"]
    assert len(job.family.vaes) == 1 and job.family.vaes[0]() is None
    assert alive() == set()
    first = job.files()
    assert len(first) == 20 and len([p for p in first if p.is_relative_to(job.folder / "words")]) == 8

    gallery = job.survey()
    with caches.loader(Epochs(gallery, job.options, 1, 1)) as loader:
        (batch,) = loader.step(0, 0)
    (drawn,) = batch.drawn
    vae = Flux().vae(job.weights, job.options, torch.device("cpu"))
    shown = [torch.from_numpy(pixels(p)).permute(2, 0, 1)[None] / 127.5 - 1 for p in (drawn.picture, *drawn.references)]
    for found, picture in zip((batch.latents, *batch.references), shown, strict=True):
        torch.testing.assert_close(found, Flux().encode(vae, picture), atol=1e-3, rtol=0)  # in other batches
    texts = Flux().texts(job.weights, job.options, torch.device("cpu"))
    assert torch.equal(batch.texts["words"][0], texts.encode([drawn.caption])[0]["words"])

    again = job.prepare(prompts=("a prompt of the validation",))
    assert len(job.family.vaes) == 1 and job.said == [] and set(job.files()) == set(first)
    assert again.texts.read(["a prompt of the validation"])[0]["words"].shape == (32, 32)


def test_what_changed_is_noticed_and_made_alone(job: Job) -> None:
    job.prepare()
    before = set(job.files())
    caption = min((job.folder / "data" / "after").glob("*.txt"))
    caption.write_text("other words")
    job.prepare()
    assert [said.partition(" in ")[0] for said in job.said] == ["cached 1 prompts"]
    job.values["tokenizer_max_length"] = 64
    job.prepare()
    assert [said.partition(" in ")[0] for said in job.said] == ["cached 7 prompts"]
    job.values["vae_enable_tiling"] = True
    job.prepare()
    assert [said.partition(" in ")[0] for said in job.said] == ["cached 12 pictures"]
    assert before < set(job.files()), "what is of no use to this job is of use to others, and stays"


def test_prompts_that_the_encoder_does_not_see_to_the_end_are_counted_in_every_job(job: Job) -> None:
    usual = job.values
    for when in ({}, {}, {"text_cache_ondemand": True}, {"text_cache_disable": True}):
        job.values = usual | when
        job.prepare(prompts=("a red circle " * 40,))
        (told,) = [said for said in job.said if "longer than the text encoder sees" in said]
        assert told.startswith("1 of 8 prompts are longer") and "'a red circle a red" in told


def test_a_stop_in_the_middle_ends_it_and_the_next_goes_on_from_there(job: Job, alive: Callable[[], set[str]]) -> None:
    looks = iter(range(100))

    def stop() -> None:
        if next(looks) == 5:
            raise Stopped(saved=False, why="SIGTERM")

    job.values["text_encoder_batch_size"] = 1
    job.check = stop
    with pytest.raises(Stopped):
        job.prepare()
    there = len(job.files())
    assert 0 < there < 7 and alive() == set()
    job.check = lambda: None
    job.prepare()
    assert job.said[0].startswith(f"cached {7 - there} prompts")


def test_on_demand_the_encoders_stay_until_the_caches_are_closed(job: Job, alive: Callable[[], set[str]]) -> None:
    job.values |= {"vae_cache_ondemand": True, "text_cache_disable": True}
    caches = job.prepare()
    assert job.files() == {} and caches.ahead == 0
    with caches.loader(Epochs(job.survey(), job.options, 1, 1)) as loader:
        loader.step(0, 0)
    assert len(job.files()) == 2 and alive() == {"AutoencoderKL", "T5EncoderModel", "CLIPTextModel"}
    caches.close()
    assert alive() == set()
    assert caches.texts.missing([Prompt("")]) == []
