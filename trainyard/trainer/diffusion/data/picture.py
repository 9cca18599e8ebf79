"""A picture of the training data as it will be seen: which file, which words, which part of it."""

from pathlib import Path

from attrs import frozen


@frozen
class Frame:
    """How a picture becomes pixels: turned upright, resized to `resized`, then cut out. All in pixels."""

    #: The upright file's own width and height.
    original: tuple[int, int]
    resized: tuple[int, int]
    left: int
    top: int
    #: What is trained on: the bucket.
    width: int
    height: int

    @property
    def bucket(self) -> tuple[int, int]:
        """Pictures of equal width and height can stand in one batch."""
        return self.width, self.height


@frozen
class Picture:
    """One file of one dataset."""

    #: Id of the dataset that it belongs to.
    dataset: str
    path: Path
    sha256: str
    frame: Frame
    #: All captions there are for it; one is drawn each time.
    captions: tuple[str, ...]
    #: Pictures to edit, one of each conditioning set that pairs with the dataset, in the order of those sets.
    references: tuple["Picture", ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that its latents depend on but the VAE."""
        f = self.frame
        return self.sha256, f.resized, f.left, f.top, f.width, f.height
