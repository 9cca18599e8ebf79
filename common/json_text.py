"""JSON texts that the service writes itself, in the shortest time: a submission makes five of them."""

import orjson


def to_text(value: object) -> str:
    """Compact JSON of plain values; NaN and infinities become null.

    Raises `TypeError` for what is no JSON: other keys than strings, integers beyond 64 bits, half of a surrogate pair.
    """
    return orjson.dumps(value).decode()
