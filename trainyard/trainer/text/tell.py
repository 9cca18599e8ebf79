"""What the text loop tells on its way."""

from typing import Any

from trainyard.trainer.reporting import Reporter
from trainyard.trainer.text.data.material import counted
from trainyard.trainer.text.tokens.tokenise import Tokenised, give_template

_NAMED = 3


def tell_data(
    report: Reporter, data: Tokenised, training: int, held_out: int, longest: int, eval_ratio: float = 0.0
) -> None:
    """What became of the rows."""
    tokens = int(data.examples.lengths.sum())
    report.log(f"{counted(training)} to train on, {held_out} held out, {counted(tokens, 'token', 'tokens')}")
    tell_held_out(report, training, held_out, eval_ratio)
    if data.truncated:
        cut = counted(data.truncated, "row is", "rows are")
        report.log(f"{cut} longer than {longest} tokens and cut to them", level="warning")
    if data.left_out:
        named = ", ".join(data.left_out[:_NAMED]) + (" …" if len(data.left_out) > _NAMED else "")
        report.log(
            f"left out, as there is no target within {longest} tokens: {counted(len(data.left_out))}: {named}",
            level="warning",
        )


def tell_template(report: Reporter, tokenizer: Any) -> None:
    """Give a tokenizer that has no chat template ours, and say so."""
    if give_template(tokenizer):
        report.log("the model has no chat template; messages are written as ChatML, and the result keeps that template")


def tell_held_out(report: Reporter, training: int, held_out: int, eval_ratio: float) -> None:
    """Warn of a share of the rows that was asked for and could not be held out."""
    if eval_ratio > 0 and not held_out:
        report.log(
            f"tuning_parameters.eval_ratio: {eval_ratio:g} of {counted(training)} is none; nothing is held out or "
            "evaluated, which takes at least 2 rows",
            level="warning",
        )
