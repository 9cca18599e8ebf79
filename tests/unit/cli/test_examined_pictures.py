"""What a deep validation of an image model's job found, for people."""

from trainyard.cli.examined import findings

ANSWER = {
    "data": {
        "pictures": 12,
        "captions": 11,
        "references": 12,
        "buckets": {"64x64": 8, "64x96": 4},
        "sets": [{"id": "a\x1b[31m", "pictures": 12, "left_out": {"too small": 3}}],
    },
    "model": {"family": "flux", "flavour": "kontext", "trained": "lycoris", "bytes": 3 << 30},
    "memory": {},
    "steps": 1200,
}


def test_pictures_buckets_sets_model_and_steps_are_told() -> None:
    assert list(findings(ANSWER)) == [
        "data      12 pictures, 12 to edit, 11 captions",
        "buckets   64x64: 8, 64x96: 4",
        "set       a [31m: 12, 3 left out",
        "model     flux, kontext, lycoris, 3.00 GiB of files",
        "steps     1,200",
    ]


def test_a_model_that_is_not_here_has_no_size() -> None:
    lines = list(findings({**ANSWER, "model": {"family": "sdxl", "trained": "full"}}))
    assert "model     sdxl, full" in lines


def test_memory_is_told_by_its_largest_parts_where_it_is_known() -> None:
    memory = {"estimate_bytes": 4 << 30, "parts": {"activations": 1 << 30, "weights": 3 << 30, "average": 0}}
    lines = list(findings({**ANSWER, "memory": memory}))
    assert lines[-2] == "memory    about 4.00 GiB at the peak (weights 3.00 GiB, activations 1.00 GiB)"
