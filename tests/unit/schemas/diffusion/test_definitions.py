"""Every option has a typed definition: what others make forms, pages and APIs from."""

import attrs

from schemas.converter import structure, unstructure
from schemas.diffusion import Definition, Options, definitions
from schemas.diffusion.elsewhere import ServiceOptions
from schemas.diffusion.option import GROUPS
from schemas.json_schema import json_schema
from schemas.masking import looks_secret

OWN = [one for one in definitions() if not one.said_by]


def test_a_definition_says_everything() -> None:
    for one in definitions():
        check(one)


def check(one: Definition) -> None:
    assert one.group in GROUPS and one.help, one
    assert one.type in ("boolean", "integer", "number", "string", "list", "json")
    assert not one.help.endswith(".")
    if one.choices and one.default is not None:
        values = one.default if one.type == "list" else [one.default]
        assert set(values) <= set(one.choices)


def test_there_is_one_for_every_option_and_each_in_one_place() -> None:
    names = [one.name for one in definitions()]
    fields = [item.name for cls in (Options, ServiceOptions) for item in attrs.fields(cls)]
    assert sorted(names) == sorted(name for name in fields if name != "on_bad_row")
    assert len(set(names)) == len(names)
    aliases = [alias for one in definitions() for alias in one.aliases]
    assert len({*names, *aliases}) == len(names) + len(aliases)


def test_defaults_are_values_that_are_taken_and_come_back_the_same() -> None:
    usual = Options()
    written = unstructure(usual)
    read = structure(written, Options)
    assert read.value == usual and read.errors == () and read.warnings == ()
    for one in OWN:
        assert written[one.name] == one.default


def test_the_schema_has_every_option_with_its_limits_and_meaning() -> None:
    properties = json_schema(Options)["properties"]
    assert properties.keys() == {one.name for one in OWN}
    assert properties["lora_rank"] == {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": 256,
        "description": "rank; of LyCORIS where its file gives none",
        "default": 16,
    }
    assert "adamw_bf16" in properties["optimizer"]["enum"]


def test_no_option_is_taken_for_a_secret() -> None:
    assert [one.name for one in OWN if looks_secret(one.name)] == []
