"""What is learned, token by token, and which rows meet."""

from pathlib import Path

import pytest

from tests.tiny import make_tiny_llama
from tests.unit.trainer.materials import looked, written
from trainyard.trainer.failures import DataError
from trainyard.trainer.text.data import Row

pytestmark = pytest.mark.slow
TURNS = [
    ("system", "Be brief."),
    ("user", "One?"),
    ("assistant", "One it is."),
    ("user", "Two?"),
    ("assistant", "Two."),
]
HEADED = (
    "{{ '<|end|>' }}{% for m in messages %}{% if m.role == 'wizard' %}{{ raise_exception('no wizards') }}{% endif %}"
    "[{{ m.role }}]{{ m.content | trim }}<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and loop.last %}(thought){% endif %}"
    "{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    return make_tiny_llama(tmp_path_factory.mktemp("tokens") / "tiny", hidden=8, layers=1)


@pytest.fixture
def tokenizer(tokenizer_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_folder)


def learned(tokenizer, kind, value, longest=200):
    """The text of what is learned, and the whole."""
    from trainyard.trainer.text.tokens.tokenise import tokenise

    (example,) = tokenise([Row(Path("f.jsonl"), 1, kind, value)], tokenizer, longest, lambda: None).examples
    return tokenizer.decode(example.ids[example.learned]), tokenizer.decode(example.ids)


def messages(turns=TURNS):
    return [{"role": role, "content": content} for role, content in turns]


def test_a_text_is_learned_whole_and_ended(tokenizer):
    assert learned(tokenizer, "text", "All of it.") == ("All of it.<|end|>",) * 2


def test_of_prompt_and_completion_the_completion_is_learned(tokenizer):
    assert learned(tokenizer, "completion", ("Why? ", "Because.")) == ("Because.<|end|>", "Why? Because.<|end|>")


def test_without_a_template_messages_are_chatml_and_the_assistant_is_learned(tokenizer):
    from trainyard.trainer.text.tokens.tokenise import give_template

    assert give_template(tokenizer) and not give_template(tokenizer)
    target, whole = learned(tokenizer, "messages", messages())
    assert target == "One it is.<|im_end|>Two.<|im_end|>"
    assert whole.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?")


def test_the_models_own_template_is_kept(tokenizer):
    tokenizer.chat_template = HEADED
    target, whole = learned(tokenizer, "messages", messages())
    assert target == "One it is.<|im_end|>Two.<|im_end|>"
    assert whole.startswith("<|end|>[system]Be brief.")


def test_a_template_that_writes_earlier_turns_otherwise_still_learns_them(tokenizer):
    tokenizer.chat_template = FORGETFUL
    target, _ = learned(tokenizer, "messages", messages())
    assert target == "One it is.<|im_end|>(thought)Two.<|im_end|>"


def test_a_template_that_refuses_is_named_by_file_and_line(tokenizer):
    tokenizer.chat_template = HEADED
    with pytest.raises(DataError, match=r"f\.jsonl:1: the model's chat template refuses these messages: no wizards"):
        learned(tokenizer, "messages", messages([("wizard", "x"), ("assistant", "y")]))


def test_rows_keep_their_order_and_are_cut_at_their_end(tokenizer):
    from trainyard.trainer.text.tokens.tokenise import tokenise

    kinds = [("text", "one two three four five six"), ("completion", ("p" * 40, "c")), ("text", "seven")] * 700
    rows = [Row(Path("f.jsonl"), line, kind, value) for line, (kind, value) in enumerate(kinds, 1)]
    done = tokenise(rows, tokenizer, 8, lambda: None)
    assert [tokenizer.decode(e.ids)[:3] for e in done.examples[:4]] == ["one", "sev", "one", "sev"]
    assert max(map(len, done.examples)) == 8
    assert done.left_out[:2] == ["f.jsonl:2", "f.jsonl:5"] and len(done.left_out) == 700
    assert done.truncated == 1400


def test_an_epoch_holds_every_row_once_in_batches_of_like_length():
    from trainyard.trainer.text.tokens.batches import epoch_batches

    lengths = [n % 97 + 1 for n in range(1000)]
    batches = epoch_batches(lengths, 8, seed=1, epoch=0)
    assert sorted(i for batch in batches for i in batch) == list(range(1000))
    assert batches == epoch_batches(lengths, 8, seed=1, epoch=0) != epoch_batches(lengths, 8, seed=1, epoch=1)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.2 * sum(lengths)


def test_the_held_out_share_is_seeded_and_never_everything():
    from trainyard.trainer.text.tokens.batches import split

    rows = [object() for _ in range(20)]
    training, held_out = split(rows, 0.1, seed=3)
    assert len(held_out) == 2 and set(training) | set(held_out) == set(rows)
    assert split(rows, 0.1, seed=3)[1] == held_out != split(rows, 0.1, seed=4)[1]
    assert split(rows, 0.0, seed=3)[1] == [] and split(rows[:1], 0.5, seed=3)[1] == []
    assert len(split(rows[:2], 0.001, seed=3)[1]) == 1


def test_streamed_rows_give_the_same_examples_as_held_ones(tokenizer, tmp_path):
    from trainyard.trainer.text.tokens.tokenise import tokenise

    rows = [{"text": f"row {i}"} for i in range(1200)] + [{"messages": messages()}, {"prompt": "p", "completion": "c"}]
    path = written(tmp_path / "rows.jsonl", rows)
    tokenizer.chat_template = HEADED
    held = tokenise(looked(path, weight=1.5).rows, tokenizer, 60, lambda: None)
    streamed = looked(path, weight=1.5, streaming=True).rows
    mapped = tokenise(streamed, tokenizer, 60, lambda: None, folder=tmp_path / "tokens")
    assert len(held.examples) == len(mapped.examples) == 1803 and held.truncated == mapped.truncated == 1
    for one, other in zip(held.examples, mapped.examples, strict=True):
        assert (one.ids == other.ids).all() and (one.learned == other.learned).all()


def test_rows_that_the_template_refuses_are_told_or_left_out(tokenizer):
    from trainyard.trainer.text.tokens.tokenise import tokenise

    tokenizer.chat_template = HEADED
    good, bad = messages(), messages([("wizard", "x"), ("assistant", "y")])
    rows = [Row("f.jsonl", line, "messages", value) for line, value in enumerate([bad, good, bad], 1)]
    with pytest.raises(DataError, match=r"f\.jsonl:1: .*no wizards; f\.jsonl:3: "):
        tokenise(rows, tokenizer, 200, lambda: None)
    done = tokenise(rows, tokenizer, 200, lambda: None, on_bad_row="skip")
    assert len(done.examples) == 1 and len(done.refused) == 2
    with pytest.raises(DataError, match="no wizards"):
        tokenise(rows[:1], tokenizer, 200, lambda: None, on_bad_row="skip")
