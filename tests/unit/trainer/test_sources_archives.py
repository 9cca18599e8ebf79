"""Archives that were made to do harm: nothing of them lies outside of the folder, or is larger than was allowed."""

import gzip
import io
import tarfile
import zipfile

import pytest

from trainyard.trainer.failures import ModelError
from trainyard.trainer.sources import archives

MOST = 1 << 20


def member(name, kind=tarfile.REGTYPE, content=b"", link="", **more):
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, len(content), link
    for key, value in more.items():
        setattr(found, key, value)
    return found, content


def tar(folder, *members, mode="w"):
    path = folder / "model.tar"
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
        for found, content in members:
            archive.addfile(found, io.BytesIO(content))
    return path


def unpacked(path, folder, kind="tar", most=MOST):
    target = folder / "inside" / "deep"
    target.mkdir(parents=True)
    outside = folder / "outside"
    outside.write_text("as it was")
    try:
        archives.unpack(path, kind, target, most, "base_model.weights_url", lambda: None)
    finally:
        assert outside.read_text() == "as it was"
        assert sorted(p.name for p in folder.iterdir()) == sorted([path.name, "inside", "outside"])
        assert [p.name for p in (folder / "inside").iterdir()] == ["deep"]
        assert not any(p.is_symlink() for p in target.rglob("*"))
    return {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_plain_files_and_folders_come_out_as_they_went_in(tmp_path, mode):
    members = [member("./model/", tarfile.DIRTYPE, mode=0), member("./model/config.json", content=b"{}", mode=0o4777)]
    path = tar(tmp_path, *members, member("model/w" * 20, content=b"w" * 3_000_000), mode=mode)
    assert archives.kind_of(path, "at") == "tar"
    found = unpacked(path, tmp_path, most=4 << 20)
    assert found == {"model/config.json": b"{}", "model/w" * 20: b"w" * 3_000_000}
    assert (tmp_path / "inside" / "deep" / "model" / "config.json").stat().st_mode & 0o7000 == 0


def long_links():
    """The way round the library's own filter: links so deep that a real path is cut, then one through them."""
    part, step = "d" * 247, "abcdefghijklmnop"
    path, found = "", []
    for name in step:
        found += [member(f"{path}{part}", tarfile.DIRTYPE), member(f"{path}{name}", tarfile.SYMTYPE, link=part)]
        path += f"{part}/"
    through = "/".join(step) + "/" + "l" * 254
    found.append(member(through, tarfile.SYMTYPE, link="../" * len(step)))
    found.append(member("escape", tarfile.SYMTYPE, link=f"{through}/../../.."))
    return [*found, member("escape/outside", content=b"gone")]


HARM = {
    "a way up": [member("../outside", content=b"gone")],
    "a way up in the middle": [member("a/../../outside", content=b"gone")],
    "an absolute path": [member("/tmp/outside", content=b"gone")],
    "a symbolic link": [member("a", tarfile.SYMTYPE, link="../../outside"), member("a", content=b"gone")],
    "a link to a folder": [member("a", tarfile.SYMTYPE, link="../.."), member("a/outside", content=b"gone")],
    "a hard link": [member("a", tarfile.LNKTYPE, link="../../outside"), member("a", content=b"gone")],
    "a link inside": [member("b", content=b"x"), member("a", tarfile.SYMTYPE, link="b")],
    "links so long that they are cut": long_links(),
    "a device": [member("a", tarfile.CHRTYPE)],
    "a pipe": [member("a", tarfile.FIFOTYPE)],
    "an entry twice": [member("a", content=b"x"), member("./a", content=b"y")],
    "a file as a folder": [member("a", content=b"x"), member("a/b", content=b"y")],
    "a long name": [member("n" * 256, content=b"x")],
    "a long path": [member("n/" * 1001, tarfile.DIRTYPE)],
    "a file that is too large": [member("a", content=b"x" * (MOST + 1))],
    "files that are too large together": [member(str(n), content=b"x" * (MOST // 2)) for n in range(3)],
}


@pytest.mark.parametrize("members", HARM.values(), ids=HARM)
def test_a_tar_that_would_do_harm_is_refused(tmp_path, members):
    with pytest.raises(ModelError, match=r"base_model.weights_url: model.tar (has an entry|would unpack to more)"):
        unpacked(tar(tmp_path, *members), tmp_path)


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path):
    bomb = tarfile.TarInfo("pax")
    bomb.type, bomb.size = tarfile.XHDTYPE, 1 << 40
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress(bomb.tobuf() + b"x" * 4096))
    with pytest.raises(ModelError, match="can't be unpacked: ReadError"):
        unpacked(path, tmp_path)
    with pytest.raises(ModelError, match=r"is no \.safetensors file"):
        archives.kind_of(path, "at")


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_ENTRIES", 10)
    with pytest.raises(ModelError, match="has more than 10 entries"):
        unpacked(tar(tmp_path, *(member(str(n)) for n in range(11))), tmp_path)


def entry(name, mode=0o100644):
    found = zipfile.ZipInfo(name)
    found.external_attr = mode << 16
    return found


@pytest.mark.parametrize(
    "entries",
    [
        [(entry("../outside"), "gone")],
        [(entry("a/../../../outside"), "gone")],
        [(entry("/tmp/outside"), "gone")],
        [(entry("a\\..\\b"), "x")],
        [(entry("a", 0o120777), "../../outside")],
        [(entry("a", 0o010644), "")],
        [(entry("a"), "x"), (entry("./a"), "y")],
        [(entry("a"), "x"), (entry("a/b"), "y")],
        [(entry("n" * 256), "x")],
        [(entry("a"), "x" * (MOST + 1))],
    ],
    ids=["up", "up inside", "absolute", "backslash", "link", "pipe", "twice", "file as folder", "long", "large"],
)
def test_a_zip_that_would_do_harm_is_refused(tmp_path, entries):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in entries:
            archive.writestr(info, content)
    with pytest.raises(ModelError, match=r"base_model.weights_url: model.zip (has an entry|would unpack to more)"):
        unpacked(path, tmp_path, "zip")


def test_a_zip_whose_file_is_larger_than_it_tells_is_refused(tmp_path):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"x" * 5_000_000)
    told = path.read_bytes().replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(told)
    with pytest.raises(ModelError, match=r"model\.zip (can't be unpacked|has an entry)"):
        unpacked(path, tmp_path, "zip")
