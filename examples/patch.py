"""Prints a document with a JSON merge patch applied: `python patch.py FILE PATCH`; PATCH is JSON, or a file of it."""

import json
import sys
from pathlib import Path
from typing import Any


def merged(document: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null takes away, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    whole = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        whole[key] = merged(whole.get(key), value)
        if value is None:
            del whole[key]
    return whole


if __name__ == "__main__":
    file, patch = sys.argv[1:]
    text = patch if patch.lstrip().startswith("{") else Path(patch).read_text(encoding="utf-8")
    print(json.dumps(merged(json.loads(Path(file).read_text(encoding="utf-8")), json.loads(text)), indent=2))
