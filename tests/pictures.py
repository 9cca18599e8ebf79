"""Real pictures made on the spot: shapes, textures and text, each with its caption; and photographs."""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 150, 60),
    "blue": (40, 70, 190),
    "yellow": (230, 200, 50),
    "purple": (130, 50, 150),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "ring")
TEXTURES = ("stripes", "checks", "clouds", "waves")
WORDS = ("train", "yard", "signal", "station", "engine", "track")
#: Width over height.
RATIOS = (1.0, 4 / 3, 3 / 4, 16 / 9, 9 / 16, 3 / 2)
#: Of scikit-image's photographs those of at least 300 × 300 pixels that need no download.
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "ihc.png", "hubble_deep_field.jpg")


def draw(folder: Path, count: int = 48, edge: int = 96, ratios: Sequence[float] = RATIOS, seed: int = 0) -> Path:
    """Write `count` pictures of about `edge`² pixels and their captions (`….txt`) into `folder`; the same each time."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        chance = random.Random(f"{seed} {n}")
        ratio = ratios[n % len(ratios)]
        size = round(edge * ratio**0.5), round(edge / ratio**0.5)
        picture, caption = (_shape, _texture, _text)[n % 3](size, chance, n // 3)
        picture.save(folder / f"{n:03} {caption.replace(' ', '_')}.{('png', 'jpg', 'webp')[n % 3]}", quality=95)
        (folder / f"{n:03} {caption.replace(' ', '_')}.txt").write_text(f"{caption}\n")
    return folder


def edits(folder: Path, count: int = 12, edge: int = 96, ratios: Sequence[float] = RATIOS) -> tuple[Path, Path]:
    """Pairs for editing: `folder/after` with captions, and `folder/before`, the same without colour."""
    after, before = draw(folder / "after", count, edge, ratios), folder / "before"
    before.mkdir(exist_ok=True)
    for path in sorted(after.iterdir()):
        if path.suffix != ".txt":
            Image.open(path).convert("L").convert("RGB").save(before / f"{path.stem}.png")
    return after, before


def photographs(folder: Path, crops: int = 1, edge: int | None = None) -> Path:
    """Write scikit-image's photographs into `folder`, with captions: whole, or `crops` squares of `edge` pixels."""
    import skimage

    data = Path(skimage.__file__).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    for name in PHOTOGRAPHS:
        words = Path(name).stem.replace("_", " ")
        for n in range(1 if edge is None else crops):
            if edge is None:
                shutil.copy(data / name, folder / f"{words} {n}{Path(name).suffix}")
            else:
                photograph = Image.open(data / name).convert("RGB")
                left, top = chance.randint(0, photograph.width - edge), chance.randint(0, photograph.height - edge)
                photograph.crop((left, top, left + edge, top + edge)).save(folder / f"{words} {n}.png")
            (folder / f"{words} {n}.txt").write_text(f"a photograph of {words}\n")
    return folder


def _two(chance: random.Random) -> list[str]:
    return chance.sample(sorted(COLOURS), 2)


def _shape(size: tuple[int, int], chance: random.Random, n: int) -> tuple[Image.Image, str]:
    kind, (front, back) = SHAPES[n % len(SHAPES)], _two(chance)
    image = Image.new("RGB", size, COLOURS[back])
    pen, radius = ImageDraw.Draw(image), min(size) * chance.uniform(0.25, 0.4)
    x, y = size[0] * chance.uniform(0.4, 0.6), size[1] * chance.uniform(0.4, 0.6)
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "circle":
        pen.ellipse(box, fill=COLOURS[front])
    elif kind == "square":
        pen.rectangle(box, fill=COLOURS[front])
    elif kind == "triangle":
        pen.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=COLOURS[front])
    else:
        pen.ellipse(box, outline=COLOURS[front], width=max(2, round(radius / 3)))
    return image, f"a {front} {kind} on {back}"


def _texture(size: tuple[int, int], chance: random.Random, n: int) -> tuple[Image.Image, str]:
    kind, (front, back) = TEXTURES[n % len(TEXTURES)], _two(chance)
    y, x = np.mgrid[: size[1], : size[0]] / min(size)
    pitch = chance.uniform(4, 9)
    if kind == "stripes":
        share = (np.sin(2 * np.pi * pitch * (x + y * chance.uniform(-1, 1))) > 0).astype(float)
    elif kind == "checks":
        share = ((np.floor(x * pitch) + np.floor(y * pitch)) % 2).astype(float)
    elif kind == "waves":
        share = 0.5 + 0.5 * np.sin(2 * np.pi * (pitch * y + np.sin(pitch * x)))
    else:
        share = _clouds(size, chance)
    colours = np.array([COLOURS[back], COLOURS[front]], float)
    pixels = colours[0] + share[..., None] * (colours[1] - colours[0])
    return Image.fromarray(pixels.round().astype(np.uint8)), f"{front} {kind} over {back}"


def _clouds(size: tuple[int, int], chance: random.Random) -> np.ndarray:
    """Noise of several wavelengths, between 0 and 1."""
    generator, total = np.random.default_rng(chance.getrandbits(32)), np.zeros((size[1], size[0]))
    for octave in (3, 6, 12, 24):
        coarse = Image.fromarray(generator.random((octave, octave), np.float32))
        total += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) / octave
    return np.asarray((total - total.min()) / np.ptp(total))


def _text(size: tuple[int, int], chance: random.Random, n: int) -> tuple[Image.Image, str]:
    word, (front, back) = WORDS[n % len(WORDS)], _two(chance)
    image = Image.new("RGB", size, COLOURS[back])
    font = ImageFont.load_default(size=max(10, round(size[0] / len(word) * 1.4)))
    ImageDraw.Draw(image).text((size[0] / 2, size[1] / 2), word, COLOURS[front], font, anchor="mm")
    return image, f"the word {word} in {front} on {back}"
