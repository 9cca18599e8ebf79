"""What the data of a job is called: the materials that were asked for, the sources that were read, the rows."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from attrs import define, field, frozen

from trainyard.trainer.tally import Tally
from trainyard.trainer.text.data.given_back import give_back

Kind = Literal["text", "completion", "messages", "preference"]
Unit = Literal["line", "row"]
_GIVEN_BACK_EVERY = 20_000


class RowError(ValueError):
    """What is wrong with one row."""


@frozen(kw_only=True)
class Material:
    """One dataset of the document, already fetched: a file or a folder at `path`, or a dataset of a hub."""

    #: Where in the document it stands: `datasets[0]`.
    at: str
    #: As it is shown: what the document says.
    source: str
    path: Path | None = None
    #: `owner/name`, with `@revision` where one was given.
    hub: str | None = None
    format: str = "jsonl"
    split: str | None = None
    streaming: bool = False
    weight: float = 1.0
    token: str | None = field(default=None, repr=False)


@frozen
class Row:
    """One row and where it stands.

    `value` is the text; prompt and completion; the list of messages; or prompt, chosen and rejected.
    `times` is how often an epoch takes it.
    """

    file: str | Path
    number: int
    kind: Kind
    value: Any
    times: int = 1
    unit: Unit = "line"

    @property
    def place(self) -> str:
        return place(self.file, self.number, self.unit)


def place(file: str | Path, number: int, unit: Unit) -> str:
    """A row's address: the line of a text file, or the number of a row, both counted from 1."""
    return f"{file}:{number}" if unit == "line" else f"{file}: row {number}"


def counted(count: int, one: str = "row", more: str = "rows") -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {one if count == 1 else more}"


@frozen
class Source:
    """One file or hub dataset as it was read; `rows` have something to learn or not, the bad ones are not counted."""

    path: Path
    rows: int
    bytes: int
    #: Of the file's bytes (of several files: one after the other); of the rows where there is no file.
    sha256: str
    name: str = ""
    weight: float = 1.0


@define(kw_only=True)
class Corpus:
    """All rows that have something to learn, in the order of the document.

    `rows` of a streamed dataset are read again each time that they are gone through, and never held together.
    """

    rows: Sequence[Row]
    sources: tuple[Source, ...]
    kinds: frozenset[Kind]
    without_target: Tally
    #: Bad rows that were left out (`on_bad_row` is `skip`), each with its reason.
    skipped: Tally
    streaming: bool = False

    def spend_rows(self) -> Iterator[Row]:
        """The rows once and for all: each is forgotten when the next is asked for, and its memory given back.

        Once they are tokens nothing needs them, and they may be most of what the process holds. Streamed ones stay.
        """
        if self.streaming:
            yield from self.rows
            return
        held = deque(self.rows)
        self.rows = ()
        while held:
            yield held.popleft()
            if len(held) % _GIVEN_BACK_EVERY == 0:
                give_back()

    def plain(self) -> Mapping[str, Any]:
        """What the manifest says of the rows that are not trained on."""
        told = {"skipped": self.skipped, "without_target": self.without_target}
        return {name: {"rows": tally.count, "first": list(tally.first)} for name, tally in told.items()}
