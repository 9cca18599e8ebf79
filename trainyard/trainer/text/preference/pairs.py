"""Preference rows made into tokens: one prompt, the answer that is chosen and the one that is rejected."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from jinja2 import TemplateError

from trainyard.trainer.failures import DataError
from trainyard.trainer.tally import Tally
from trainyard.trainer.text.data import Row, in_parts

_ROWS_AT_ONCE = 1_000
_REFUSALS = (TemplateError, TypeError, ValueError, KeyError)
Texts = tuple[str, str, str]


@frozen(eq=False)
class Pair:
    """The tokens of one row; the answers hold their end and are cut to the longest row."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def tokens(self) -> int:
        """The prompt is read with each of the answers."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def ids(self) -> np.ndarray:
        """All of them, one after the other."""
        return np.array(self.prompt + self.chosen + self.rejected)

    @property
    def longest(self) -> int:
        """Tokens of the longer of its two sequences."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@frozen
class Pairs:
    """All rows, each as often as an epoch takes it, and what was left out: for length, or refused by the template."""

    examples: list[Pair]
    truncated: int
    left_out: Tally
    refused: Tally

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the longer sequence of each row."""
        return np.array([pair.longest for pair in self.examples])


def tokenise_pairs(
    rows: Iterable[Row], tokenizer: Any, longest: int, check: Callable[[], None], *, on_bad_row: str = "fail"
) -> Pairs:
    """Tokens of all rows, prompt and answers apart, as those of a prompt given alone.

    Raises `DataError` when the chat template refuses a row (with `on_bad_row` `skip` it is left out) and when no row
    has room for an answer within `longest` tokens.
    """
    found = Pairs([], 0, Tally(), Tally())
    truncated = 0
    for some in in_parts(rows, _ROWS_AT_ONCE):
        check()
        rendered = [(row, text) for row in some if (text := _rendered(row, tokenizer, found.refused)) is not None]
        if found.refused and on_bad_row == "fail":
            raise DataError(found.refused.words())
        for (row, _), (prompt, *answers) in zip(rendered, _encode(rendered, tokenizer), strict=True):
            room = longest - len(prompt)
            if room < 1 or not prompt:
                found.left_out.add(row.place)
                continue
            truncated += any(len(answer) > room for answer in answers)
            found.examples.extend([Pair(prompt, *(answer[:room] for answer in answers))] * row.times)
    if not found.examples:
        raise DataError(
            f"{(*found.left_out, *found.refused)[0]}: no row has a prompt that leaves room for an answer within "
            f"{longest} tokens; raise tuning_parameters.max_sequence_length or shorten the prompts"
        )
    return Pairs(found.examples, truncated, found.left_out, found.refused)


def _encode(rendered: Sequence[tuple[Row, Texts]], tokenizer: Any) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """What a tokenizer puts around a text is put around texts; a template writes its own."""
    end = tokenizer.eos_token_id
    after = tokenizer([t for _, texts in rendered for t in texts[1:]], add_special_tokens=False, verbose=False)
    for i, (row, (before, _, _)) in enumerate(rendered):
        plain = isinstance(row.value[0], str)
        prompt = tokenizer(before, add_special_tokens=plain, verbose=False)["input_ids"]
        chosen, rejected = after["input_ids"][2 * i : 2 * i + 2]
        if plain:
            prompt = prompt[:-1] if prompt and prompt[-1] == end else prompt
            chosen, rejected = _ended(chosen, end), _ended(rejected, end)
        yield prompt, chosen, rejected


def _ended(ids: list[int], end: int) -> list[int]:
    return ids if ids and ids[-1] == end else [*ids, end]


def _rendered(row: Row, tokenizer: Any, refused: Tally) -> Texts | None:
    """As the texts stand there, or as the chat template writes them: the answers begin where it asks for them."""
    prompt, chosen, rejected = row.value
    if isinstance(prompt, str):
        return prompt, chosen, rejected
    try:
        before = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        wholes = [tokenizer.apply_chat_template(prompt + side, tokenize=False) for side in (chosen, rejected)]
    except _REFUSALS as e:
        refused.add(f"{row.place}: the model's chat template refuses these messages: {e}")
        return None
    at = _common(before, *wholes)
    return wholes[0][:at], wholes[0][at:].rstrip(), wholes[1][at:].rstrip()


def _common(*texts: str) -> int:
    """How many characters all of them begin with in common."""
    shortest = min(map(len, texts))
    return next((i for i in range(shortest) if len({text[i] for text in texts}) > 1), shortest)
