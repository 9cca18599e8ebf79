"""Rows made into tokens, with a mark on those to be learned."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from jinja2 import TemplateError

from trainyard.trainer.failures import DataError
from trainyard.trainer.text.rows import Row

_ROWS_AT_ONCE = 1_000
_TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + END + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
Span = tuple[int, int]


@frozen(eq=False)
class Example:
    """The tokens of a row and which of them are learned."""

    ids: np.ndarray
    learned: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> int:
        """Tokens that count in the loss; the first token of a row is never predicted."""
        return int(self.learned[1:].sum())


@frozen
class Tokenised:
    """All examples, and what had to be cut or left out for length."""

    examples: tuple[Example, ...]
    truncated: int
    left_out: tuple[str, ...]


def give_template(tokenizer: Any) -> bool:
    """Give a tokenizer without a chat template the default one, ChatML with the tokenizer's own end of turn."""
    if tokenizer.chat_template:
        return False
    ends = "<|im_end|>" in tokenizer.get_vocab()
    tokenizer.chat_template = _TURNS.replace("END", "'<|im_end|>'" if ends else "eos_token")
    return True


def tokenise(rows: Sequence[Row], tokenizer: Any, longest: int, check: Callable[[], None]) -> Tokenised:
    """Tokens of all rows, each cut to `longest`. Raises `DataError` when nothing to learn is left."""
    examples: list[Example] = []
    left_out: list[str] = []
    truncated = 0
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        check()
        some = rows[at : at + _ROWS_AT_ONCE]
        for row, (ids, learned) in zip(some, _encode(some, tokenizer), strict=True):
            truncated += len(ids) > longest
            example = Example(np.array(ids[:longest], np.int32), np.array(learned[:longest], np.bool_))
            if example.targets:
                examples.append(example)
            else:
                left_out.append(row.place)
    if not examples:
        raise DataError(
            f"{left_out[0]}: no row has a target to learn within {longest} tokens; "
            "raise tuning_parameters.max_sequence_length or shorten what comes before the answers"
        )
    return Tokenised(tuple(examples), truncated, tuple(left_out))


Encoded = tuple[list[int], list[bool]]


def _encode(rows: Sequence[Row], tokenizer: Any) -> Iterator[Encoded]:
    """The rows' tokens in their order; each shape goes through the tokenizer in one call."""
    done: dict[int, Encoded] = {}
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


def _conversations(rows: Sequence[Row], tokenizer: Any) -> Iterable[Encoded]:
    rendered = [_rendered(row, tokenizer) for row in rows]
    encoded = tokenizer(
        [text for text, _ in rendered], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    for ids, offsets, (_, spans) in zip(encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True):
        yield ids, _within(offsets, spans)


def _ended(ids: list[int], tokenizer: Any) -> list[int]:
    return ids if ids and ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]


def _rendered(row: Row, tokenizer: Any) -> tuple[str, list[Span]]:
    """The conversation as the template writes it, and where the assistant speaks, its end of turn included."""

    def render(turns: list[dict[str, str]], prompt: bool = False) -> str:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))

    turns: list[dict[str, str]] = row.value
    spans: list[Span] = []
    try:
        whole = render(turns)
        for i, turn in enumerate(turns):
            if turn["role"] != "assistant" or not turn["content"].strip():
                continue
            before, after = render(turns[:i], prompt=True), render(turns[: i + 1])
            after = after.rstrip()
            if i and whole.startswith(after) and after.startswith(before):
                spans.append((len(before), len(after)))
            else:
                spans.append(_found(whole, turn["content"].strip(), spans[-1][1] if spans else 0, row))
    except TemplateError as e:
        raise DataError(f"{row.place}: the model's chat template refuses these messages: {e}") from e
    return whole, spans


def _found(whole: str, content: str, start: int, row: Row) -> Span:
    at = whole.find(content, start)
    if at < 0:
        raise DataError(f"{row.place}: the model's chat template does not show the assistant's turn {content[:40]!r}")
    return at, at + len(content)


def _within(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Which tokens begin inside one of the spans; both run from left to right."""
    learned, present = [], iter([*spans, (1 << 62, 1 << 62)])
    start, end = next(present)
    for first, last in offsets:
        while first >= end:
            start, end = next(present)
        learned.append(first >= start and last > first)
    return learned
