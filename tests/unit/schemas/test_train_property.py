"""No document makes the converter raise, and every error names a place that the document has."""

import copy
import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.converter import structure, unstructure
from schemas.secrets import mask, same, seal, unmask
from schemas.strict_json import parse_json
from schemas.trail import MOST_NOTES
from schemas.train import TrainRequest
from schemas.values import joined

SEED = parse_json((Path(__file__).parents[2] / "data" / "usage_guide.json").read_bytes())
assert isinstance(SEED, dict)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = [
    "job_id",
    "base_model",
    "customization",
    "datasets",
    "auth",
    "lora",
    "rank",
    "env",
    "labels",
    "source",
    "token",
    "a.b",
    "",
]
keys = st.sampled_from(NAMES) | st.text(max_size=6)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["••••", "lora", "https://u:p@h/?q", "s3://b", "http://169.254.169.254", "jsonl", "2", "job.running"]
    )
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=15
)


def places(value, path=()):
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*path, key))


def check(document):
    found = structure(document, TrainRequest)
    assert (found.value is None) == bool(found.errors)
    here = {joined(*path) for path in places(document)}
    for note in (*found.errors, *found.warnings):
        assert note.message
        parent = note.path.rpartition(".")[0]
        assert note.path in here or (parent or "$") in here, note
    for other in (mask(document), unmask(*_parts(document))):
        assert isinstance(same(mask(other), mask(document)), bool)
    assert same(mask(mask(document)), mask(document))
    if found.value is not None:
        again = unstructure(found.value)
        json.dumps(again, allow_nan=False)
        assert unstructure(structure(again, TrainRequest, masked=True).value) == again
    return found


def _parts(document):
    sealed = seal(document)
    return sealed.document, sealed.values


@QUICK
@given(values)
def test_any_json_value_at_all_is_read_or_refused(value):
    found = structure(value, TrainRequest)
    assert (found.value is None) == bool(found.errors)
    assert len(found.errors) <= MOST_NOTES + 1


@QUICK
@given(st.dictionaries(st.sampled_from([*SEED, *NAMES]), values, max_size=8))
def test_any_object_is_read_or_refused_with_places_that_it_has(document):
    check(document)


@QUICK
@given(st.data())
def test_any_change_of_the_usage_guide_is_read_or_refused_with_places_that_it_has(data):
    document = copy.deepcopy(SEED)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from([path for path in places(document) if path]))
        here = document
        for part in way:
            here = here[part]
        act = data.draw(st.sampled_from(["set", "drop", "add"]))
        if act == "set":
            here[last] = data.draw(values)
        elif act == "drop":
            del here[last]
        elif isinstance(here, dict):
            here[data.draw(keys)] = data.draw(values)
        else:
            here.append(data.draw(values))
    check(document)


@QUICK
@given(st.text(st.characters(categories=["L", "N"]), min_size=8).map(lambda text: "hush" + text), st.data())
def test_a_secret_is_in_nothing_that_is_shown(secret, data):
    document = copy.deepcopy(SEED)
    document["base_model"]["auth_token"] = secret
    document["callbacks"]["webhook_url"] = f"https://u:{secret}@h/?q={secret}"
    document["extra_parameters"] = {
        "env": {"A": secret},
        "deep": {data.draw(st.sampled_from(["my_token", "KEY", "auth"])): [secret]},
    }
    document["unknown_secret"] = {"x": secret}
    document["resources"]["gpus"] = data.draw(st.sampled_from([1, "x"]))
    found = structure(document, TrainRequest)
    shown = repr(found) + json.dumps(
        [mask(document), unstructure(found.value) if found.value else 0], ensure_ascii=False
    )
    assert secret not in shown
