"""What a deep validation found, for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainyard.cli.output import plain

_GIB, _MIB = 1 << 30, 1 << 20
_WIDTH = 100
_SHOWN_MODULES = 12
_LEARNED, _END = "⟦", "⟧"


def findings(answer: Mapping[str, Any]) -> Iterator[str]:
    """The lines: data, model, memory, steps, then three rows with what is learned of them between marks."""
    data, model, memory = answer["data"], answer["model"], answer["memory"]
    if "pictures" in data:
        yield from _of_pictures(data, model, memory, answer["steps"])
        return
    yield f"data      {data['rows']:,} rows, {data['tokens']:,} tokens" + (
        f", {data['truncated_share']:.1%} of the rows are cut" if data.get("truncated_share") else ""
    )
    longest = [f"{plain(row['place'])} ({row['tokens']:,} tokens)" for row in data.get("longest_rows", ())[:1]]
    if longest:
        yield f"longest   {longest[0]}"
    share = model["trainable_parameters"] / max(1, model["parameters"])
    trained = f"{model['trainable_parameters']:,} of {model['parameters']:,} parameters are trained ({share:.2%})"
    yield f"model     {trained}"
    yield f"modules   {_named(model['trainable_modules'])}"
    yield f"memory    {_memory(memory)}"
    yield f"steps     {answer['steps']:,}"
    for example in data.get("examples", ()):
        yield ""
        yield f"{plain(example.get('place', 'a row'))}, learned is what stands in {_LEARNED}{_END}:"
        yield f"    {_marked(example['tokens'], example['loss_mask'])}"


def _of_pictures(
    data: Mapping[str, Any], model: Mapping[str, Any], memory: Mapping[str, Any], steps: int
) -> Iterator[str]:
    """The lines of an image model's job: data, buckets, sets, model, memory where it is known, steps."""
    edited = f", {data['references']:,} to edit" if data.get("references") else ""
    yield f"data      {data['pictures']:,} pictures{edited}, {data['captions']:,} captions"
    yield f"buckets   {', '.join(f'{plain(size)}: {count:,}' for size, count in data['buckets'].items())}"
    for one in data["sets"]:
        left = sum(one["left_out"].values())
        yield f"set       {plain(one['id'])}: {one['pictures']:,}" + (f", {left:,} left out" if left else "")
    told = [str(model[name]) for name in ("family", "flavour", "trained") if model.get(name)]
    held = f", {_size(model['bytes'])} of files" if model.get("bytes") else ""
    yield f"model     {plain(', '.join(told))}{held}"
    if memory:
        yield f"memory    {_memory(memory)}"
    yield f"steps     {steps:,}"


def _named(modules: Sequence[str]) -> str:
    shown = ", ".join(map(plain, modules[:_SHOWN_MODULES]))
    more = len(modules) - _SHOWN_MODULES
    return shown + (f" and {more} more" if more > 0 else "")


def _memory(memory: Mapping[str, Any]) -> str:
    whole = memory["estimate_bytes"]
    parts = sorted(memory["parts"].items(), key=lambda part: -part[1])
    shown = [f"{plain(name).replace('_', ' ')} {_size(part)}" for name, part in parts if part > whole / 100]
    there = memory.get("available_bytes")
    said = f"about {_size(whole)} at the peak" + (f" of {_size(there)} that are there" if there else "")
    return said + (f" ({', '.join(shown)})" if shown else "")


def _size(count: float) -> str:
    return f"{count / _GIB:.2f} GiB" if count >= _GIB else f"{count / _MIB:.0f} MiB"


def _marked(tokens: Sequence[str], mask: Sequence[int]) -> str:
    """The text of a row, what is learned between marks; its middle is left out where it is long."""
    text, inside = "", False
    for token, learned in zip(tokens, mask, strict=False):
        if bool(learned) != inside:
            text += _LEARNED if learned else _END
            inside = bool(learned)
        text += token
    text = plain((text + (_END if inside else "")).replace("\n", "⏎"))
    return text if len(text) <= 6 * _WIDTH else f"{text[: 3 * _WIDTH]} … {text[-3 * _WIDTH :]}"
