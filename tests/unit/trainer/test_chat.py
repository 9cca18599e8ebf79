"""What is learned of a conversation, through templates of the shapes that models come with."""

import pytest

from tests.tiny import make_tiny_llama
from trainyard.trainer.text.data.material import RowError

pytestmark = pytest.mark.slow

LLAMA = (
    "{{ '<|begin|>' }}{% for m in messages %}{{ '<|start|>' + m['role'] + '<|stop|>\n\n' + m['content'] | trim }}"
    "{{ '<|eot|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ '<bos>' }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
#: The system's words stand in the last question, so that a beginning is not written as it is in the whole.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set turns = messages %}{% endif %}{{ '<s>' }}{% for m in turns %}{% if m['role'] == 'user' %}"
    "{% set last = loop.index0 >= turns | length - 2 %}"
    "{{ '[INST] ' + (system + '\n\n' if system and last else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + '</s>' }}{% endif %}{% endfor %}"
)
#: Earlier turns lose what was thought; the last one gets an empty thought where it has none.
QWEN = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set said = m['content'] %}{% set thought = '' %}"
    "{% if '</think>' in said %}{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.last %}{{ '<|im_start|>assistant\n<think>\n' + thought + '\n</think>\n\n' + said }}"
    "{% else %}{{ '<|im_start|>assistant\n' + said }}{% endif %}{{ '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: A whole conversation is ended once more.
PHI = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] | trim + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = [("user", "One?"), ("assistant", " One it is.\n"), ("user", "One it is. Two?"), ("assistant", "Two.")]
TOLD = [("system", "Be brief."), *TALK]
THOUGHT = [
    ("user", "A?"),
    ("assistant", "<think>\nhm\n</think>\n\nB"),
    ("user", "C?"),
    ("assistant", "<think>\nso\n</think>\n\nD"),
]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    return make_tiny_llama(tmp_path_factory.mktemp("chat") / "tiny", hidden=8, layers=1)


@pytest.fixture
def tokenizer(tokenizer_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_folder)


def said(tokenizer, template, talk):
    """The pieces of text that are learned."""
    from trainyard.trainer.text.tokens.chat import Chat

    tokenizer.chat_template = template
    whole, spans = Chat(tokenizer).rendered([{"role": role, "content": content} for role, content in talk])
    assert spans == sorted(spans) and all(end > start for start, end in spans)
    return [whole[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("template", "talk", "learned"),
    [
        (LLAMA, TOLD, ["One it is.<|eot|>", "Two.<|eot|>"]),
        (GEMMA, TALK, ["One it is.<end_of_turn>", "Two.<end_of_turn>"]),
        (MISTRAL, TALK, [" One it is.</s>", " Two.</s>"]),
        (MISTRAL, TOLD, ["One it is.</s>", " Two.</s>"]),
        (QWEN, THOUGHT, ["B<|im_end|>", "<think>\nso\n</think>\n\nD<|im_end|>"]),
        (QWEN, TALK[:1] + TALK[3:], ["<think>\n\n</think>\n\nTwo.<|im_end|>"]),
        (PHI, TOLD, ["One it is.<|end|>", "Two.<|end|>\n<|end|>"]),
        (MARKED, TOLD, [" One it is.\n<|im_end|>", "Two.<|im_end|>"]),
    ],
    ids=["llama", "gemma", "mistral", "mistral-system", "qwen-thought", "qwen", "phi", "marked"],
)
def test_the_assistants_turns_are_learned_with_their_ends(tokenizer, template, talk, learned):
    assert said(tokenizer, template, talk) == learned


def test_an_answer_that_says_nothing_is_not_learned(tokenizer):
    assert said(tokenizer, LLAMA, [*TALK[:1], ("assistant", "  "), *TALK[2:]]) == ["Two.<|eot|>"]


def test_a_conversation_that_the_assistant_begins_is_learned_from_its_first_word(tokenizer):
    assert said(tokenizer, LLAMA, [("assistant", "Hello."), *TALK]) == [
        "Hello.<|eot|>",
        "One it is.<|eot|>",
        "Two.<|eot|>",
    ]


def test_marked_templates_learn_the_tokens_that_transformers_marks(tokenizer):
    from trainyard.trainer.text.data import Row
    from trainyard.trainer.text.tokens.tokenise import tokenise

    tokenizer.chat_template = MARKED
    turns = [{"role": role, "content": content} for role, content in TOLD]
    theirs = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    ours = tokenise([Row("f", 1, "messages", turns)], tokenizer, 500, lambda: None).examples[0]
    assert ours.ids.tolist() == theirs["input_ids"]
    assert ours.learned.astype(int).tolist() == theirs["assistant_masks"]


@pytest.mark.parametrize(
    ("template", "talk", "words"),
    [
        (GEMMA, TOLD, "refuses these messages: System role not supported"),
        (GEMMA, TALK[:2] * 2 + TALK[1:], "refuses these messages: Roles must alternate"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", TALK, "does not show the assistant's turn 'One it is.'"),
        ("{{ messages[0]['content'] + 1 }}", TALK, "refuses these messages: "),
    ],
)
def test_a_template_that_can_not_write_a_conversation_says_so(tokenizer, template, talk, words):
    with pytest.raises(RowError) as raised:
        said(tokenizer, template, talk)
    assert words in str(raised.value)
