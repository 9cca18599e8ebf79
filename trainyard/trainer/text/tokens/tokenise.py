"""Rows made into tokens, with a mark on those to be learned."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import frozen

from trainyard.trainer.failures import DataError
from trainyard.trainer.tally import Tally
from trainyard.trainer.text.data import Row, in_parts
from trainyard.trainer.text.data.material import RowError
from trainyard.trainer.text.tokens.chat import Chat, Span, give_template
from trainyard.trainer.text.tokens.examples import Example, Examples, Writer

__all__ = ["Example", "Examples", "Tokenised", "give_template", "tokenise"]

_ROWS_AT_ONCE = 1_000


@frozen
class Tokenised:
    """All examples, and what had to be cut or left out: for length, or because the chat template refused it."""

    examples: Examples
    truncated: int
    left_out: Tally
    refused: Tally


def tokenise(
    rows: Iterable[Row],
    tokenizer: Any,
    longest: int,
    check: Callable[[], None],
    *,
    on_bad_row: str = "fail",
    folder: Path | None = None,
) -> Tokenised:
    """Tokens of all rows, each cut to `longest`; in files under `folder` where one is given.

    The rows are gone through once, in their order, a thousand at a time. Raises `DataError` when the chat template
    refuses a row (with `on_bad_row` `skip` it is left out) and when nothing to learn is left.
    """
    left_out, refused = Tally(), Tally()
    truncated = kept = 0
    with closing(Writer(folder)) as writer:
        for some in in_parts(rows, _ROWS_AT_ONCE):
            check()
            for row, encoded in zip(some, _encode(some, tokenizer), strict=True):
                if isinstance(encoded, RowError):
                    refused.add(f"{row.place}: {encoded}")
                    continue
                ids, learned = encoded
                truncated += len(ids) > longest
                if True in learned[1:longest]:
                    writer.add(ids[:longest], learned[:longest], row.times)
                    kept += 1
                else:
                    left_out.add(row.place)
            writer.flush()
        if refused and (on_bad_row != "skip" or not kept):
            raise DataError(refused.words())
        if not kept:
            raise DataError(
                f"{left_out[0]}: no row has a target to learn within {longest} tokens; "
                "raise tuning_parameters.max_sequence_length or shorten what comes before the answers"
            )
        return Tokenised(writer.examples(), truncated, left_out, refused)


Encoded = tuple[list[int], list[bool]]


def _encode(rows: Sequence[Row], tokenizer: Any) -> Iterator[Encoded | RowError]:
    """The rows' tokens in their order; each shape goes through the tokenizer in one call."""
    done: dict[int, Encoded | RowError] = {}
    for kind, encode in (("text", _texts), ("completion", _completions), ("messages", _conversations)):
        at = [i for i, row in enumerate(rows) if row.kind == kind]
        if at:
            done.update(zip(at, encode([rows[i] for i in at], tokenizer), strict=True))
    return (done[i] for i in range(len(rows)))


def _texts(rows: Sequence[Row], tokenizer: Any) -> Iterable[Encoded]:
    for ids in tokenizer([row.value for row in rows], verbose=False)["input_ids"]:
        ended = _ended(ids, tokenizer)
        yield ended, [True] * len(ended)


def _completions(rows: Sequence[Row], tokenizer: Any) -> Iterable[Encoded]:
    """Prompt and completion are tokenised apart: the prompt's tokens are then those of a prompt given alone."""
    prompts = tokenizer([row.value[0] for row in rows], verbose=False)["input_ids"]
    answers = tokenizer([row.value[1] for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
    for prompt, answer in zip(prompts, answers, strict=True):
        before = prompt[:-1] if prompt and prompt[-1] == tokenizer.eos_token_id else prompt
        after = _ended(answer, tokenizer)
        yield before + after, [False] * len(before) + [True] * len(after)


def _conversations(rows: Sequence[Row], tokenizer: Any) -> Iterable[Encoded | RowError]:
    chat = Chat(tokenizer)
    rendered = [_rendered(chat, row) for row in rows]
    texts = [found[0] for found in rendered if not isinstance(found, RowError)]
    if not texts:
        return rendered  # type: ignore[return-value]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    tokens = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return (found if isinstance(found, RowError) else _marked(*next(tokens), found[1]) for found in rendered)


def _rendered(chat: Chat, row: Row) -> tuple[str, list[Span]] | RowError:
    try:
        return chat.rendered(row.value)
    except RowError as e:
        return e


def _ended(ids: list[int], tokenizer: Any) -> list[int]:
    return ids if ids and ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]


def _marked(ids: list[int], offsets: Sequence[Span], spans: Sequence[Span]) -> Encoded:
    """The tokens that begin inside one of the spans are learned; both run from left to right."""
    learned, present = [], iter([*spans, (1 << 62, 1 << 62)])
    start, end = next(present)
    for first, last in offsets:
        while first >= end:
            start, end = next(present)
        learned.append(first >= start and last > first)
    return ids, learned
