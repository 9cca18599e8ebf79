"""A plain accelerate loop over diffusers: `python benchmarks/peers/diffusion_loop.py WORK`, WORK a JSON object.

A LoRA on Flux, or all of PixArt Sigma. Keys: family, model, pictures, prepared, latents (`prepare`: compute embeddings
and latents and keep them, `cached`: read both, `encoded`: read embeddings and encode the pictures in the loop), edge,
batch, words, rank, rate, targets, steps, warm; device, dtype and checkpointing for a GPU.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
)
from diffusers.optimization import get_scheduler
from diffusers.training_utils import cast_training_params
from PIL import Image


def samples(work: dict[str, Any]) -> tuple[torch.Tensor, list[str]]:
    """All pictures between -1 and 1, and their captions."""
    paths = sorted(p for p in Path(work["pictures"]).iterdir() if p.suffix != ".txt")
    opened = [Image.open(p).convert("RGB").resize((work["edge"], work["edge"])) for p in paths]
    pixels = np.stack([np.asarray(image) for image in opened]).astype(np.float32) / 127.5 - 1
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), [
        p.with_suffix(".txt").read_text().strip() for p in paths
    ]


def scaled(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of pictures."""
    found = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.sample()
    return (found - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def prepare(work: dict[str, Any]) -> None:
    """Embeddings and latents in a file."""
    pipeline = DiffusionPipeline.from_pretrained(work["model"])
    pixels, captions = samples(work)
    texts = []
    for caption in captions:
        if work["family"] == "flux":
            words, summary, _ = pipeline.encode_prompt(caption, caption, max_sequence_length=work["words"])
            texts.append((words[0], summary[0]))
        else:
            words, mask, _, _ = pipeline.encode_prompt(caption, False, max_sequence_length=work["words"])
            texts.append((words[0], mask[0]))
    latents = torch.cat([scaled(pipeline.vae, pixels[n : n + 4]) for n in range(0, len(pixels), 4)])
    torch.save({"texts": texts, "latents": latents}, work["prepared"])


class Pictures(torch.utils.data.Dataset[Any]):
    """What the loop is given of each picture."""

    def __init__(self, work: dict[str, Any]) -> None:
        kept = torch.load(work["prepared"])
        self.texts = kept["texts"]
        self.images = kept["latents"] if work["latents"] == "cached" else samples(work)[0]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.images[at], *self.texts[at]


def flux_loss(model: Any, scheduler: Any, latents: torch.Tensor, words: torch.Tensor, summary: torch.Tensor) -> Any:
    noise = torch.randn_like(latents)
    count, channels, height, width = latents.shape
    at = (torch.rand(count) * scheduler.config.num_train_timesteps).long()
    timesteps = scheduler.timesteps[at].to(latents.device)
    sigmas = scheduler.sigmas[at].to(latents.device, latents.dtype).view(-1, 1, 1, 1)
    noisy = (1 - sigmas) * latents + sigmas * noise
    like = {"device": latents.device, "dtype": latents.dtype}
    said = model(
        hidden_states=FluxPipeline._pack_latents(noisy, count, channels, height, width),
        timestep=timesteps / 1000,
        guidance=torch.ones(count, **like),
        pooled_projections=summary.to(**like),
        encoder_hidden_states=words.to(**like),
        txt_ids=torch.zeros(words.shape[1], 3, **like),
        img_ids=FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, **like),
        return_dict=False,
    )[0]
    said = FluxPipeline._unpack_latents(said, height * 8, width * 8, 8)
    return ((said.float() - (noise - latents).float()) ** 2).reshape(count, -1).mean(1).mean()


def pixart_loss(model: Any, scheduler: Any, latents: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> Any:
    noise = torch.randn_like(latents)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    said = model(
        noisy,
        encoder_hidden_states=words.to(latents),
        encoder_attention_mask=mask,
        timestep=timesteps,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample.chunk(2, 1)[0]
    return torch.nn.functional.mse_loss(said.float(), noise.float())


def models(work: dict[str, Any], dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """What is trained, the scheduler, the loss."""
    if work["family"] == "pixart_sigma":
        model = PixArtTransformer2DModel.from_pretrained(work["model"], subfolder="transformer")
        scheduler = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
        return model, scheduler, pixart_loss
    from peft import LoraConfig

    model = FluxTransformer2DModel.from_pretrained(work["model"], subfolder="transformer", torch_dtype=dtype)
    model.requires_grad_(False)
    rank = work["rank"]
    model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=work["targets"]))
    return model, FlowMatchEulerDiscreteScheduler(shift=3.0), flux_loss


def main(work: dict[str, Any]) -> None:
    """Train and print what was seen."""
    torch.manual_seed(42)
    half, device = work.get("dtype") == "bf16", work.get("device", "")
    accelerator = Accelerator(cpu=not device, mixed_precision="bf16" if half else "no")
    dtype = torch.bfloat16 if half else torch.float32
    model, scheduler, loss_of = models(work, dtype)
    model.train()
    if work.get("checkpointing"):
        model.enable_gradient_checkpointing()
    if half:
        cast_training_params(model, dtype=torch.float32)
    vae: Any = None
    if work["latents"] == "encoded":
        vae = AutoencoderKL.from_pretrained(work["model"], subfolder="vae", torch_dtype=dtype).to(accelerator.device)
        vae.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=work["rate"], betas=(0.9, 0.999), weight_decay=0.01, eps=1e-8)
    schedule = get_scheduler("constant", optimizer)
    loader: Any = torch.utils.data.DataLoader(Pictures(work), batch_size=work["batch"], shuffle=True, drop_last=True)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    step, began = 0, 0.0
    while step < work["steps"]:
        for images, one, other in loader:
            with accelerator.accumulate(model):
                with torch.no_grad():
                    latents = (images if vae is None else scaled(vae, images)).to(dtype)
                loss = loss_of(model, scheduler, latents, one, other)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            loss.detach().item()
            step += 1
            if step == work["warm"]:
                began = time.perf_counter()
            if step == work["steps"]:
                break
    speed = work["batch"] * (work["steps"] - work["warm"]) / (time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() if device else 0
    print(json.dumps({"samples_per_second": speed, "peak_bytes": peak}))


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    if order["latents"] == "prepare":
        with torch.no_grad():
            prepare(order)
        print(json.dumps({"samples_per_second": 0.0, "peak_bytes": 0}))
    else:
        main(order)
