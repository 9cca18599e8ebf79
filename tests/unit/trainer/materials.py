"""Looking at a file or a folder as a dataset of a job."""

import json

from trainyard.trainer.text.data import Material, look


def material(path, form="jsonl", **values):
    return Material(**{"at": "datasets[0]", "source": str(path), "path": path, "format": form} | values)


def looked(path, form="jsonl", *, on_bad_row="fail", objective="sft", **values):
    return look([material(path, form, **values)], on_bad_row=on_bad_row, objective=objective)


def written(path, rows):
    """A file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(corpus):
    return [row.value for row in corpus.rows]
