"""What is learned is the picture: one picture, learned by heart, comes out as the VAE itself gives it back.

The VAE is a tiny one that is trained first, so that its latents mean something.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from tests.diffusion_here import DiffusionHere
from tests.pictures import photographs
from tests.tiny_diffusion import make_vae, shared_tiny
from trainyard.trainer.diffusion import step
from trainyard.trainer.diffusion.families.pixart_sigma import FAMILY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # stock schedulers and numpy
]

EDGE = 64
CAPTION = "a photograph of the astronaut"
FLOOR = 0.85
STEPS = 300
OPTIONS = {
    "model_type": "full",
    "learning_rate": 2e-3,
    "lr_scheduler": "cosine",
    "max_train_steps": STEPS,
    "prediction_type": "v_prediction",
    "train_batch_size": 4,
    "max_grad_norm": 1.0,
    "grad_clip_method": "norm",
    "adam_weight_decay": 0.0,
    "use_ema": True,
    "ema_decay": 0.95,
    "ema_validation": "ema_only",
    "validation_prompt": CAPTION,
    "validation_negative_prompt": "",
    "validation_guidance": 1.0,
    "validation_num_inference_steps": 20,
    "validation_resolution": f"{EDGE}x{EDGE}",
    "validation_step_interval": 0,
    "logging_steps": 50,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photographs") / "all", edge=EDGE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A PixArt Sigma somewhat wider than the others' tiny one, over a VAE that was trained on the photographs."""
    from diffusers import PixArtTransformer2DModel

    folder = tmp_path_factory.mktemp("overfit") / "model"
    shutil.copytree(shared_tiny("pixart_sigma", tmp_path_factory), folder)
    torch.manual_seed(0)
    trained_vae(pictures).save_pretrained(folder / "vae")
    PixArtTransformer2DModel(
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=16,
        cross_attention_dim=64,
        caption_channels=32,
        in_channels=4,
        out_channels=8,
        sample_size=EDGE // 8,
        interpolation_scale=1,
    ).save_pretrained(folder / "transformer")
    return folder


def pixels(path: Path) -> torch.Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


def trained_vae(pictures: Path, steps: int = 80) -> Any:
    vae = make_vae((8, 16, 16, 16), 4)
    batch = torch.cat([pixels(path) for path in sorted(pictures.glob("*.png"))])
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-2)
    for _ in range(steps):
        latents = vae.encode(batch).latent_dist.mode()
        loss = (
            vae.decode(latents).sample - batch
        ).abs().mean() + 0.05 * latents.square().mean()  # so that their scale is not 1
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():  # so that the scale of the latents is far from 1
        vae.quant_conv.weight[:4] /= 4
        vae.quant_conv.bias[:4] /= 4
        vae.post_quant_conv.weight *= 4
        vae.register_to_config(scaling_factor=1 / vae.encode(batch).latent_dist.mode().std().item())
    return vae


def given_back(model: Path, picture: Path) -> np.ndarray:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(model / "vae")
    with torch.no_grad():
        found = vae.decode(vae.encode(pixels(picture)).latent_dist.mode()).sample[0]
    return ((found.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def likeness(folder: Path, model: Path, pictures: Path) -> float:
    """How like the VAE's own the picture is that comes out of a run on one photograph."""
    one = min(pictures.glob("astronaut*.png"))
    alone = folder / "alone"
    alone.mkdir(parents=True)
    shutil.copy(one, alone)
    (alone / one.name).with_suffix(".txt").write_text(CAPTION)
    job = DiffusionHere(folder / "job", model, alone, **OPTIONS)
    job.options.pop("lora_rank"), job.options.pop("lora_dropout")
    job.entries = [{"id": "one", "instance_data_dir": str(alone), "repeats": 3}]
    job.train()
    (made,) = [p for p in (job.output / "validation" / f"step-{STEPS}").glob("*.png") if p.name != "grid.png"]
    with Image.open(made) as shown:
        found = np.asarray(shown.convert("RGB"))
    return float(structural_similarity(found, given_back(model, one), channel_axis=2, data_range=255))


def test_one_picture_learned_by_heart_comes_out_as_the_vae_gives_it_back(tmp_path, model, pictures):
    assert likeness(tmp_path, model, pictures) > FLOOR


@pytest.mark.parametrize("broken", ["the target's sign", "the latents' scale"])
def test_it_does_not_where_something_is_the_wrong_way_round(tmp_path, model, pictures, monkeypatch, broken):
    """The same training with a fault that its loss does not show: the floor above is out of its reach."""
    if broken == "the target's sign":
        real = step.loss
        monkeypatch.setattr(step, "loss", lambda said, noised, options: real(-said, noised, options))
    else:
        kind, encode = type(FAMILY), type(FAMILY).encode
        monkeypatch.setattr(
            kind, "encode", lambda self, vae, *rest: encode(self, vae, *rest) / vae.config.scaling_factor
        )
    assert likeness(tmp_path, model, pictures) < FLOOR - 0.2
