"""What a row may look like, and what it is made into."""

import pytest

from trainyard.trainer.text.data.material import RowError
from trainyard.trainer.text.data.shapes import has_target, shape

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHARED = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


@pytest.mark.parametrize(
    ("row", "kind", "value"),
    [
        ({"text": "t"}, "text", "t"),
        ({"prompt": "p", "completion": "c", "text": "t"}, "completion", ("p", "c")),
        ({"input": "i", "output": "o"}, "completion", ("i", "o")),
        (
            {"instruction": "Add.", "input": "2 2", "output": "4"},
            "completion",
            ("### Instruction:\nAdd.\n\n### Input:\n2 2\n\n### Response:\n", "4"),
        ),
        ({"instruction": "Go.", "output": "o"}, "completion", ("### Instruction:\nGo.\n\n### Response:\n", "o")),
        (
            {"instruction": "{input}", "input": None, "output": "o"},
            "completion",
            ("### Instruction:\n{input}\n\n### Response:\n", "o"),
        ),
        ({"messages": TALK, "chosen": TALK, "rejected": TALK}, "messages", TALK),
        ({"conversations": TALK}, "messages", TALK),
        ({"conversations": SHARED}, "messages", TALK),
        ({"system": "s", "conversations": SHARED}, "messages", [{"role": "system", "content": "s"}, *TALK]),
        ({"messages": None, "text": "t"}, "text", "t"),
    ],
)
def test_a_shape_is_known_by_its_keys(row, kind, value):
    assert shape(row, "sft") == (kind, value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "?"}, "its keys: 'question'"),
        ({"text": 4}, "text must be a string, got a number"),
        ({"text": True}, "text must be a string, got true or false"),
        ({"text": b"x"}, "text must be a string, got bytes"),
        ({"prompt": "p"}, "completion is missing"),
        ({"completion": "c"}, "prompt is missing"),
        ({"prompt": "p", "completion": None}, "completion must be a string, got null"),
        ({"instruction": "i"}, "output is missing; a row of instruction and output needs both"),
        ({"messages": []}, "got an empty list"),
        ({"messages": ["x"]}, r"messages\[0\] must be an object"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "got 'wizard'"),
        ({"messages": [{"role": ["user"], "content": ""}]}, r"got \['user'\]"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, r"messages\[0\].content must be a string"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, r"messages\[0\].tool_calls"),
        ({"conversations": [{"from": "elf", "value": "x"}]}, r"conversations\[0\].from must be one of .*got 'elf'"),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "needs tuning_parameters.objective 'dpo'"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(row, words):
    with pytest.raises(RowError, match=words):
        shape(row, "sft")


def test_only_an_answer_that_says_something_is_a_target():
    assert has_target("messages", TALK) and not has_target("messages", TALK[:1])
    assert not has_target("completion", ("p", " \n")) and not has_target("text", "")


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, ("p", "a", "b")),
        ({"chosen": "Human: hi\nBot: yes", "rejected": "Human: hi\nBot: yet"}, ("Human: hi\nBot:", " yes", " yet")),
        ({"chosen": "Q: A", "rejected": "Q: A and"}, ("Q:", " A", " A and")),
    ],
)
def test_preferences_of_texts(row, pair):
    assert shape(row, "dpo") == ("preference", pair)


@pytest.mark.parametrize("prompt", [None, "q", TALK[:1]])
def test_preferences_of_messages_have_their_prompt_once(prompt):
    worse = [TALK[0], {"role": "assistant", "content": "b"}]
    pair = (TALK[:1], TALK[1:], worse[1:])
    assert shape({"prompt": prompt, "chosen": TALK, "rejected": worse}, "dpo") == ("preference", pair)
    if prompt:
        assert shape({"prompt": prompt, "chosen": TALK[1:], "rejected": worse[1:]}, "dpo") == ("preference", pair)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "t"}, "has no chosen and rejected, which objective 'dpo' learns from"),
        ({"prompt": "p", "chosen": "a"}, "rejected is missing"),
        ({"prompt": "p", "chosen": "a", "rejected": TALK}, "both be strings or both be messages"),
        ({"chosen": "a", "rejected": "b"}, "prompt is missing"),
        ({"chosen": TALK[1:], "rejected": TALK[1:]}, "prompt is missing"),
        ({"prompt": TALK, "chosen": "a", "rejected": "b"}, "prompt must be a string"),
        ({"prompt": "p", "chosen": TALK[:1], "rejected": TALK[1:]}, "chosen must end with a message of the assistant"),
    ],
)
def test_what_is_wrong_with_a_preference_is_said(row, words):
    with pytest.raises(RowError, match=words):
        shape(row, "dpo")


def test_two_equal_answers_are_nothing_to_prefer():
    assert not has_target(*shape({"prompt": "p", "chosen": "a", "rejected": "a"}, "dpo"))
    assert has_target(*shape({"prompt": "p", "chosen": "a", "rejected": "b"}, "dpo"))
