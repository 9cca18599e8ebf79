"""The first look at the data: every file, its frame, its captions and its partners, before a model is loaded."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field

from trainyard.trainer.diffusion.data.captions import NoCaption
from trainyard.trainer.diffusion.data.files import find, shown
from trainyard.trainer.diffusion.data.gallery import Gallery, Part
from trainyard.trainer.diffusion.data.image_set import ImageSet, image_sets
from trainyard.trainer.diffusion.data.images import BadImage
from trainyard.trainer.diffusion.data.known import Facts, Known, in_parts
from trainyard.trainer.diffusion.data.pairs import NoPair, Partners, stem
from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.diffusion.data.pruning import pruned
from trainyard.trainer.failures import DataError
from trainyard.trainer.tally import Tally

if TYPE_CHECKING:
    from schemas.diffusion import Options
    from schemas.diffusion.dataloader import Entry

_SKIP = 'extra_parameters.on_bad_row: "skip" would leave them out'


def survey(
    entries: "Sequence[Entry]",
    options: "Options",
    stride: int,
    seed: int,
    check: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda said: None,
    *,
    cache: Path | None = None,
) -> Gallery:
    """Look through all sets; `check` is called all the while and may raise, `say` is told what a person should know.

    `stride` is the family's, in pixels; `seed` decides random crops and ratios, so that the same files have the same
    frames. What was found out about files is kept below the folder `cache` and not read again while it is true. Raises
    `ConfigError` for what entries and options ask wrongly, `SourceRefused` for what may not be read, and `DataError`
    for files that can't be trained on, all by name; with `on_bad_row` `skip` those are left out and noted.
    """
    sets, conditioning = image_sets(entries, options, stride)
    looking = _Looking(
        options, seed, check, None if cache is None else cache / "pictures", options.on_bad_row == "skip"
    )
    partners = {one.id: looking.partners(one) for one in conditioning}
    looked = [looking.pictures(one, [partners[name] for name in one.references]) for one in sets]
    looking.end(partners.values())
    pictures: list[Picture] = []
    parts = []
    for one, (found, left_out) in zip(sets, looked, strict=True):
        used, chosen = pruned(one, _some(one, found), options, looking.notes)
        start = len(pictures)
        pictures += chosen
        parts.append(Part(set=used, start=start, stop=len(pictures), sha256=_digest(chosen), left_out=left_out))
    captions = dict.fromkeys(caption for picture in pictures for caption in picture.captions)
    dropped = {"": None} if options.caption_dropout_probability > 0 else {}
    for note in looking.notes:
        say(note)
    return Gallery(
        pictures=tuple(pictures),
        parts=tuple(parts),
        conditioning=conditioning,
        captions=tuple(captions | dropped),
        notes=tuple(looking.notes),
    )


@define
class _Looking:
    """What the look has come by."""

    options: "Options"
    seed: int
    check: Callable[[], None]
    cache: Path | None
    skip: bool
    notes: list[str] = field(factory=list)
    bad: Tally = field(factory=Tally)
    #: Files with several pictures in them, of which the first is taken.
    several: Tally = field(factory=Tally)
    #: Sets of which no picture is left, each with why.
    empty: list[str] = field(factory=list)

    def partners(self, one: ImageSet) -> Partners:
        """The files of a set of pictures to edit."""
        files: dict[str, list[tuple[str, Facts]]] = defaultdict(list)
        for name, facts in self._facts(one).items():
            files[stem(name)].append((name, facts))
        return Partners(one, files)

    def pictures(self, one: ImageSet, partners: Sequence[Partners]) -> tuple[list[Picture], dict[str, int]]:
        """The pictures of a set, and how many were left out for which reason."""
        facts = self._facts(one)
        found, faults, bad = [], defaultdict[str, list[str]](list), self.bad.count
        captions = self._captions(one, list(facts))
        for name, known in facts.items():
            fault = None if known.problem else one.framing.fault(known.size)
            if fault is not None:
                faults[fault].append(name)
                continue
            try:
                found.append(self._picture(one, name, known, captions[name], partners))
            except (BadImage, NoCaption, NoPair) as e:
                self.bad.add(f"{one.folder / name}: {e}")
        left_out = {str(fault): len(names) for fault, names in faults.items()}
        if not found:
            self.empty.append(_nothing_left(one, facts, left_out))
        for why, names in faults.items():
            self.notes.append(_left_out(one, why, names, len(facts)))
        return found, left_out | ({"bad": self.bad.count - bad} if self.bad.count > bad else {})

    def end(self, partners: Iterable[Partners]) -> None:
        """Note what is left out. Raises `DataError` for files that may not be, and for empty sets."""
        if self.bad and not self.skip:
            raise DataError(f"{self.bad.words()}; {_SKIP}")
        if self.empty:
            raise DataError("; ".join([*self.empty, *([self.bad.words()] if self.bad else [])]))
        if self.bad:
            self.notes.append(f"left out ({self.bad.count:,}): {self.bad.words()}")
        if self.several:
            self.notes.append(f"of files with several pictures the first is taken: {self.several.words()}")
        for each in partners:
            if alone := each.alone():
                self.notes.append(f"{each.source.at}: pictures of {each.source.id!r} go with none: {alone.words()}")

    @property
    def _workers(self) -> int:
        return min(self.options.max_workers, 4 * (os.cpu_count() or 1))

    def _facts(self, one: ImageSet) -> dict[str, Facts]:
        at = f"{one.at}.instance_data_dir"
        files = find(one.folder, at, self.check)
        facts = Known.of(one.folder, self.cache).facts(files.pictures, self.check, self._workers)
        for name, known in facts.items():
            if known.frames > 1:
                self.several.add(f"{one.folder / name} ({known.frames})")
        if files.others:
            held = ", ".join(f"{count:,} × {suffix}" for suffix, count in files.others.most_common(5))
            self.notes.append(f"{at}: {one.folder} also holds what is no picture: {held}")
        unread = {shown(name): Facts(0, 0, problem=why) for name, why in files.unread.items()}
        return dict(sorted((facts | unread).items()))

    def _captions(self, one: ImageSet, names: Sequence[str]) -> "dict[str, tuple[str, ...] | NoCaption]":
        """The captions of each file, or why it has none."""

        def asked(name: str) -> "tuple[str, ...] | NoCaption":
            try:
                return one.captioning.captions(one.folder / name)
            except NoCaption as e:
                return e

        found: dict[str, tuple[str, ...] | NoCaption] = {}
        with ThreadPoolExecutor(self._workers) as pool:
            for part, captions in in_parts(pool, names, lambda part: [asked(name) for name in part]):
                self.check()
                found.update(zip(part, captions, strict=True))
        return found

    def _picture(
        self,
        one: ImageSet,
        name: str,
        facts: Facts,
        captions: "tuple[str, ...] | NoCaption",
        partners: Sequence[Partners],
    ) -> Picture:
        if facts.problem:
            raise BadImage(facts.problem)
        if isinstance(captions, NoCaption):
            raise captions
        path = one.folder / name
        frame = one.framing.frame(facts.size, f"{self.seed} {one.id} {facts.sha256}")
        references = tuple(each.of(name, frame, self.seed) for each in partners)
        return Picture(one.id, path, facts.sha256, frame, captions, references)


def _some(one: ImageSet, found: list[Picture]) -> list[Picture]:
    """At most `max_num_samples` of a set's pictures, chosen by the set's id and their names alone, in their order."""
    most = one.max_num_samples
    if most is None or len(found) <= most:
        return found

    def drawn(picture: Picture) -> bytes:
        return hashlib.sha256(f"{one.id} {picture.path.relative_to(one.folder).as_posix()}".encode()).digest()

    chosen = {picture.path for picture in sorted(found, key=drawn)[:most]}
    return [picture for picture in found if picture.path in chosen]


def _left_out(one: ImageSet, fault: str, names: Sequence[str], of: int) -> str:
    named = Tally()
    for name in names:
        named.add(name)
    return f"{one.at}: {len(names):,} of {of:,} pictures of {one.id!r} are left out, {fault}: {named.words()}"


def _nothing_left(one: ImageSet, facts: dict[str, Facts], left_out: dict[str, int]) -> str:
    """How many fell to which limit, and what limit would leave the largest."""
    framing, sizes = one.framing, [known.size for known in facts.values() if not known.problem]
    told = ", ".join(f"{count:,} {fault}" for fault, count in left_out.items())
    said = f"{one.at}: none of the {len(facts):,} pictures of {one.id!r} is left{f': {told}' if told else ''}"
    if "too small" in left_out and framing.minimum_image_size is not None:
        largest = max(sizes, key=framing.measured)
        said += (
            f"; the largest has {largest[0]} × {largest[1]} pixels, minimum_image_size asks for "
            f"{framing.shown(framing.minimum_image_size)}: {framing.least(largest):g} or less would be right"
        )
    if {"too narrow", "too wide"} & left_out.keys():
        ratios = sorted(width / height for width, height in sizes)
        said += f"; their aspect ratios (width / height) are {ratios[0]:.2f} to {ratios[-1]:.2f}"
    if "too much enlarged" in left_out:
        said += f"; a smaller resolution than {framing.resolution:g} or a larger max_upscale_threshold would be right"
    return said


def _digest(pictures: Sequence[Picture]) -> str:
    total = hashlib.sha256()
    for picture in pictures:
        for each in (picture, *picture.references):
            total.update(f"{each.path.name} {each.sha256}\n".encode())
    return total.hexdigest()
