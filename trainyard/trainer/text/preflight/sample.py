"""The rows of a corpus counted in tokens, all of them or a sample, and three of them shown with what is learned."""

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from attrs import evolve, frozen

from trainyard.trainer.failures import DataError
from trainyard.trainer.text.data.material import Corpus, Row
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.tokens.examples import Example

#: Rows and characters that are tokenised; what a machine does in about a second.
ROWS_AT_MOST = 2_000
CHARACTERS_AT_MOST = 4_000_000
_FEWEST = 64
_LONGEST_NAMED = 5
_SHOWN = 3
_SHOWN_TOKENS = 512
_WHOLE = 1 << 30


@frozen
class Tokens:
    """One sequence, not cut, and which of its tokens are learned."""

    ids: list[int]
    learned: list[bool]

    def __len__(self) -> int:
        return len(self.ids)

    def targets(self, longest: int) -> int:
        """Tokens that are learned within `longest`; the first token of a sequence is never predicted."""
        return sum(self.learned[1:longest])


Sequences = tuple[Tokens, ...]


@frozen
class Counted:
    """A row and its sequences; `extra` where it was taken only because it is long, and counts for nothing else."""

    row: Row
    sequences: Sequences
    extra: bool

    @property
    def tokens(self) -> int:
        """Of its longest sequence."""
        return max(map(len, self.sequences))


@frozen(kw_only=True)
class Sample:
    """Rows in tokens. `share` is how much of the corpus they are, by characters; 1 when they are all of it."""

    counted: tuple[Counted, ...]
    rows: int
    share: float
    longest: int
    #: How the rows were chosen; None when they are all.
    how: str | None

    @property
    def fair(self) -> list[Counted]:
        """What the sums are made of."""
        return [one for one in self.counted if not one.extra]

    @property
    def trained(self) -> list[Counted]:
        """Of them, those with a target within the longest sequence."""
        return [one for one in self.fair if any(s.targets(self.longest) for s in one.sequences)]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence, as often as an epoch takes it, cut to the longest."""
        cut = [(one.row.times, min(len(s), self.longest)) for one in self.trained for s in one.sequences]
        return [length for times, length in cut for _ in range(times)]

    @property
    def widest(self) -> int:
        """Tokens of the longest sequence as it is trained on."""
        return min(self.longest, max(one.tokens for one in self.counted))

    @property
    def learned(self) -> int:
        """The most tokens that any sequence learns."""
        return max(s.targets(self.longest) for one in self.counted for s in one.sequences)

    @property
    def examples(self) -> list[Example]:
        """Every sequence."""
        found = [tokens for one in self.counted for tokens in one.sequences]
        return [Example(np.array(tokens.ids, np.int32), np.array(tokens.learned, np.bool_)) for tokens in found]

    def data(self, tokenizer: Any) -> dict[str, Any]:
        """As JSON (contract train.md, 3)."""
        named = sorted(self.counted, key=lambda one: -one.tokens)[:_LONGEST_NAMED]
        taken = sum(one.row.times for one in self.fair)
        truncated = sum(one.row.times for one in self.fair if one.tokens > self.longest)
        return {
            "rows": self.rows,
            "tokens": round(sum(self.lengths) / self.share),
            "longest_rows": [{"place": one.row.place, "tokens": one.tokens} for one in named],
            "max_sequence_length": self.longest,
            "truncated_share": round(truncated / taken, 4),
            "untrainable_share": round(1 - sum(one.row.times for one in self.trained) / taken, 4),
            "examples": [example for one in self._shown() for example in shown(one, tokenizer, self.longest)][:_SHOWN],
            "sampled": self.how and {"rows": len(self.fair), "share": round(self.share, 6), "how": self.how},
        }

    def _shown(self) -> list[Counted]:
        """From the beginning, the middle and the end."""
        good = self.trained
        return [good[i] for i in sorted({0, len(good) // 2, len(good) - 1})]


def count(corpus: Corpus, settings: Settings, tokenizer: Any, longest: int, check: Callable[[], None]) -> Sample:
    """Tokenise the corpus, or a sample where it is large. Raises `DataError` when no row has a target left to learn."""
    sizes, times = _sizes(corpus.rows)
    step = _step(sizes)
    fair = range(0, len(sizes), step)
    extra = set(np.argsort(-sizes, kind="stable")[:_LONGEST_NAMED].tolist()) - set(fair)
    places = {*fair, *extra}
    rows = [(row, i in extra) for i, row in enumerate(corpus.rows) if i in places]
    marks = {id(row): long for row, long in rows}
    found = _count([row for row, _ in rows], settings, tokenizer, check)
    sample = Sample(
        counted=tuple(Counted(row, sequences, marks[id(row)]) for row, sequences in found),
        rows=times,
        share=float(sizes[list(fair)].sum() / max(1, sizes.sum())) if step > 1 else 1.0,
        longest=longest,
        how=None if step == 1 else _how(step),
    )
    if not sample.trained:
        raise DataError(
            f"{rows[0][0].place}: no row has a target to learn within {longest} tokens; "
            "raise tuning_parameters.max_sequence_length or shorten what comes before the answers"
        )
    return sample


def shown(one: Counted, tokenizer: Any, longest: int) -> list[dict[str, Any]]:
    """A row as a person reads it: its text, its tokens one by one, and 1 where a token is learned."""
    answers = ("chosen", "rejected") if len(one.sequences) == 2 else ("",)
    cut = min(longest, _SHOWN_TOKENS)
    return [
        {
            "place": one.row.place,
            **({"answer": answer} if answer else {}),
            "text": tokenizer.decode(tokens.ids[:cut]),
            "tokens": [tokenizer.decode([i]) for i in tokens.ids[:cut]],
            "loss_mask": [int(learned) for learned in tokens.learned[:cut]],
            "length": len(tokens),
        }
        for answer, tokens in zip(answers, one.sequences, strict=True)
    ]


def _sizes(rows: Sequence[Row]) -> tuple[np.ndarray, int]:
    """The characters of each row, and how many rows an epoch takes; in one pass."""
    found, times = array("q"), 0
    for row in rows:
        found.append(_characters(row.value))
        times += row.times
    return np.frombuffer(found, np.int64), times


def _step(sizes: np.ndarray) -> int:
    """Every how many-th row is taken."""
    mean = max(1.0, float(sizes.mean()))
    rows = max(_FEWEST, min(ROWS_AT_MOST, math.floor(CHARACTERS_AT_MOST / mean)))
    return math.ceil(len(sizes) / rows)


def _how(step: int) -> str:
    return (
        f"one row of every {step} was tokenised, and the {_LONGEST_NAMED} with the most characters; "
        "tokens and steps are taken to grow with the characters"
    )


def _characters(value: Any) -> int:
    """How long a row is, without tokenising it; the prompt of a preference is read twice."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return len(value["content"])
    if value is None:
        return 0
    return sum(map(_characters, value)) + (_characters(value[0]) if len(value) == 3 else 0)


def _count(
    rows: Sequence[Row], settings: Settings, tokenizer: Any, check: Callable[[], None]
) -> Iterator[tuple[Row, Sequences]]:
    """Each row with its sequences: one, or of a preference two. Rows that the job would skip are passed over."""
    encode = _encoder(settings, tokenizer, check)
    whole = encode(rows)
    if len(whole) == len(rows):
        yield from zip(rows, whole, strict=True)
        return
    for row in rows:
        try:
            yield row, encode([row])[0]
        except DataError:
            continue


def _encoder(
    settings: Settings, tokenizer: Any, check: Callable[[], None]
) -> Callable[[Sequence[Row]], list[Sequences]]:
    """What makes rows into sequences that are not cut; it leaves out rows without a target."""
    if settings.objective == "sft":
        from trainyard.trainer.text.tokens.tokenise import tokenise

        def one(rows: Sequence[Row]) -> list[Sequences]:
            once = [evolve(row, times=1) for row in rows]
            found = tokenise(once, tokenizer, _WHOLE, check, on_bad_row=settings.on_bad_row).examples
            return [(Tokens(example.ids.tolist(), example.learned.tolist()),) for example in found]

        return one
    from trainyard.trainer.text.preference.pairs import tokenise_pairs

    def two(rows: Sequence[Row]) -> list[Sequences]:
        found = tokenise_pairs([evolve(row, times=1) for row in rows], tokenizer, _WHOLE, check).examples
        return [tuple(_answered(pair.prompt, side) for side in (pair.chosen, pair.rejected)) for pair in found]

    return two


def _answered(prompt: list[int], answer: list[int]) -> Tokens:
    return Tokens([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
