"""Whatever stands in `extra_parameters`: an answer, never a fault of ours."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.asked import Asked
from schemas.converter import structure
from schemas.diffusion import Options, definitions, later
from schemas.diffusion.dataloader import Entry
from schemas.diffusion.document import filled, prepared
from schemas.diffusion.request import read_job
from schemas.fields import shape_of

NAMES = [f"{dashes}{name}" for one in definitions() for name in (one.name, *one.aliases) for dashes in ("", "--")]
WORDS = [
    "",
    "none",
    "None",
    "true",
    "1",
    "0",
    "-1",
    "1e-4",
    "9" * 60,
    "[",
    '[{"id": "a"}]',
    "{}",
    "a,b",
    "full",
    "lora",
]
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=8))
ENTRIES = st.dictionaries(st.sampled_from([*shape_of(Entry).fields, *later.ENTRIES]), LEAVES, max_size=5)
VALUES = st.one_of(LEAVES, st.lists(LEAVES, max_size=3), st.lists(ENTRIES, max_size=3), ENTRIES)
EXTRAS = st.dictionaries(st.sampled_from([*NAMES, *later.OPTIONS, "--", "fsdp_x", "of_others"]), VALUES, max_size=6)


@settings(max_examples=60, deadline=None)
@given(EXTRAS, st.dictionaries(st.sampled_from(["batch_size", "max_steps", "optimizer", "seed"]), LEAVES, max_size=2))
def test_every_document_is_read_or_refused_with_paths(extra: dict[str, Any], tuning: dict[str, Any]) -> None:
    document = {
        "base_model": {"model_name": "owner/name"},
        "datasets": [{"source": "/no/such/folder", "format": "imagefolder"}],
        "tuning_parameters": tuning,
        "extra_parameters": {"model_family": "flux", **extra, "engine": "diffusion"},
    }
    document = dict(filled(prepared(document, Path("/no/such/folder"))).document)
    keys = {name: value for name, value in document["extra_parameters"].items() if name != "engine"}
    alone = structure(keys, Options)
    job, errors = read_job(document, 1, Asked(document).__contains__)
    assert (job is None) == bool(errors)
    assert all(error.path and error.message for error in (*errors, *alone.errors))
    if job is not None:
        assert job.entries and job.options.model_family and json.dumps(document, default=str)
