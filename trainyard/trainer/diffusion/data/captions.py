"""The words of a picture: from a text file beside it, from its name, or the same for all."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

if TYPE_CHECKING:
    from schemas.diffusion import Options
    from schemas.diffusion.dataloader import Entry

Strategy = Literal["textfile", "filename", "instanceprompt"]


class NoCaption(ValueError):
    """Why a picture has no words."""


@frozen(kw_only=True)
class Captioning:
    """How the pictures of a set come by their captions."""

    strategy: Strategy = "filename"
    instance_prompt: str = ""
    prepend_instance_prompt: bool = False
    only_instance_prompt: bool = False
    #: A whole text file is one caption, where else each of its lines is one.
    whole_file: bool = False

    @classmethod
    def of(cls, entry: "Entry", options: "Options", problems: list[str]) -> "Captioning":
        """What an entry and the options say; what is wrong is added to `problems`."""

        def told(name: str) -> Any:
            own = getattr(entry, name)
            return getattr(options, name) if own is None else own

        made = cls(
            strategy=told("caption_strategy"),
            instance_prompt=(told("instance_prompt") or "").strip(),
            prepend_instance_prompt=bool(told("prepend_instance_prompt")),
            only_instance_prompt=bool(told("only_instance_prompt")),
            whole_file=entry.disable_multiline_split,
        )
        if not made.instance_prompt:
            asking = {
                "prepend_instance_prompt": made.prepend_instance_prompt,
                "only_instance_prompt": made.only_instance_prompt,
                "caption_strategy instanceprompt": made.strategy == "instanceprompt",
            }
            needed = [name for name, asks in asking.items() if asks]
            problems += [f"{entry.at}.instance_prompt: is required with {name}" for name in needed]
        return made

    def captions(self, path: Path) -> tuple[str, ...]:
        """All captions of a picture. Raises `NoCaption` where there is none."""
        if self.only_instance_prompt or self.strategy == "instanceprompt":
            return (self.instance_prompt,)
        found = self._own(path)
        if self.prepend_instance_prompt:
            return tuple(f"{self.instance_prompt} {caption}" for caption in found)
        return found

    def _own(self, path: Path) -> tuple[str, ...]:
        if self.strategy == "textfile":
            return _of_file(path.with_suffix(".txt"), self.whole_file)
        words = re.sub(r"[\s_]+", " ", path.stem).strip()
        if not words:
            raise NoCaption("has a name without words")
        return (words,)


def _of_file(path: Path, whole: bool) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as e:
        raise NoCaption(f"has no caption: {path.name} is not beside it") from e
    except UnicodeDecodeError as e:
        raise NoCaption(f"has no caption: {path.name} is not UTF-8 (byte {e.start + 1})") from e
    except OSError as e:
        raise NoCaption(f"has no caption: {path.name} can't be read: {e.strerror}") from e
    lines = [text] if whole else text.splitlines()
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise NoCaption(f"has no caption: {path.name} is empty")
    return found
