"""Pictures that lie elsewhere: folders of a bucket, archives behind a URL; brought here once."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from schemas.diffusion.dataloader import Entry
from schemas.diffusion.request import of_datasets
from trainyard.trainer.diffusion.data.remote import brought, remote
from trainyard.trainer.failures import DataError
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.limits import Limits


@pytest.fixture
def bring(tmp_path):
    def made(*sources):
        request = {"datasets": [{"source": str(source), "format": "imagefolder"} for source in sources]}
        more = {"cache": tmp_path / "cache", "check": lambda: None, "say": lambda _: None}
        limits = Limits(hosts=("localhost",))
        return brought(of_datasets(request), request, Secrets(), limits=limits, **more)

    return made


def held(entry):
    folder = Path(entry.instance_data_dir)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


FILES = {"a.png": b"picture", "more/a.txt": b"a caption"}


def test_a_folder_of_a_bucket_and_archives_come_as_folders_and_local_ones_stay(bring, s3, web, tmp_path):
    for name, content in FILES.items():
        s3.put(f"pictures/cats/{name}", content)
    web.files |= {"/cats.zip": zipped({f"cats/{n}": c for n, c in FILES.items()}), "/cats.tgz": tarred(FILES)}
    (tmp_path / "here").mkdir()

    sources = [s3.uri("pictures/cats/"), web.uri("/cats.zip"), web.uri("/cats.tgz"), tmp_path / "here"]
    *elsewhere, here = bring(*sources)

    assert [held(entry) for entry in elsewhere] == [FILES] * 3
    assert here.instance_data_dir == str(tmp_path / "here")
    assert len({entry.id for entry in elsewhere}) == 3
    assert bring(*sources) == (*elsewhere, here)
    assert (web.gets("/cats.zip"), web.gets("/cats.tgz")) == (1, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no archive at all", "x.zip is no archive; a folder of pictures, or a .tar"),
        (zipped({"../a.png": b"x"}), "x.zip has an entry '../a.png' that does not lie inside it"),
        (b"\x02\0\0\0\0\0\0\0{}", "x.zip is a file of weights"),
    ],
    ids=["nothing", "outside", "weights"],
)
def test_what_is_no_archive_of_pictures_is_told_at_its_data_set(bring, web, content, said):
    web.files["/x.zip"] = content
    with pytest.raises(DataError, match=r"datasets\[0\]\.source: ") as e:
        bring(web.uri("/x.zip"))
    assert said in str(e.value)


def test_beside_a_dataloader_nothing_is_fetched():
    entries = (Entry(id="a", instance_data_dir="/pictures", at="extra_parameters.data_backend_config[0]"),)
    assert not remote({"datasets": [{"source": "s3://bucket/x", "format": "imagefolder"}]}, entries)
