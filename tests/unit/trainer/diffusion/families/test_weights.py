"""Where the parts of a model are, which of their files are read, and the hash of what is in them."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import ModelError
from trainyard.trainer.sources.hub import chosen_folders


def write(path, dtype=torch.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.ones(2, dtype=dtype), "y": torch.ones(3, dtype=dtype)}, path)
    return path


@pytest.fixture
def root(tmp_path):
    plain, half = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
    write(tmp_path / "vae" / plain)
    write(tmp_path / "unet" / plain)
    write(tmp_path / "unet" / half, torch.float16)
    (tmp_path / "unet/config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    return tmp_path


def test_of_a_part_the_variants_files_are_read_where_it_has_them(root):
    weights = Weights(name="x", root=root, variant="fp16")

    assert [path.name for path in weights.files("unet")] == ["config.json", "diffusion_pytorch_model.fp16.safetensors"]
    assert [path.name for path in weights.files("vae")] == ["diffusion_pytorch_model.safetensors"]
    assert (weights.variant_of("unet"), weights.variant_of("vae")) == ("fp16", None)
    assert (weights.precision("unet"), weights.precision("vae")) == ("fp16", "fp32")
    assert Weights(name="x", root=root).precision("unet") == "fp32"


def test_a_part_from_elsewhere_wins_and_a_missing_one_is_told(root, tmp_path):
    other = write(tmp_path / "other.safetensors")
    weights = Weights(name="x", root=root, parts={"vae": other})

    assert (weights.at("vae"), weights.at("unet"), weights.at("text_encoder")) == (other, root / "unet", None)
    assert weights.config("unet")["_class_name"] == "UNet2DConditionModel" and weights.config("vae") == {}
    with pytest.raises(ModelError, match="x: it has no text_encoder"):
        weights.need("text_encoder")


def test_the_digest_of_a_part_is_that_of_its_content_wherever_it_lies(root, tmp_path_factory):
    copy = shutil.copytree(root, tmp_path_factory.mktemp("copy") / "model")
    first, second = Weights(name="x", root=root), Weights(name="y", root=copy)

    assert first.digest("unet") == second.digest("unet") != first.digest("vae")
    (copy / "unet/config.json").write_text("{}")
    assert first.digest("unet") != second.digest("unet")
    before = second.digest("vae")
    write(copy / "vae/diffusion_pytorch_model.safetensors", torch.bfloat16)
    assert second.digest("vae") != before


def test_a_variant_that_is_cut_in_several_files_is_read_alone_and_fetched_alone(root):
    names = [f"diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in names:
        write(root / "vae" / name, torch.float16)
    weights = Weights(name="x", root=root, variant="fp16")

    assert ([path.name for path in weights.files("vae")], weights.variant_of("vae")) == (names, "fp16")
    assert (weights.precision("vae"), Weights(name="x", root=root).precision("vae")) == ("fp16", "fp32")
    there = [f"vae/{path.name}" for path in (root / "vae").iterdir()]
    assert chosen_folders(there, "fp16", ()) == [f"vae/{name}" for name in names]
    assert chosen_folders(there, None, ()) == ["vae/diffusion_pytorch_model.safetensors"]
    assert chosen_folders(there, "p1", ()) == ["vae/diffusion_pytorch_model.safetensors"]


def test_half_a_file_is_told(root):
    path = root / "vae/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])

    with pytest.raises(ModelError, match="is cut short"):
        Weights(name="x", root=root).tensors("vae")


def test_of_a_hubs_model_only_what_is_read_is_fetched():
    names = [
        *("README.md", "model_index.json", "flux1-dev.safetensors", "ae.safetensors"),
        *("vae/config.json", "vae/model.safetensors", "vae/model.fp16.safetensors", "vae/model.bin"),
        *("unet/config.json", "unet/model-00001-of-2.safetensors", "unet/model.safetensors.index.json"),
        *("tokenizer/vocab.json", "tokenizer/merges.txt", "old/model.bin", "old/model.onnx"),
    ]

    plain, half = chosen_folders(names, None, ()), chosen_folders(names, "fp16", ())
    assert {"vae/model.safetensors", "unet/model-00001-of-2.safetensors", "old/model.bin"} < set(plain)
    assert not {"vae/model.bin", "old/model.onnx", "flux1-dev.safetensors", "vae/model.fp16.safetensors"} & set(plain)
    assert "vae/model.fp16.safetensors" in half and "vae/model.safetensors" not in half
    assert chosen_folders(names, None, ("tokenizer",)) == ["model_index.json", *sorted(names[11:13])]
    configs = {"model_index.json", "vae/config.json", "unet/config.json", "unet/model.safetensors.index.json"}
    assert set(chosen_folders(names, None, (), weights=False)) == {*configs, *names[11:13]}
    of_a_model = ["tokenizer.json", "vocab.json", "model.safetensors", "pytorch_model.bin", "config.json"]
    assert chosen_folders(of_a_model, None, ("tokenizer",)) == ["config.json", "tokenizer.json", "vocab.json"]
    bare = chosen_folders(["config.json", "model.safetensors", "README.md"], None, ("vae",))
    assert bare == ["config.json", "model.safetensors"]
