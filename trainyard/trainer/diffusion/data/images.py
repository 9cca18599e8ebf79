"""Files as pixels: upright, in RGB, transparent places white."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
from attrs import frozen
from PIL import Image, ImageCms, UnidentifiedImageError

from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.failures import DataError

#: Suffixes that are read; whatever else lies in a folder is left alone.
SUFFIXES = frozenset(
    {
        *(".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm"),
        *(".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
    }
)
#: Suffixes of pictures that can't be read: they are reported, not left alone.
FOREIGN = frozenset(
    {
        *(".arw", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".jxl", ".nef", ".orf", ".psd", ".raf"),
        *(".raw", ".rw2", ".svg"),
    }
)
LARGEST_PIXELS = 178_956_970
LARGEST_BYTES = 1 << 30
_ORIENTATION = 0x0112
#: What makes a picture upright, by the value of its EXIF orientation (EXIF 2.3, 4.6.4).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = frozenset({5, 6, 7, 8})
_SRGB = ImageCms.createProfile("sRGB")
# Above it Pillow refuses by itself, or warns and then `_checked` refuses: a small file may be a huge picture.
Image.MAX_IMAGE_PIXELS = LARGEST_PIXELS


class BadImage(ValueError):
    """What is wrong with one file."""


@frozen
class Looked:
    """What a look into a file found."""

    sha256: str
    #: Upright width and height in pixels.
    size: tuple[int, int]
    frames: int


def look(path: Path) -> Looked:
    """Read and decode a whole file, so that a damaged one is found. Raises `BadImage`, `OSError`."""
    data = _bytes(path)
    image = _opened(data)
    (width, height), frames = image.size, _frames(image)
    image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
    if _decoded(image) in _TURNED:
        width, height = height, width
    return Looked(hashlib.sha256(data).hexdigest(), (width, height), frames)


def pixels(picture: Picture) -> np.ndarray:
    """A picture as its frame shows it: uint8, (height, width, 3).

    Raises `DataError` when the file is not any more what it was at the first look.
    """
    try:
        data = _bytes(picture.path)
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise DataError(f"{picture.path}: was changed while the job ran; start it again to train on the new file")
        image = upright(data)
    except (OSError, BadImage) as e:
        raise DataError(f"{picture.path}: can't be read any more: {e}") from e
    frame = picture.frame
    if image.size != frame.resized:
        image = image.resize(frame.resized, Image.Resampling.LANCZOS)
    box = (frame.left, frame.top, frame.left + frame.width, frame.top + frame.height)
    return np.array(image.crop(box))


def upright(data: bytes) -> Image.Image:
    """A file's bytes as an upright RGB image. Raises `BadImage`."""
    image = _opened(data)
    orientation = _decoded(image)
    made = _rgb(image)
    return made.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else made


def _bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if size == 0:
        raise BadImage("is empty (0 bytes)")
    if size > LARGEST_BYTES:
        raise BadImage(f"has {size:,} bytes, more than the {LARGEST_BYTES:,} that are read of a picture")
    return path.read_bytes()


def _opened(data: bytes) -> Image.Image:
    try:
        image = Image.open(BytesIO(data))
    except UnidentifiedImageError as e:
        raise BadImage("is no image that can be read, whatever its name says") from e
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise BadImage(_HUGE) from e
    except MemoryError:
        raise
    except Exception as e:  # whatever a decoder makes of a broken file
        raise BadImage(f"can't be read as an image: {e}") from e
    if image.width * image.height > LARGEST_PIXELS:
        raise BadImage(_HUGE)
    return image


_HUGE = f"has more than {LARGEST_PIXELS // 1_000_000} megapixels"


def _frames(image: Image.Image) -> int:
    """How many pictures a file has; those that a telephone puts beside its photograph don't count."""
    try:
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except MemoryError:
        raise
    except Exception as e:  # whatever a decoder makes of a broken file
        raise BadImage(f"is damaged or cut off: {e}") from e


def _decoded(image: Image.Image) -> int:
    """Decode it all. Returns the EXIF orientation, 1 where there is none."""
    try:
        image.load()
        orientation = image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception as e:  # whatever a decoder makes of a broken file
        raise BadImage(f"is damaged or cut off: {e}") from e
    if image.mode in ("F", "I;32", "I;32B"):
        raise BadImage(f"has pixels of mode {image.mode}, of which no white is known; 8 or 16 bits would be right")
    if image.mode == "I":  # 32 bits, of which 16 may be used
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise BadImage("has grey values beyond 16 bits")
    return int(orientation) if orientation in _UPRIGHT else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, seen).convert("RGB")
    return _of_cmyk(image) if image.mode == "CMYK" else image.convert("RGB")


def _of_cmyk(image: Image.Image) -> Image.Image:
    """By the file's own colour profile where it has one that can be used."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(BytesIO(profile))
            turned = ImageCms.profileToProfile(image, own, _SRGB, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            return image.convert("RGB")
        if turned is not None:
            return turned
    return image.convert("RGB")
