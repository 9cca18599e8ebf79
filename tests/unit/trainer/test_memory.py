"""The estimate of a job's memory: exact where it can be, and never a change of the model that it looks at."""

import pytest
import torch
from attrs import evolve
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GemmaConfig, GPT2Config, LlamaConfig, MistralConfig, Qwen3Config

from trainyard.trainer.text.memory import estimate as memory
from trainyard.trainer.text.memory.estimate import Needs
from trainyard.trainer.text.memory.kept import Kept, kept
from trainyard.trainer.text.settings import read_settings

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing:FutureWarning", "ignore:fan_in_fan_out is set to False:UserWarning"
)  # what peft and transformers say of each other
USUAL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
SHAPES = {
    "llama": LlamaConfig(vocab_size=256, num_key_value_heads=2, **USUAL),
    "qwen": Qwen3Config(vocab_size=256, num_key_value_heads=2, head_dim=16, **USUAL),
    "mistral": MistralConfig(vocab_size=256, num_key_value_heads=2, **USUAL),
    "gemma": GemmaConfig(vocab_size=256, num_key_value_heads=2, head_dim=16, pad_token_id=0, **USUAL),
    "gpt2": GPT2Config(vocab_size=256, n_embd=64, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0),
}


def a_model(name="llama", lora=False, device="meta", dtype=torch.float32):
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(SHAPES[name], dtype=dtype)
        return (
            get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
            if lora
            else model
        )


def settings(**tuning):
    custom = {"method": tuning.pop("method", "full"), "precision": tuning.pop("precision", "fp32")}
    return read_settings({"customization": custom, "tuning_parameters": tuning})


def really_kept(model, rows, length, half):
    """Bytes that autograd holds after a forward pass that really happens."""
    seen, own = {}, {p.untyped_storage()._cdata for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        torch.autocast("cpu", half, enabled=half is not None),
    ):
        model.train()(input_ids=torch.zeros((rows, length), dtype=torch.long), use_cache=False)
    return sum(storage.nbytes() for storage in seen.values())


@pytest.mark.parametrize("half", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", SHAPES)
def test_what_a_forward_pass_keeps_is_known_without_running_it(name, lora, half):
    found = kept(a_model(name, lora), 128, half)
    assert found.traced and found.layers == 4
    assert found.activations(2, False) == pytest.approx(really_kept(a_model(name, lora, "cpu"), 2, 128, half), rel=0.03)


def test_looking_at_a_real_model_changes_nothing():
    model = a_model(lora=True, device="cpu").eval()
    model.get_base_model().activation_checkpointing_enable()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    generator, layers = torch.get_rng_state(), len(model.get_base_model().model.layers)
    assert kept(model, 64, torch.bfloat16) == kept(a_model(lora=True), 64, torch.bfloat16)
    assert torch.equal(generator, torch.get_rng_state())
    assert (
        not model.training
        and model.get_base_model().model.layers[0].gradient_checkpointing
        and len(model.get_base_model().model.layers) == layers
    )
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_a_model_that_can_not_be_traced_gets_a_guess(monkeypatch):
    traced = kept(a_model(), 128, None)
    model = a_model()
    model.forward = lambda **_: torch.ones(1).nonzero().item()
    guess = kept(model, 128, None)
    assert not guess.traced and guess.layers == traced.layers
    assert guess.layer == pytest.approx(traced.layer, rel=0.6)


def test_gradient_checkpointing_keeps_the_borders_of_layers_and_the_inside_of_one():
    found = Kept(outside=10, layer=100, border=8, layers=12, traced=True)
    assert found.activations(2, False) == 2 * (10 + 1200)
    assert found.activations(2, True) == 2 * (10 + 96 + 200)


def test_weights_gradients_and_states_are_counted_to_the_byte():
    count = sum(p.numel() for p in a_model().parameters())
    found = memory.estimate(a_model(), settings(), 64, 1, device_kind="cpu", overhead=0)
    assert (found.weights, found.trainable, found.gradients, found.optimizer) == (0, 4 * count, 4 * count, 8 * count)
    model = a_model(lora=True, dtype=torch.bfloat16)
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    found = memory.estimate(model, settings(method="lora", precision="bf16"), 64, 1, device_kind="cpu", overhead=0)
    assert found.weights == 2 * count and found.gradients == found.trainable == 4 * adapter
    assert found.bytes == sum(found.parts.values())


@pytest.mark.parametrize(("optimizer", "most"), [("adamw_8bit", 0.4), ("paged_adamw_8bit", 0.4), ("adafactor", 0.06)])
def test_small_optimizers_have_small_states(optimizer, most):
    usual, small = (
        memory.estimate(a_model(), settings(optimizer=o), 64, 1, device_kind="cpu", overhead=0).optimizer
        for o in ("adamw", optimizer)
    )
    assert 0 < small < most * usual


def test_a_quantised_base_is_four_or_eight_bits_wide_without_its_head():
    model = a_model(lora=True, dtype=torch.bfloat16)
    whole, int8, nf4, double = (
        memory.estimate(
            model, evolve(settings(precision="bf16"), **changed), 64, 1, device_kind="cpu", overhead=0
        ).weights
        for changed in (
            {"method": "lora"},
            {"method": "lora", "precision": "int8"},
            {"method": "qlora"},
            {"method": "qlora", "double_quant": True},
        )
    )
    assert whole > int8 > nf4 > double
    linear = 4 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert (whole - int8, whole - nf4) == (linear, pytest.approx(linear * (2 - 0.5625), rel=1e-3))


def test_shards_divide_what_is_held_but_not_what_is_computed():
    one, four = (
        memory.estimate(
            a_model(), evolve(settings(), processes=n, strategy="fsdp"), 64, 1, device_kind="cpu", overhead=0
        )
        for n in (1, 4)
    )
    assert four.optimizer == one.optimizer // 4 and four.activations == one.activations
    assert four.weights + four.trainable < one.weights + one.trainable


def test_the_most_rows_that_fit_are_chosen_and_shared_out_evenly():
    needs = Needs(a_model(), settings(), 64, device_kind="cuda", overhead=0)

    def choose(rows, batch):
        return memory.fit(needs, settings(batch_size=batch), int(needs.rows(rows).bytes / 0.9) + 1, "cuda")

    assert [choose(rows, 8).micro for rows in (8, 7, 4, 1)] == [8, 4, 4, 1]
    assert choose(8, 6).micro == 6 and choose(8, 32).micro == 8 and choose(1, 8).warning is None
    assert memory.fit(needs, settings(), 1 << 40, "cpu").micro == 4


def test_where_not_even_one_row_fits_it_is_said_and_one_is_tried():
    needs = Needs(a_model(), settings(), 64, device_kind="cpu", overhead=0)
    found = memory.fit(needs, settings(), 1 << 20, "cpu")
    assert found.micro == 1 and "will hardly fit" in found.warning and "GiB" in found.warning


def test_the_machine_is_read():
    cpu = torch.device("cpu")
    assert 0 < memory.resident() <= memory.peak(cpu)
    assert memory.available(cpu) > memory.resident()
    assert memory.available(cpu, 0.5) == 1 << 29
    assert memory.available(cpu, 0.5, 2) == 1 << 28
    held = torch.ones(50 << 20, dtype=torch.uint8)
    assert memory.peak(cpu) >= memory.resident() >= held.nbytes


def test_the_manifest_gets_the_error_of_the_estimate():
    found = memory.estimate(a_model(), settings(), 64, 1, device_kind="cpu", overhead=0)
    assert found.against(2 * found.bytes) == {
        "estimate_bytes": found.bytes,
        "peak_bytes": 2 * found.bytes,
        "error": -0.5,
    }
