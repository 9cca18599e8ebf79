"""Which part of a picture is trained on, and at what size: the buckets of aspect ratios, and the cut."""

from bisect import bisect_right
from itertools import accumulate
from math import floor, lcm, sqrt
from typing import Literal

from attrs import frozen

from trainyard.trainer.diffusion.data.chance import chance
from trainyard.trainer.diffusion.data.picture import Frame

Size = tuple[int, int]
ResolutionType = Literal["pixel", "area", "pixel_area"]
CropStyle = Literal["random", "center", "corner"]
CropAspect = Literal["square", "preserve", "closest", "random"]
Fault = Literal["too small", "too narrow", "too wide", "too much enlarged", "too long for its width"]
#: Pixels that a picture may have when it is resized; more would take gigabytes.
_LARGEST = 100_000_000
#: With `pixel_area`, limits up to this are megapixels, larger ones edges of a square.
_LARGEST_MEGAPIXELS = 10


@frozen(kw_only=True)
class Framing:
    """How the pictures of one set are framed; sizes are in the unit of `resolution_type`."""

    resolution: float
    resolution_type: ResolutionType = "pixel_area"
    minimum_image_size: float | None = None
    maximum_image_size: float | None = None
    target_downsample_size: float | None = None
    #: Width over height.
    minimum_aspect_ratio: float | None = None
    maximum_aspect_ratio: float | None = None
    crop: bool = False
    crop_style: CropStyle = "random"
    crop_aspect: CropAspect = "square"
    #: Ratios (width over height) to choose from, each with its weight.
    crop_aspect_buckets: tuple[tuple[float, float], ...] = ()
    #: Decimals of a bucket's ratio.
    rounding: int = 2
    #: Every edge of a bucket is a multiple of this many pixels.
    alignment: int = 64
    #: 0.2: enlarged by a fifth at most.
    max_upscale_threshold: float | None = None

    def fault(self, size: Size) -> Fault | None:
        """Why an upright file of this size is not trained on."""
        ratio = size[0] / size[1]
        if self.minimum_image_size is not None and self._measure(size) < self.pixels(self.minimum_image_size):
            return "too small"
        if self.minimum_aspect_ratio is not None and ratio < self.minimum_aspect_ratio:
            return "too narrow"
        if self.maximum_aspect_ratio is not None and ratio > self.maximum_aspect_ratio:
            return "too wide"
        if not (ratios := self._ratios(size)):
            return "too much enlarged"
        long = any(self._resized(size, self._bucket(ratio)) > _LARGEST for ratio, _ in ratios)
        return "too long for its width" if long else None

    def frame(self, size: Size, seed: str) -> Frame:
        """The frame of an upright file without a fault: a pure function, random choices are drawn from `seed`.

        Without `crop` the whole picture is shown, stretched to its bucket by half an alignment step at most. With
        `crop` it is resized until it just covers the bucket (one above `maximum_image_size`: to
        `target_downsample_size`, where that is more), and cut.
        """
        bucket = self._bucket(self._ratio(size, seed))
        if not self.crop:
            return Frame(size, bucket, 0, 0, *bucket)
        scale = self._scale(size, bucket)
        width, height = (max(b, round(s * scale)) for s, b in zip(size, bucket, strict=True))
        left, top = self._corner(width - bucket[0], height - bucket[1], seed)
        return Frame(size, (width, height), left, top, *bucket)

    def pixels(self, limit: float) -> float:
        """A limit in pixels: of the shorter edge for `pixel`, of the area for the others."""
        if self.resolution_type == "pixel":
            return limit
        megapixels = self.resolution_type == "area" or limit <= _LARGEST_MEGAPIXELS
        return limit * 1e6 if megapixels else limit * limit

    def shown(self, limit: float) -> str:
        """A limit for people."""
        if self.resolution_type == "pixel":
            return f"{limit:g} pixels of the shorter edge"
        if self.resolution_type == "area" or limit <= _LARGEST_MEGAPIXELS:
            return f"{limit:g} megapixels"
        return f"the area of {limit:g} × {limit:g} pixels"

    def measured(self, size: Size) -> float:
        """A file's size in the unit of `resolution_type`, as `minimum_image_size` would be given."""
        if self.resolution_type == "pixel":
            return float(min(size))
        area = size[0] * size[1]
        return area / 1e6 if self.resolution_type == "area" else sqrt(area)

    def least(self, size: Size) -> float:
        """The largest round `minimum_image_size` that leaves a file of this size."""
        step = 0.01 if self.resolution_type == "area" else 1
        return floor(self.measured(size) / step) * step

    def _measure(self, size: Size) -> float:
        return float(min(size) if self.resolution_type == "pixel" else size[0] * size[1])

    def _scale(self, size: Size, bucket: Size) -> float:
        covering = _covering(size, bucket)
        return max(covering, self._downsampling(size)) if self._oversized(size) else covering

    def _resized(self, size: Size, bucket: Size) -> float:
        """Pixels of the resized picture."""
        return size[0] * size[1] * self._scale(size, bucket) ** 2

    def _oversized(self, size: Size) -> bool:
        largest = self.maximum_image_size
        return largest is not None and self._measure(size) > self.pixels(largest)

    def _downsampling(self, size: Size) -> float:
        if self.target_downsample_size is None:
            return 0.0
        scale = self.pixels(self.target_downsample_size) / self._measure(size)
        return scale if self.resolution_type == "pixel" else sqrt(scale)

    def _ratio(self, size: Size, seed: str) -> float:
        ratios = self._ratios(size)
        if len(ratios) == 1:
            return ratios[0][0]
        if self.crop_aspect == "random":
            ends = list(accumulate(weight for _, weight in ratios))
            return ratios[bisect_right(ends, chance(f"{seed} ratio") * ends[-1])][0]
        own = size[0] / size[1]
        return min((ratio for ratio, _ in ratios), key=lambda ratio: abs(ratio - own))

    def _ratios(self, size: Size) -> list[tuple[float, float]]:
        """The ratios of the buckets that a file may go to, with their weights; none is too much enlarged."""
        possible = [*self.crop_aspect_buckets]
        if not self.crop or self.crop_aspect == "preserve":
            possible = [(self._rounded(size), 1.0)]
        elif self.crop_aspect == "square":
            possible = [(1.0, 1.0)]
        most = self.max_upscale_threshold
        if most is None:
            return possible
        return [(ratio, w) for ratio, w in possible if _covering(size, self._bucket(ratio)) <= 1 + most]

    def _rounded(self, size: Size) -> float:
        """A file's ratio with `rounding` decimals; never 0."""
        return max(round(size[0] / size[1], self.rounding), 10.0**-self.rounding)

    def _bucket(self, ratio: float) -> Size:
        if self.resolution_type == "pixel":
            edge = self.resolution
            width, height = (edge * ratio, edge) if ratio >= 1 else (edge, edge / ratio)
        else:
            area = self.pixels(self.resolution)
            width, height = sqrt(area * ratio), sqrt(area / ratio)
        return self._aligned(width), self._aligned(height)

    def _aligned(self, edge: float) -> int:
        return max(1, round(edge / self.alignment)) * self.alignment

    def _corner(self, across: int, down: int, seed: str) -> tuple[int, int]:
        if self.crop_style == "center":
            return across // 2, down // 2
        if self.crop_style == "corner":
            return 0, 0
        return int(chance(f"{seed} left") * (across + 1)), int(chance(f"{seed} top") * (down + 1))


def aligned_to(alignment: int, stride: int) -> int:
    """The least multiple of a family's stride that keeps to an alignment; both in pixels."""
    return lcm(alignment, stride)


def like(partner: Frame, size: Size) -> Frame:
    """The frame of a file of this size that shows what its partner's shows; the two have one aspect ratio."""
    return Frame(size, partner.resized, partner.left, partner.top, partner.width, partner.height)


def _covering(size: Size, bucket: Size) -> float:
    return max(bucket[0] / size[0], bucket[1] / size[1])
