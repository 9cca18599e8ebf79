"""The converter on classes of its own, as a backend's Options are."""

from collections.abc import Mapping
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from attrs import field, frozen

from schemas.converter import structure, unstructure
from schemas.fields import REST
from schemas.limits import Length, Matches, Range
from schemas.trail import MOST_NOTES
from schemas.values import MASK, FieldError, Secret


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@frozen
class Inner:
    name: str


@frozen(kw_only=True)
class Options:
    count: Annotated[int, Range(ge=1)] = 1
    share: Annotated[float, Range(ge=0, lt=1)] = 0.0
    on: bool = False
    text: Annotated[str, Length(min=1)] | None = None
    short: Annotated[str, Matches("[a-z]+", "lower-case letters")] = "a"
    color: Color = Color.RED
    level: Level = Level.LOW
    mode: Literal["fast", "slow"] = "fast"
    one_or_two: Literal[1, 2] = 1
    items: list[int] = field(factory=list)
    names: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(factory=dict)
    either: int | str = 0
    where: Path | None = None
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    secret: Secret | None = None
    secrets: tuple[Secret, ...] = ()
    free: Any = None


@frozen
class Open:
    known: int = 0
    options: Mapping[str, Any] = field(factory=dict, metadata=REST)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", "abc", "must be an integer ≥ 1, got 'abc'"),
        ("count", "1", "must be an integer ≥ 1, got '1'"),
        ("count", 0, "must be an integer ≥ 1, got 0"),
        ("count", True, "must be an integer ≥ 1, got true"),
        ("count", 1.5, "must be an integer ≥ 1, got 1.5"),
        ("count", 2**53 + 1, "must be an integer ≥ 1, got 9007199254740993; integers go up to 2^53"),
        ("count", 1e17, "must be an integer ≥ 1, got 1e+17; integers go up to 2^53"),
        ("count", [], "must be an integer ≥ 1, got a list"),
        ("share", 1, "must be a number ≥ 0 and < 1, got 1"),
        ("share", False, "must be a number ≥ 0 and < 1, got false"),
        ("share", float("nan"), "must be a number ≥ 0 and < 1, got nan"),
        ("share", float("inf"), "must be a number ≥ 0 and < 1, got inf"),
        ("on", 1, "must be true or false, got 1"),
        ("on", "true", "must be true or false, got 'true'"),
        ("text", "", "must be a string that is not empty, got ''"),
        ("text", 3, "must be a string that is not empty, got 3"),
        ("short", "A", "must be lower-case letters, got 'A'"),
        ("short", "x" * 81 + "!", f"must be lower-case letters, got '{'x' * 80}…'"),
        ("color", "rad", "must be 'red', got 'rad'; did you mean 'red'?"),
        ("level", True, "must be 1, got true"),
        ("mode", "fst", "must be one of 'fast', 'slow', got 'fst'; did you mean 'fast'?"),
        ("mode", {}, "must be one of 'fast', 'slow', got an object"),
        ("one_or_two", True, "must be one of 1, 2, got true"),
        ("items", {}, "must be a list, got an object"),
        ("items", "abc", "must be a list, got 'abc'"),
        ("sizes", [], "must be an object, got a list"),
        ("either", None, None),
        ("either", [], "must be an integer or a string, got a list"),
        ("inner", 3, "must be an object with name, got 3"),
        ("secret", 3, "must be a string that is not empty, got a number"),
        ("secret", "", "must be a string that is not empty, got an empty string"),
        ("secret", MASK, f"holds {MASK}, the mask of a secret: give the secret itself, or leave it out"),
        ("secrets", "hush", "must be a list, got a string"),
        ("free", [MASK], None),
    ],
)
def test_a_wrong_value_gets_one_phrase_from_type_and_limits(name, value, message):
    errors = structure({name: value}, Options).errors
    if message is None:
        assert [error.path for error in errors] == (["free[0]"] if name == "free" else [])
    else:
        assert errors == (FieldError(name, message),)


@pytest.mark.parametrize(
    ("document", "name", "value"),
    [
        ({"count": 16.0}, "count", 16),
        ({"share": 0}, "share", 0),
        ({"count": None}, "count", 1),
        ({"text": None}, "text", None),
        ({"sizes": {"a": None, "b": 1}}, "sizes", {"b": 1}),
        ({"items": [1, 2]}, "items", [1, 2]),
        ({"names": ["a"]}, "names", ("a",)),
        ({"either": "x"}, "either", "x"),
        ({"color": "red"}, "color", Color.RED),
        ({"level": 1}, "level", Level.LOW),
        ({"where": "/x"}, "where", Path("/x")),
        ({"inner": {"name": "n"}}, "inner", Inner("n")),
        ({"secret": "s"}, "secret", Secret("s")),
        ({"free": {"a": [1, None]}}, "free", {"a": [1, None]}),
    ],
)
def test_right_values_are_read(document, name, value):
    found = structure(document, Options)
    assert found.errors == ()
    assert getattr(found.value, name) == value
    assert type(getattr(found.value, name)) is type(value)


def test_every_error_comes_at_once_with_its_path():
    document = {
        "count": 0,
        "items": [1, "a", None],
        "sizes": {"x": "y"},
        "inner": {},
        "inners": [{"name": 1}, 2],
        "mode": 1,
    }
    paths = [error.path for error in structure(document, Options, prefix="extra").errors]
    assert paths == [
        "extra.count",
        "extra.items[1]",
        "extra.items[2]",
        "extra.sizes.x",
        "extra.inner.name",
        "extra.inners[0].name",
        "extra.inners[1]",
        "extra.mode",
    ]


@pytest.mark.parametrize("document", [None, [], "x", 3, True])
def test_a_document_that_is_no_object_is_an_error_at_its_root(document):
    assert structure(document, Options).errors[0].path == "$"


def test_unknown_keys_are_warnings_with_the_nearest_name_and_errors_when_strict():
    document = {"cuont": 1, "zzz": 2, "name": "elsewhere"}
    found = structure(document, Options)
    assert found.value == Options()
    assert [str(warning) for warning in found.warnings] == [
        "cuont: is not a known field; did you mean 'count'?",
        "zzz: is not a known field",
        "name: is not a known field; did you mean 'names'?",
    ]
    strict = structure(document, Options, strict=True)
    assert strict.value is None
    assert [error.path for error in strict.errors] == ["cuont", "zzz", "name"]


def test_the_field_of_the_rest_takes_the_keys_that_nobody_knows():
    assert structure({"known": 1, "x": {"y": 1}, "z": None}, Open).value == Open(1, {"x": {"y": 1}})
    assert structure({"x": {"y": [MASK]}}, Open).errors[0].path == "x.y[0]"


def test_a_masked_document_of_our_own_may_hold_masks():
    assert structure({"secret": MASK}, Options, masked=True).value == Options(secret=Secret(MASK))


def test_a_flood_of_errors_or_unknown_keys_is_counted_not_listed():
    errors = structure({"items": ["x"] * 10_000}, Options).errors
    assert len(errors) == MOST_NOTES + 1
    assert errors[-1] == FieldError("$", f"has {10_000 - MOST_NOTES} more errors")
    warnings = structure({f"key{n}": n for n in range(10_000)}, Options).warnings
    assert len(warnings) == MOST_NOTES + 1


def test_long_keys_are_cut_in_paths():
    assert len(structure({"k" * 10_000: 1}, Options).warnings[0].path) < 100


def test_unstructure_gives_plain_json_with_secrets_masked():
    value = Options(
        secret=Secret("hush"), items=[1], free={"api_key": "x", "url": "https://u:p@h/?t=1"}, inner=Inner("n")
    )
    assert unstructure(value) == {
        "count": 1, "share": 0.0, "on": False, "text": None, "short": "a", "color": "red", "level": 1, "mode": "fast",
        "one_or_two": 1, "items": [1], "names": [], "sizes": {}, "either": 0, "where": None, "inner": {"name": "n"},
        "inners": [], "secret": MASK, "secrets": [], "free": {"api_key": MASK, "url": "https://••••@h/?••••"},
    }  # fmt: skip
