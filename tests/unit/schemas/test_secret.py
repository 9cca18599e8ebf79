import copy
import json
import pickle

import attrs
import pytest

from schemas.converter import unstructure
from schemas.values import MASK, FieldError, FieldWarning, Secret, joined

TEXT = "hf_verysecret"


@pytest.mark.parametrize(
    "show", [str, repr, "{}".format, "{!r:>9}".format, "%s".__mod__, lambda s: f"{s}", lambda s: repr([s])]
)
def test_a_secret_shows_itself_as_the_mask(show):
    assert TEXT not in show(Secret(TEXT))
    assert MASK in show(Secret(TEXT))


def test_only_reveal_gives_the_text():
    assert Secret(TEXT).reveal() == TEXT


def test_secrets_compare_and_hash_by_their_text():
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT)}) == 1
    assert Secret("\ud800") == Secret("\ud800")


@pytest.mark.parametrize(
    "leak", [pickle.dumps, json.dumps, lambda s: s.__getstate__(), lambda s: pickle.dumps(s, protocol=0)]
)
def test_a_secret_is_never_serialised_by_accident(leak):
    with pytest.raises(TypeError):
        leak(Secret(TEXT))


def test_a_secret_is_frozen_and_never_falsy():
    secret = Secret("")
    assert secret
    with pytest.raises(AttributeError):
        secret._text = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del secret._text
    assert copy.deepcopy(secret) is copy.copy(secret) is secret


def test_asdict_of_a_class_with_a_secret_keeps_it_a_secret():
    @attrs.frozen
    class Holder:
        token: Secret

    assert attrs.asdict(Holder(Secret(TEXT))) == {"token": Secret(TEXT)}
    assert unstructure(Holder(Secret(TEXT))) == {"token": MASK}


def test_remarks_have_the_form_of_the_wire():
    assert FieldError("a.b", "is bad").to_json() == {"path": "a.b", "message": "is bad"}
    assert unstructure(FieldWarning("a", "is odd")) == {"path": "a", "message": "is odd"}
    assert str(FieldError("a", "is bad")) == "a: is bad"


def test_paths_are_dotted_with_positions_in_brackets():
    assert joined() == "$"
    assert joined("datasets", 0, "format") == "datasets[0].format"
    assert joined(0, "x") == "[0].x"
