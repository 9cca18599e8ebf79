import copy
import json
from typing import Annotated

import pytest
from attrs import frozen

from schemas.converter import structure, unstructure
from schemas.limits import Doc
from schemas.masking import looks_secret
from schemas.secrets import comparable, mask, same, seal, secret_values, unmask
from schemas.train import TrainRequest
from schemas.values import MASK, Secret


@pytest.fixture
def full(small):
    """A document with a secret in every kind of place; each holds the word HUSH."""
    small["base_model"] |= {
        "auth_token": "HUSH1",
        "huggingface_token": "HUSH2",
        "weights_url": "https://u:HUSH3@h/w?s=HUSH3",
    }
    small["datasets"][0] |= {
        "source": "s3://b/k?sig=HUSH4",
        "auth": {"token": "HUSH5", "password": "HUSH6", "username": "me"},
    }
    small["datasets"][0]["auth"] |= {
        "aws_access_key_id": "HUSH7",
        "aws_secret_access_key": "HUSH8",
        "role_arn": "arn:x",
    }
    small["artifacts"] |= {"log_uri": "https://HUSH9@h/x", "auth": {"aws_session_token": "HUSH10"}}
    small["callbacks"] = {"webhook_url": "https://h/?t=HUSH11", "auth_header": "Bearer HUSH12"}
    small["customization"] = {"peft": {"config": {"my_token": "HUSH13", "num_virtual_tokens": 20, "task_type": "X"}}}
    small["extra_parameters"] = {
        "env": {"ANY": "HUSH14"},
        "command": ["sh", "--url=https://u:HUSH15@h/"],
        "wandb_API_KEY": "HUSH16",
        "deep": [{"author": "me", "Passwords": ["HUSH17", {"x": "HUSH18"}]}],
        "proxy": "http://u:HUSH19@proxy:80",
        "tokenizer": "open",
    }
    small["unknown"] = {"secret_thing": {"a": "HUSH20"}, "plain": "open"}
    small["authority"] = "HUSH21"
    small["labels"] = {"key": "open", "see": "https://h/?q=HUSH22"}
    return small


def test_no_secret_is_seen_in_anything_that_is_shown(full):
    found = structure(full, TrainRequest)
    assert found.errors == ()
    for shown in (
        repr(found),
        str(found.value),
        json.dumps(unstructure(found.value)),
        json.dumps(mask(full)),
        repr(seal(full)),
    ):
        assert "HUSH" not in shown


def test_every_secret_is_handed_over_by_its_path(full):
    values = secret_values(full)
    assert len(values) == 22
    assert all("HUSH" in text for text in values.values())
    assert values["base_model.weights_url"] == "https://u:HUSH3@h/w?s=HUSH3"
    assert values["datasets[0].auth.password"] == "HUSH6"
    assert values["extra_parameters.env.ANY"] == "HUSH14"
    assert values["extra_parameters.deep[0].Passwords[1].x"] == "HUSH18"


def test_what_is_no_secret_stays(full):
    masked = mask(full)
    assert masked["base_model"]["weights_url"] == "https://••••@h/w?••••"
    assert masked["datasets"][0]["auth"] == {
        "token": MASK, "password": MASK, "username": "me", "aws_access_key_id": MASK, "aws_secret_access_key": MASK,
        "role_arn": "arn:x",
    }  # fmt: skip
    assert masked["customization"]["peft"]["config"]["num_virtual_tokens"] == 20
    assert masked["extra_parameters"]["tokenizer"] == "open"
    assert masked["extra_parameters"]["deep"][0]["author"] == "me"
    assert masked["labels"] == {"key": "open", "see": "https://h/?••••"}


def test_masking_changes_nothing_of_the_document_and_twice_is_once(full):
    before = copy.deepcopy(full)
    masked = mask(full)
    assert full == before
    assert mask(masked) == masked
    assert secret_values(masked) == {}


def test_sealed_and_put_back_is_the_document(full):
    sealed = seal(full)
    assert unmask(sealed.document, sealed.values) == full
    assert unmask(sealed.document, {}) == sealed.document


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"base_model": "x"},
        {"datasets": {"a": 1}},
        {"callbacks": {"auth_header": {"x": "HUSH", "y": 3}}},
        {"base_model": {"auth_token": ["HUSH"]}},
        {"extra_parameters": {"env": ["HUSH"]}},
    ],
)
def test_wrong_documents_are_masked_too(document):
    assert "HUSH" not in json.dumps(mask(document))


def test_an_empty_text_is_no_secret(small):
    small["extra_parameters"] = {"rows": [{"aws_secret_access_key": "", "api_key": 0}], "token": ""}
    sealed = seal(small)
    assert sealed.document["extra_parameters"] == {
        "rows": [{"aws_secret_access_key": "", "api_key": MASK}],
        "token": "",
    }
    assert sealed.values == {"extra_parameters.rows[0].api_key": "0"}


@frozen
class Options:
    api_key: Secret | None = None
    max_keys: Annotated[int, Doc("how many")] = 1


def test_a_backends_own_options_are_known_fields(small):
    small["extra_parameters"] = {"api_key": "HUSH", "max_keys": 3}
    assert mask(small, options=Options)["extra_parameters"] == {"api_key": MASK, "max_keys": 3}
    assert mask(small)["extra_parameters"] == {"api_key": MASK, "max_keys": MASK}


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("passwd", True),
        ("PassWord", True),
        ("apiKey", True),
        ("x_auth", True),
        ("client_secret", True),
        ("passphrase", False),
        ("author", False),
        ("rank", False),
        ("Tokenizer", False),
    ],
)
def test_names_that_look_secret(name, secret):
    assert looks_secret(name) is secret


def test_the_same_document_is_the_same_in_any_order_and_with_other_secrets(full):
    other = json.loads(json.dumps(full).replace("HUSH", "OTHER"))
    other = dict(reversed(other.items())) | {"priority": None, "resources": {"gpus": 1.0}}
    full["resources"] = {"gpus": 1, "gpu_type": None}
    assert same(mask(other), mask(full))
    assert comparable(mask(full)) == comparable(full)
    del other["base_model"]["auth_token"]
    assert same(mask(other), mask(full))


@pytest.mark.parametrize(
    "change", [{"priority": 1}, {"priority": 0}, {"labels": {"a": "b"}}, {"zzz": 1}, {"zzz": True}]
)
def test_another_document_is_another(small, change):
    assert not same(mask(small | change), mask(small))
    assert not same(mask(small | {"zzz": 1}), mask(small | {"zzz": True}))
