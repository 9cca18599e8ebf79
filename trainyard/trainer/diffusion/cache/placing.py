"""Where the latents and embeddings of each dataset lie, and when they are made; needs no torch."""

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from trainyard.trainer.failures import ConfigError

if TYPE_CHECKING:
    from schemas.diffusion import Options
    from schemas.diffusion.dataloader import Entry

_EMBEDS = ("text_embeds", "image_embeds")


class When(Enum):
    """When tensors are made, and whether they are kept."""

    AHEAD = "before the training"
    ON_DEMAND = "when first needed"
    NEVER = "each time, and not kept"


@frozen
class Place:
    """A folder, and when it is filled."""

    folder: Path
    when: When = When.AHEAD
    #: How many prompts are encoded at once; None: as the option says.
    batch: int | None = None


@frozen
class Places:
    """For each dataset by its id; `""` is for what belongs to none, as the prompts of the validation."""

    latents: Mapping[str, Place]
    texts: Mapping[str, Place]

    @property
    def all_ahead(self) -> bool:
        """Whether everything is there before the training begins."""
        return all(place.when is When.AHEAD for places in (self.latents, self.texts) for place in places.values())


def places(entries: "Sequence[Entry]", options: "Options", folder: Path) -> Places:
    """What the dataloader's entries and the options come to; `folder` is the service's cache.

    A relative folder lies in `cache_dir`, which is a folder of `folder` where none is given. Raises `ConfigError` with
    all that is wrong.
    """
    found = _Finding(entries, options, Path(options.cache_dir or folder / "diffusion"))
    made = Places(found.latents(), found.texts())
    if found.problems:
        raise ConfigError(*found.problems)
    return made


@define
class _Finding:
    entries: "Sequence[Entry]"
    options: "Options"
    root: Path
    problems: list[str] = field(factory=list)

    def latents(self) -> dict[str, Place]:
        found = {"": Place(self._folder("extra_parameters.cache_dir_vae", self.options.cache_dir_vae))}
        for entry in self._used():
            at, given = f"{entry.at}.cache_dir_vae", entry.cache_dir_vae
            embeds = self._named(entry, "image_embeds", entry.image_embeds)
            if given is None and embeds is not None:
                at, given = f"{embeds.at}.cache_dir", embeds.cache_dir
            when = self._when(embeds or entry, "vae", entry.vae_cache_ondemand, entry.vae_cache_disable)
            found[entry.id] = Place(found[""].folder if given is None else self._folder(at, given), when)
        return found

    def texts(self) -> dict[str, Place]:
        usual = self._usual()
        found = {"": self._text_place(usual)}
        for entry in self._used():
            found[entry.id] = self._text_place(self._named(entry, "text_embeds", entry.text_embeds) or usual)
        return found

    def _text_place(self, embeds: "Entry | None") -> Place:
        if embeds is None or embeds.cache_dir is None:
            folder = self._folder("extra_parameters.cache_dir_text", self.options.cache_dir_text)
        else:
            folder = self._folder(f"{embeds.at}.cache_dir", embeds.cache_dir)
        if embeds is None:
            return Place(folder, self._when(None, "text", None, None))
        when = self._when(embeds, "text", embeds.text_cache_ondemand, embeds.text_cache_disable)
        return Place(folder, when, embeds.text_encoder_batch_size)

    def _usual(self) -> "Entry | None":
        """The entry of the embeddings of every dataset that names none."""
        embeds = [e for e in self.entries if e.dataset_type == "text_embeds" and not e.disabled]
        usual = [e for e in embeds if e.default] or embeds
        if len(usual) > 1:
            which = "one of them" if not usual[0].default else "only one"
            self.problems.append(
                f"{usual[1].at}.default: there are {len(usual)} text_embeds entries like it "
                f"({', '.join(e.id for e in usual)}); default: true must stand in {which}"
            )
        return usual[0] if usual else None

    def _named(self, entry: "Entry", kind: str, wanted: str | None) -> "Entry | None":
        if wanted is None:
            return None
        for other in self.entries:
            if other.id == wanted and other.dataset_type == kind and not other.disabled:
                return other
        there = [e.id for e in self.entries if e.dataset_type == kind and not e.disabled]
        self.problems.append(
            f"{entry.at}.{kind}: {wanted!r} is no {kind} entry; there {'is' if there else 'is none'} {', '.join(there)}"
        )
        return None

    def _when(self, entry: "Entry | None", kind: str, on_demand: bool | None, disable: bool | None) -> When:
        options = self.options
        usual = {
            "vae": (options.vae_cache_ondemand, options.vae_cache_disable),
            "text": (options.text_cache_ondemand, options.text_cache_disable),
        }[kind]
        first = usual[0] if on_demand is None else on_demand
        never = usual[1] if disable is None else disable
        if first and never:
            at = "extra_parameters" if entry is None else entry.at
            problem = f"{at}.{kind}_cache_ondemand: what {kind}_cache_disable does not keep can't be kept on demand"
            if problem not in self.problems:
                self.problems.append(problem)
        return When.NEVER if never else When.ON_DEMAND if first else When.AHEAD

    def _folder(self, at: str, given: str) -> Path:
        folder = (self.root / given).expanduser()
        above = folder
        while not above.exists() and above != above.parent:
            above = above.parent
        if not above.is_dir():
            problem = f"{at}: {folder} can't be a folder: {above} is a file"
            if problem not in self.problems:
                self.problems.append(problem)
        return folder

    def _used(self) -> "list[Entry]":
        return [e for e in self.entries if not e.disabled and e.dataset_type not in _EMBEDS]
