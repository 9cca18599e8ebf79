"""Embeddings of prompts, kept by the prompt and by what encoded it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar

from attrs import define, frozen

from trainyard.trainer.diffusion.cache.cached import Cached, rotated
from trainyard.trainer.diffusion.cache.encoders import Encoders
from trainyard.trainer.diffusion.cache.fill import Made, Wanted
from trainyard.trainer.diffusion.cache.placing import When
from trainyard.trainer.diffusion.cache.shelf import digest
from trainyard.trainer.diffusion.families.family import Embedding

_CUT = "cut"


@frozen
class Prompt:
    """Words, and the dataset that they are of; None: of no dataset, as a prompt of the validation."""

    text: str
    dataset: str | None = None


@define(eq=False)
class Texts(Cached[Prompt]):
    """Embeddings under one key of the text encoders."""

    kind: ClassVar[str] = "texts"
    what: ClassVar[str] = "prompts"

    def missing(self, prompts: Iterable[Prompt], check: Callable[[], None] = lambda: None) -> list[Prompt]:
        """Those whose embeddings are to be made before the training."""
        return [w.thing for w in self.lacking(self._ahead(prompts), check)]

    def fill(
        self,
        prompts: Iterable[Prompt],
        encoders: Encoders,
        *,
        batch: int = 1,
        rank: int = 0,
        size: int = 1,
        check: Callable[[], None] = lambda: None,
        say: Callable[..., None] = lambda *_, **__: None,
    ) -> int:
        """Make what is missing, `batch` prompts at once; how many were made here. As `Latents.fill`."""
        missing = self.lacking(self._ahead(prompts), check)
        missing.sort(key=lambda w: len(w.thing.text))
        batches = [missing[start : start + batch] for start in range(0, len(missing), batch)]
        return self.make(rotated(batches, rank, size), encoders, check, say)

    def read(self, prompts: Sequence[Prompt | str]) -> list[Embedding]:
        """An embedding for each."""
        asked = [Prompt(p) if isinstance(p, str) else p for p in prompts]
        return list(self.tensors([self._wanted(p) for p in asked], [self.place(p.dataset).when for p in asked]))

    def cut(self, prompts: Iterable[Prompt], check: Callable[[], None] = lambda: None) -> dict[str, int]:
        """Prompts that the model does not see to their end, and the tokens of each that it misses.

        It is noted beside those that are kept; of others the tokenizers are asked, with `check` before each.
        """
        found: dict[str, int] = {}
        for prompt in prompts:
            wanted = self._wanted(prompt)
            if self.place(prompt.dataset).when is When.AHEAD:
                lost = int((wanted.shelf.notes(wanted.name) or {}).get(_CUT, 0))
            else:
                check()
                lost = self._encoder([wanted]).cut(prompt.text)
            if lost:
                found[prompt.text] = lost
        return found

    def name(self, thing: Prompt) -> str:
        return digest(thing.text)

    def load(self, thing: Prompt) -> str:
        return thing.text

    def encode(self, encoder: Encoders, loaded: Sequence[str]) -> list[Made]:
        embeddings = encoder.encode(loaded)
        return [Made(found, {_CUT: str(encoder.cut(p))}) for p, found in zip(loaded, embeddings, strict=True)]

    def _ahead(self, prompts: Iterable[Prompt]) -> Iterator[Wanted[Prompt]]:
        return (self._wanted(p) for p in prompts if self.place(p.dataset).when is When.AHEAD)

    def _wanted(self, prompt: Prompt) -> Wanted[Prompt]:
        return Wanted(self.shelf(prompt.dataset), self.name(prompt), prompt)
