"""A training step in one line."""

from collections.abc import Mapping

from trainyard.cli.output import duration, number


def progress_line(data: Mapping[str, object]) -> str:
    """`step 30/100  epoch 1.2  loss 2.31  lr 0.0002  812 tokens/s  eta 0:01:10`, with what is known."""
    parts: list[str] = []
    if data.get("step") is not None:
        total = data.get("total_steps")
        parts.append(f"step {number(data['step'])}" + ("" if total is None else f"/{number(total)}"))
    for key, name in (("epoch", "epoch"), ("loss", "loss"), ("learning_rate", "lr")):
        if data.get(key) is not None:
            parts.append(f"{name} {number(data[key])}")
    for key in ("tokens", "samples"):
        speed = data.get(f"{key}_per_second")
        if speed is not None:
            parts.append(f"{number(speed)} {key}/s")
    if data.get("eta_seconds") is not None:
        parts.append(f"eta {duration(data['eta_seconds'])}")
    return "  ".join(parts)
