"""The texts that the demo trains on: the handbook's paragraphs, and the questions and answers."""

import json
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_DATA = CHECKOUT / "examples" / "data"
INSTRUCTIONS = _DATA / "instructions.jsonl"


def paragraphs() -> list[str]:
    """Every paragraph of the handbook; a question and its answer are one paragraph, headings are left out."""
    pages = [path.read_text(encoding="utf-8") for path in sorted((_DATA / "handbook").glob("*.md"))]
    blocks = [block.strip() for page in pages for block in page.split("\n\n")]
    return [block for block in blocks if block and not block.startswith("#")]


def write_handbook(path: Path) -> int:
    """Write the paragraphs as JSONL rows with `text`; how many rows there are."""
    texts = paragraphs()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return len(texts)
