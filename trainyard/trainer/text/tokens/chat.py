"""Conversations as a model's chat template writes them, and where in that text the assistant speaks."""

import re
from typing import Any

from jinja2 import TemplateError

from trainyard.trainer.text.data.material import RowError
from trainyard.trainer.text.data.turns import in_common

#: A private character: no template and no row has it.
_MARK = "\ue000\ue001\ue000"
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SHOWN = 40
_REFUSALS = (TemplateError, TypeError, ValueError, KeyError)
_TURNS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + END + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
Span = tuple[int, int]
Turn = dict[str, str]


def give_template(tokenizer: Any) -> bool:
    """Give a tokenizer without a chat template the default one, ChatML with the tokenizer's own end of turn."""
    if tokenizer.chat_template:
        return False
    ends = "<|im_end|>" in tokenizer.get_vocab()
    tokenizer.chat_template = _TURNS.replace("END", "'<|im_end|>'" if ends else "eos_token")
    return True


class Chat:
    """A tokenizer's chat template. What it marks by `{% generation %}` is learned, else what this finds."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._template = str(tokenizer.get_chat_template())
        self._marks = bool(_MARKED.search(self._template))

    def rendered(self, turns: list[Turn]) -> tuple[str, list[Span]]:
        """The text of a conversation, and the assistant's turns in it, each with its end of turn. Raises `RowError`."""
        try:
            if self._marks:
                return self._as_marked(turns)
            whole = self._render(turns)
            said = [i for i, turn in enumerate(turns) if turn["role"] == "assistant" and turn["content"].strip()]
            return whole, [self._between(turns, i, whole) or self._around(turns, i, whole) for i in said]
        except _REFUSALS as e:
            if isinstance(e, RowError):
                raise
            raise RowError(f"the model's chat template refuses these messages: {e}") from e

    def _render(self, turns: list[Turn], prompt: bool = False) -> str:
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))

    def _as_marked(self, turns: list[Turn]) -> tuple[str, list[Span]]:
        """What transformers' `return_assistant_tokens_mask` goes by: the places in the text, not yet in tokens."""
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered, places = render_jinja_template(
            conversations=[turns],
            chat_template=self._template,
            return_assistant_tokens_mask=True,
            **self._tokenizer.special_tokens_map,
        )
        return rendered[0], [(start, end) for start, end in places[0] if end > start]

    def _between(self, turns: list[Turn], i: int, whole: str) -> Span | None:
        """From what the turns before it are with a prompt for an answer, to what they are with it.

        None where the template writes a beginning otherwise than it writes the whole, or the turn otherwise than it is.
        """
        if i == 0:
            return None
        try:
            before = self._render(turns[:i], prompt=True)
            after = (whole if i + 1 == len(turns) else self._render(turns[: i + 1])).rstrip()
        except _REFUSALS:
            return None
        ends = turns[i]["content"].strip()[-_SHOWN:]
        if whole.startswith(after) and after.startswith(before) and ends in after[len(before) :]:
            return len(before), len(after)
        return None

    def _around(self, turns: list[Turn], i: int, whole: str) -> Span:
        """What changes when another word is put in the turn's place, and the end of turn that follows it."""
        other = {**turns[i], "content": _MARK}
        head, found, tail = self._render([*turns[:i], other, *turns[i + 1 :]]).partition(_MARK)
        start = in_common(head, whole)
        end = len(whole) - in_common(tail[::-1], whole[start:][::-1])
        if not found or end <= start:
            shown = turns[i]["content"].strip()[:_SHOWN]
            raise RowError(f"the model's chat template does not show the assistant's turn {shown!r}")
        closing = self._closing(turns[:i], other)
        return start, end + self._standing(closing, whole[end : end + len(closing)])

    def _standing(self, closing: str, behind: str) -> int:
        """How much of an end of turn stands behind a turn: all, or the tokens before what only the last one is given.

        So does a template write it that ends the whole conversation with an end of text.
        """
        common = in_common(closing, behind)
        if common == len(closing):
            return common
        tokens = self._tokenizer(closing, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return len(closing[: max((end for _, end in tokens if end <= common), default=0)].rstrip())

    def _closing(self, before: list[Turn], turn: Turn) -> str:
        """The end of turn: what follows a turn that is the last one; nothing where the template refuses such a list."""
        try:
            return self._render([*before, turn]).partition(_MARK)[2].rstrip()
        except _REFUSALS:
            return ""
