import json
from enum import Enum
from typing import Annotated, Any

from attrs import field, frozen

from schemas.json_schema import DIALECT, json_schema
from schemas.limits import Doc, Length, Matches, Range
from schemas.train import TrainRequest
from schemas.values import Secret


class Size(Enum):
    BIG = "big"


@frozen(kw_only=True)
class Options:
    """What this backend takes.

    More words.
    """

    partition: Annotated[str, Length(min=1), Doc("where it runs")]
    nodes: Annotated[int, Range(ge=1, lt=10)] = 1
    size: Size = Size.BIG
    name: Annotated[str, Matches("[a-z]+", "letters")] | None = None
    hosts: Annotated[tuple[str, ...], Length(max=3)] = ()
    either: int | bool = field(default=0, metadata={"help": "one of them"})
    key: Secret | None = None
    anything: Any = None


def test_a_class_of_options_is_described_whole():
    assert json_schema(Options) == {
        "$schema": DIALECT,
        "title": "Options",
        "description": "What this backend takes.",
        "type": "object",
        "properties": {
            "partition": {"type": "string", "minLength": 1, "description": "where it runs"},
            "nodes": {"type": ["integer", "null"], "minimum": 1, "exclusiveMaximum": 10, "default": 1},
            "size": {"enum": ["big", None], "default": "big"},
            "name": {"type": ["string", "null"], "pattern": "^(?:[a-z]+)$"},
            "hosts": {"type": ["array", "null"], "items": {"type": "string"}, "maxItems": 3, "default": []},
            "either": {
                "anyOf": [{"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, {"type": "null"}],
                "description": "one of them",
                "default": 0,
            },
            "key": {"type": ["string", "null"], "minLength": 1, "writeOnly": True},
            "anything": {},
        },
        "required": ["partition"],
    }


def test_the_whole_contract_is_described_with_every_class_once():
    schema = json_schema(TrainRequest)
    assert schema["required"] == ["job_id", "base_model", "datasets", "artifacts"]
    assert schema["properties"]["datasets"] == {"type": "array", "items": {"$ref": "#/$defs/Dataset"}, "minItems": 1}
    assert schema["properties"]["labels"]["maxProperties"] == 64
    assert "asked" not in schema["properties"]
    assert {"Customization", "Lora", "Qlora", "DatasetAuth", "ExtraParameters"} <= set(schema["$defs"])
    assert "options" not in schema["$defs"]["ExtraParameters"]["properties"]
    assert schema["$defs"]["Customization"]["properties"]["rank"]["description"] == "LoRA rank"
    json.dumps(schema, allow_nan=False)


def test_every_reference_has_its_definition():
    schema = json_schema(TrainRequest)
    text = json.dumps(schema)
    assert all(part.split('"')[0] in schema["$defs"] for part in text.split("#/$defs/")[1:])
