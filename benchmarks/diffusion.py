"""Samples a second of our image trainer and of an accelerate loop over diffusers: `python -m benchmarks.diffusion`.

The same model, pictures and number of steps; each run a process of its own, both with embeddings kept. Ours reads its
latents from warm caches; the script encodes the pictures in its loop, or reads latents too. Both train by AdamW; with
`--tutorial` ours also by the optimizers that people's configurations name, as these: `optimi-lion`, and `adamw_bf16` on
weights in bf16. Then: pictures a second into an empty cache, files read and written, beside the bare VAE on pictures
that lie in memory.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from attrs import evolve

from benchmarks.diffusion_work import Seen, Size, Work, by_peer, by_us, forget, made, working
from benchmarks.table import interleaved, met, ratio, show
from benchmarks.training_work import THREADS

FAMILIES = ("flux", "pixart_sigma")
_OURS, _ENCODED, _CACHED = "ours, caches warm", "accelerate loop, encodes in it", "accelerate loop, latents kept"
_GOALS = {_ENCODED: 1.15, _CACHED: 1.0}
#: By family.
_TUTORIAL = {
    "flux": {"optimizer": "optimi-lion"},
    "pixart_sigma": {"optimizer": "adamw_bf16", "mixed_precision": "bf16"},
}
_WAIT = 0.01
_MIB = 1 << 20


def train(family: str, rounds: int, size: Size, tutorial: bool = False) -> None:
    """Measure and print: training."""
    other = f"ours, {', '.join(_TUTORIAL[family].values())}"
    with working(family, size) as work:
        measures: dict[str, Callable[[], Seen]] = {
            _OURS: partial(by_us, work),
            _ENCODED: partial(by_peer, work, "encoded"),
            _CACHED: partial(by_peer, work, "cached"),
        }
        if tutorial:
            measures[other] = partial(by_us, work, _TUTORIAL[family])
        found = interleaved(rounds, measures)
    speeds = {name: [seen.samples_per_second for seen in runs] for name, runs in found.items()}
    peaks = {name: max(seen.peak_bytes for seen in runs) for name, runs in found.items()}
    rows = [
        (name, f"{statistics.median(seen):.2f}", f"{min(seen):.2f}-{max(seen):.2f}", f"{peaks[name] / _MIB:,.0f}")
        for name, seen in speeds.items()
    ]
    notes = [
        f"{family}, {'LoRA' if work.lora else 'full'}, width {size.width}, {size.batch} × {size.edge} px a step, fp32, "
        f"{THREADS} threads; {size.steps} steps, {size.warm} of them before the clock"
    ]
    for name, goal in _GOALS.items():
        value = ratio(speeds[_OURS], speeds[name])
        notes.append(f"ours / {name}: {value:.2f} (goal ≥ {goal}: {met(value, goal)})")
    if tutorial:
        notes.append(f"{other} / {_OURS}: {ratio(speeds[other], speeds[_OURS]):.2f}")
    more = peaks[_OURS] / peaks[_CACHED]
    notes.append(f"ours / {_CACHED}, memory: {more:.2f} (goal ≤ 1: {met(more, 1.0, least=False)})")
    wait = statistics.median(seen.waited / seen.trained for seen in found[_OURS])
    notes.append(
        f"waited for the loader: {wait:.2%} of the steps (goal < {_WAIT:.0%}: {met(wait, _WAIT, least=False)})"
    )
    show(f"{rounds} rounds, medians", ("training", "samples/s", "range", "peak MiB"), rows, notes)


def cache(rounds: int, size: Size, at_once: int = 4) -> None:
    """Measure and print: filling a cache."""
    with made("flux", size) as work:
        ours, bare = _caching(work, at_once)
        found = interleaved(rounds, {"ours, into an empty cache": ours, "the bare VAE": bare})
    rows = [
        (name, f"{statistics.median(seen):.1f}", f"{min(seen):.1f}-{max(seen):.1f}") for name, seen in found.items()
    ]
    value = ratio(*found.values())
    notes = [f"{size.edge} px, {at_once} at once, fp32", f"ours / the bare VAE: {value:.2f}"]
    show(f"{rounds} rounds, medians", ("caching", "pictures/s", "range"), rows, notes)


def _caching(work: Work, at_once: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """Pictures a second, of ours and of the VAE alone; both have it loaded."""
    import torch

    from schemas.diffusion import Options
    from schemas.diffusion.dataloader import Entry
    from trainyard.trainer.diffusion.cache import Latents, Vae
    from trainyard.trainer.diffusion.data import pixels, survey
    from trainyard.trainer.diffusion.families import find
    from trainyard.trainer.diffusion.weights import Weights

    def nothing(*_: Any, **__: Any) -> None:
        pass

    torch.set_num_threads(THREADS)
    options, family = Options(**work.options()), find("flux")
    entry = Entry(id="pictures", instance_data_dir=str(work.pictures))
    pictures = survey([entry], options, family.stride, 42, nothing, nothing).pictures
    weights = Weights(name="bench", root=work.model)
    vae = Vae(family, weights, options, torch.device("cpu"))
    read = [pixels(picture) for picture in pictures]
    vae.encode(read[:at_once])

    def ours() -> float:
        forget(work)
        latents = Latents(work.cache / "diffusion", family.vae_key(weights, options))
        began = time.perf_counter()
        return latents.fill(pictures, vae, batch=at_once) / (time.perf_counter() - began)

    def bare() -> float:
        began = time.perf_counter()
        for start in range(0, len(read), at_once):
            vae.encode(read[start : start + at_once])
        return len(read) / (time.perf_counter() - began)

    return ours, bare


def main(rounds: int = 5, size: Size = Size(), families: Sequence[str] = FAMILIES, *, tutorial: bool = False) -> None:
    """Measure and print."""
    for family in families:
        train(family, rounds, size, tutorial)
    cache(rounds, size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=Size().steps)
    parser.add_argument("--width", type=int, default=Size().width)
    parser.add_argument("--layers", type=int, default=Size().layers)
    parser.add_argument("--edge", type=int, default=Size().edge)
    parser.add_argument("--pictures", type=int, default=Size().pictures)
    parser.add_argument("--family", choices=FAMILIES, help="only this one")
    parser.add_argument("--tutorial", action="store_true", help="ours by the optimizers of usual configurations too")
    given = parser.parse_args()
    main(
        given.rounds,
        evolve(
            Size(),
            steps=given.steps,
            warm=min(Size().warm, given.steps // 2),
            width=given.width,
            layers=given.layers,
            edge=given.edge,
            pictures=given.pictures,
        ),
        (given.family,) if given.family else FAMILIES,
        tutorial=given.tutorial,
    )
