"""Keys of `extra_parameters`: a backend's and an engine's in one class, and no key with two owners."""

import pytest
from attrs import field, frozen

from schemas.converter import structure
from schemas.engine_options import KeyTaken, check_keys, options_with
from schemas.json_schema import json_schema
from schemas.text_options import TextOptions


@frozen(kw_only=True)
class Ours:
    """A backend's keys."""

    partition: str = "all"
    nodes: int = field(default=1, metadata={"help": "how many"})

    @classmethod
    def settle(cls, given, document, trail):
        if given.get("nodes") == 13:
            trail.error("is not a good number", "nodes")


def test_both_kinds_of_keys_are_read_together_with_their_own_rules() -> None:
    merged = options_with(Ours)
    read = structure({"partition": "gpu", "processes": 2}, merged)
    assert read.value is not None
    assert (read.value.partition, read.value.nodes, read.value.processes) == ("gpu", 1, 2)  # type: ignore[attr-defined]
    wrong = structure({"processes": 0, "nodes": 13, "partitions": "x"}, merged, prefix="extra_parameters")
    assert [e.path for e in wrong.errors] == ["extra_parameters.processes", "extra_parameters.nodes"]
    assert "did you mean 'partition'" in wrong.warnings[0].message


def test_an_engine_without_keys_of_its_own_leaves_the_backends_alone() -> None:
    for engine in ("command", {"no": "name"}, 7):
        assert set(json_schema(options_with(Ours, engine))["properties"]) == {"partition", "nodes"}


def test_the_schema_describes_both() -> None:
    made = json_schema(options_with(Ours))
    assert set(made["properties"]) == {"partition", "nodes", "processes"}
    assert made["description"] == "A backend's keys."
    assert options_with(Ours) is options_with(Ours, "text")


def test_a_key_of_an_engine_or_of_the_contract_can_not_be_a_backends() -> None:
    @frozen
    class OfTheEngine:
        processes: int = 1

    @frozen
    class OfTheContract:
        merge: bool = False

    with pytest.raises(KeyTaken, match="'processes' of extra_parameters belongs to the backend and to engine 'text'"):
        check_keys(OfTheEngine)
    with pytest.raises(KeyTaken, match="'merge' of extra_parameters belongs to the contract and to the backend"):
        check_keys(OfTheContract)


def test_the_text_engines_keys_are_found_among_others() -> None:
    assert TextOptions.of({"partition": "gpu", "processes": 3}).processes == 3
    assert TextOptions.of({}).processes is None
