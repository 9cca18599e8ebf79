"""Large files past the page cache: what is written is what is read, whatever the sizes, and what goes wrong is said."""

import errno
import hashlib
import os
import resource
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save

from trainyard.trainer.direct import DirectFile
from trainyard.trainer.tensor_file import write_tensors

BLOCK = 8 << 20


def written(path, *parts):
    file = DirectFile(path)
    for part in parts:
        assert file.write(part) == len(part)
    file.close()
    return file.sha256.hexdigest()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK + 5])
def test_a_file_is_what_was_written(tmp_path, size):
    content = os.urandom(size)
    assert written(tmp_path / "file", content) == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "file").read_bytes() == content


def test_parts_of_every_size_follow_each_other_and_may_change_afterwards(tmp_path):
    content, part = bytearray(os.urandom(3 * BLOCK)), bytearray(BLOCK - 3)
    file, at = DirectFile(tmp_path / "file"), 0
    while at < len(content):
        taken = content[at : at + len(part)]
        part[: len(taken)] = taken
        at += file.write(memoryview(part)[: len(taken)])
        part[:] = bytes(len(part))
    file.close()
    assert (tmp_path / "file").read_bytes() == content


def test_a_longer_file_of_that_name_is_replaced(tmp_path):
    written(tmp_path / "file", b"x" * 10_000)
    written(tmp_path / "file", b"short")
    assert (tmp_path / "file").read_bytes() == b"short"


def test_where_there_is_no_way_past_the_cache_it_goes_through_it(tmp_path, monkeypatch):
    plain = os.open

    def refusing(path, flags, *more):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "as some network file systems say", str(path))
        return plain(path, flags, *more)

    monkeypatch.setattr(os, "open", refusing)
    content = os.urandom(BLOCK + 77)
    assert written(tmp_path / "file", content) == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "file").read_bytes() == content


def test_a_folder_is_refused_at_once(tmp_path):
    with pytest.raises(IsADirectoryError):
        DirectFile(tmp_path)


def test_a_full_disk_is_an_error_and_no_thread_hangs(tmp_path):
    program = "import sys; from pathlib import Path; from trainyard.trainer.direct import DirectFile\n"
    program += "file = DirectFile(Path(sys.argv[1]))\nfor _ in range(9): file.write(bytes(8 << 20))\nfile.close()"

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))

    argv = [sys.executable, "-c", program, str(tmp_path / "file")]
    done = subprocess.run(argv, preexec_fn=limited, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "File too large" in done.stderr, done.stderr


def test_tensors_are_written_byte_for_byte_as_safetensors_does(tmp_path):
    tensors = {
        "transposed": torch.randn(300, 200).T,
        "half": torch.randn(3, 5).bfloat16(),
        "empty": torch.zeros(0, 4),
        "one": torch.tensor(3.5, dtype=torch.float64),
        "count": torch.arange(7),
        "ümlaut": torch.tensor([True, False]),
        "small": torch.randn(9).to(torch.float8_e4m3fn),
    }
    file = DirectFile(tmp_path / "file.safetensors")
    write_tensors(tensors, file, {"format": "pt"})
    file.close()
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert (tmp_path / "file.safetensors").read_bytes() == save(whole, {"format": "pt"})
    found = load_file(tmp_path / "file.safetensors")
    assert all(torch.equal(found[name].float(), whole[name].float()) for name in whole)
