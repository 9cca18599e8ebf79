"""kill -9, another job and a full disk while a cache is filled: what is there is whole, and each thing is made once."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainyard.trainer.diffusion.cache.shelf import Shelf, digest

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("killed_cache.py")
MOUNT = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


class Filling:
    """The program, and the cache that it fills."""

    def __init__(self, folder: Path, *around: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.shelf = Shelf(folder, "numbers", "one")
        argv = [*around, sys.executable, str(PROGRAM), str(folder)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def order(self, *words: object) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the program left with {self.process.wait(60)}"
        return json.loads(line)

    def anew(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def whole(self, count: int) -> list[int]:
        """What is there, each read and looked at; and nothing is there that is not whole."""
        found = []
        for n in range(count):
            if self.shelf.path(digest(str(n))).exists():
                assert self.shelf.read(digest(str(n)))["value"].eq(n).all()
                found.append(n)
        assert len(list(self.folder.rglob("*.safetensors"))) == len(found)
        return found

    def aside(self) -> list[Path]:
        return list((self.shelf.folder / "aside").iterdir())


@pytest.fixture(scope="module")
def _started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filling]:
    made = Filling(tmp_path_factory.mktemp("fill") / "cache")
    yield made
    made.process.communicate(timeout=120)


@pytest.fixture
def filling(_started: Filling) -> Filling:
    _started.anew()
    return _started


def test_wherever_a_kill_falls_what_is_there_is_whole_and_the_next_makes_the_rest(filling: Filling) -> None:
    found: list[int] = []
    for call in range(1, 1000):
        filling.anew()
        if filling.order("at", call, 4) == "survived":
            break
        there = filling.whole(4)
        found.append(len(there))
        if call % 4:  # what comes after is looked at for some: it takes as long again
            continue
        (filling.folder / "told.1").unlink(missing_ok=True)
        assert sorted(filling.order("fill", 4)) == [n for n in range(4) if n not in there], f"killed before call {call}"
        assert filling.whole(4) == list(range(4)) and filling.aside() == []
    assert len(found) > 30 and set(found) == set(range(5)), "a kill before everything, between all, and after all"


def test_after_kills_at_random_moments_it_goes_on_from_where_it_was(filling: Filling) -> None:
    chance, there = random.Random(3), -1
    for _ in range(4):
        assert filling.order("after", f"{chance.uniform(0.2, 0.5):.4f}", 9000) == "killed"
        now = len(filling.whole(9000))
        assert now >= there
        there = now
    assert 0 < there < 9000


def test_two_at_once_share_the_work_and_make_each_thing_once(filling: Filling) -> None:
    first, second = filling.order("two", 60)
    assert sorted(first + second) == list(range(60)) and min(len(first), len(second)) > 10
    assert filling.whole(60) == list(range(60)) and filling.aside() == []


def test_what_a_killed_one_had_in_the_making_is_made_by_the_one_that_waits(filling: Filling) -> None:
    assert sorted(filling.order("orphan", 10)) == list(range(10))
    assert filling.whole(10) == list(range(10))


def test_a_disk_that_fills_up_is_told_with_its_folder_and_what_was_kept_is_whole(tmp_path: Path) -> None:
    if subprocess.run([*MOUNT, "mount -t tmpfs none /mnt"], capture_output=True).returncode:
        pytest.skip("no mounts in a user namespace here")
    folder, kept = tmp_path / "small-disk", tmp_path / "kept"
    inside = f'mount -t tmpfs -o size=400k none "{folder}" && "$@"; cp -r "{folder}" "{kept}"'
    filling = Filling(folder, *MOUNT, inside, "sh")
    said, told = filling.order("full", 200)
    assert said.startswith(f"{folder}: 199 more numbers need about 3,2") and "the disk may be full before" in said
    assert told.startswith(f"no disk space: {folder}: a file of 16,") and "what was kept before is whole" in told
    filling.process.communicate(timeout=120)
    filling.folder, filling.shelf = kept, Shelf(kept, "numbers", "one")
    assert 10 < len(filling.whole(200)) < 25 and filling.aside() == []
