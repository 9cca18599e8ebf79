"""Named queries read from `.sql` files: a line `-- name: x`, a description, the statement."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n((?:--.*\n)+)", re.MULTILINE)


def load(module: str) -> dict[str, str]:
    """The queries of `<module>.sql` in this folder, by name. A query without a description is a `ValueError`."""
    text = files("service.store").joinpath(f"{module}.sql").read_text()
    found = list(_NAME.finditer(text))
    if len(found) != text.count("-- name:"):
        raise ValueError(f"{module}.sql: every query needs a name and a description")
    ends = [m.start() for m in found[1:]] + [len(text)]
    return {m[1]: text[m.end() : end].strip() for m, end in zip(found, ends, strict=True)}


def migrations() -> list[str]:
    """The migrations in order; the first one's number is 1."""
    folder = files("service.store").joinpath("migrations")
    return [p.read_text() for p in sorted(folder.iterdir(), key=lambda p: p.name) if p.name.endswith(".sql")]
