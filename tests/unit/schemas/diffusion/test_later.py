"""What SimpleTuner has and this version has not: refused where it is asked for, passed over where it is off."""

from typing import Any

import pytest

from schemas.converter import structure
from schemas.diffusion import Options, definitions, later
from schemas.diffusion.dataloader import Entry


def meant(nothing: tuple[Any, ...]) -> list[Any]:
    """The values, of a hint some."""
    return [one for value in nothing for one in ((1, 64, 128) if isinstance(value, range) else (value,))]


def errors(cls: type[Any], given: dict[str, Any]) -> dict[str, str]:
    found = structure(given, cls)
    assert found.warnings == ()
    return {e.path: e.message for e in found.errors}


@pytest.mark.parametrize("name", later.OPTIONS)
def test_an_option_that_asks_for_nothing_is_passed_over(name: str) -> None:
    for value in meant(later.OPTIONS[name]):
        assert errors(Options, {name: value}) == {}
        assert errors(Options, {f"--{name}": str(value)}) == {}
    assert "is not in this version" in errors(Options, {name: "something"})[name]


def test_beginnings_of_names_are_refused_when_they_are_switched_on() -> None:
    assert errors(Options, {"fsdp_version": 2, "musubi_blocks_to_swap": 3}).keys() == {
        "fsdp_version",
        "musubi_blocks_to_swap",
    }
    assert errors(Options, {"fsdp_reshard": False, "musubi_blocks_to_swap": 0, "crepa_enabled": "false"}) == {}


@pytest.mark.parametrize("one", [d for d in definitions() if d.later], ids=lambda one: one.name)
def test_a_value_of_a_later_version_is_refused_with_what_would_run(one: Any) -> None:
    for value in one.later:
        message = errors(Options, {one.name: value})[one.name]
        assert message.startswith(f"{value!r} is not in this version; ") and repr(one.choices[0]) in message


@pytest.mark.parametrize("name", later.ENTRIES)
def test_a_field_of_an_entry_that_asks_for_nothing_is_passed_over(name: str) -> None:
    entry = {"id": "a", "instance_data_dir": "/a"}
    for value in meant(later.ENTRIES[name]):
        assert errors(Entry, {**entry, name: value}) == {}
    assert "is not in this version" in errors(Entry, {**entry, name: "something"})[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("type", "aws"), ("dataset_type", "video"), ("crop_style", "face"), ("conditioning_type", "mask")],
)
def test_a_value_of_an_entry_that_is_of_a_later_version_is_refused(name: str, value: str) -> None:
    found = errors(Entry, {"id": "a", "instance_data_dir": "/a", name: value})
    assert "is not in this version" in found[name]


def test_what_a_field_of_the_document_says_is_no_option_here() -> None:
    said = "is said by callbacks.webhook_url here; leave it out"
    assert errors(Options, {"webhook_config": "hooks.json"}) == {"webhook_config": said}
    assert errors(Options, {"num_machines": 1, "main_process_port": "29500"}) == {}


def test_a_hint_of_how_much_is_written_at_once_is_a_number() -> None:
    wrong = {"write_batch_size": 0, "read_batch_size": "all", "metadata_update_interval": True}
    assert wrong.keys() <= later.HINTS
    assert errors(Options, wrong).keys() == wrong.keys()
    assert errors(Entry, {"id": "a", "instance_data_dir": "/a", "write_batch_size": 64}) == {}


def test_no_name_is_both_an_option_and_none() -> None:
    names = {name for one in definitions() for name in (one.name, *one.aliases)}
    assert not names & later.OPTIONS.keys()
    assert not [name for name in names if name.startswith(later.FAMILIES_OF_OPTIONS)]
