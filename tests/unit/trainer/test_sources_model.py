"""The base model's folder: from S3, from a URL of weights, from an archive of somebody else's."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from trainyard.trainer.failures import ModelError, SourceRefused
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.sources.model import model_folder

OLD, NEW = (save({"w": np.full(4, n, np.float32)}) for n in (1, 2))


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(OLD)
    return folder


@pytest.fixture
def ask(tmp_path, base):
    def asked(url=None, name=None, secrets=None, limits=Limits(hosts=("localhost",))):
        request = {"base_model": {"model_name": str(name or base), "weights_url": url}}
        more = {"cache": tmp_path / "cache", "check": lambda: None, "say": print, "limits": limits}
        return model_folder(request, Secrets(secrets or {}), into=tmp_path / "job" / "model", **more)

    return asked


def value(folder):
    return load_file(folder / "model.safetensors")["w"][0]


def packed(kind, files):
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=out, mode=f"w:{kind}") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_a_local_folder_stays_where_it_is_and_one_in_s3_is_fetched(ask, base, s3):
    assert ask() == base
    for path in base.iterdir():
        s3.put(f"models/tiny/{path.name}", path.read_bytes())
    found = ask(name=s3.uri("models/tiny/"))
    assert sorted(p.name for p in found.iterdir()) == sorted(p.name for p in base.iterdir())
    assert ask(name=s3.uri("models/tiny/")) == found


@pytest.mark.parametrize("where", ["https", "s3"])
def test_a_file_of_weights_stands_in_for_the_models_own(ask, base, web, s3, where):
    web.files["/get"] = NEW
    found = ask(web.uri("/get?signature=1") if where == "https" else s3.put("weights.safetensors", NEW))
    assert value(found) == 2 and value(base) == 1
    assert sorted(p.name for p in found.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_the_whole_url_of_weights_is_taken_from_the_secrets(ask, web):
    web.files["/w"] = NEW
    web.status = lambda _method, path, _headers: 200 if "signature=1" in path else 403
    with pytest.raises(SourceRefused, match=r"base_model\.weights_url: .*/w: access denied"):
        ask(web.uri("/w?••••".replace("•", "%E2%80%A2")))
    assert value(ask("masked", secrets={"base_model.weights_url": web.uri("/w?signature=1")})) == 2


def _spoilt(content):
    """The first packed bytes are others."""
    return content[:60] + bytes(b ^ 255 for b in content[60:90]) + content[90:]


@pytest.mark.parametrize("kind", ["", "gz", "zip"])
def test_an_archive_is_a_whole_model_or_weights_alone(ask, web, kind):
    web.files["/whole"] = packed(kind, {"tiny/config.json": b"{}", "tiny/model.safetensors": NEW})
    web.files["/weights"] = packed(kind, {"model.safetensors": NEW})
    found = ask(web.uri("/whole"))
    assert (found.name, value(found)) == ("tiny", 2) and found == ask(web.uri("/whole"))
    assert sorted(p.name for p in ask(web.uri("/weights")).iterdir())[:2] == ["config.json", "model.safetensors"]
    assert value(ask(web.uri("/weights"))) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (NEW[:-3], "it is truncated"),
        (b"<html>not found</html>" * 9, "no .safetensors file"),
        (packed("zip", {"archive/data.pkl": b"x", "archive/data/0": b"y"}), "is a pickle"),
        (packed("zip", {"readme": b"x"}), "neither a config.json nor"),
        (packed("", {"../../escaped": b"x"}), "does not lie inside"),
        (packed("zip", {"../escaped": b"x"}), "does not lie inside"),
        (_spoilt(packed("zip", {"config.json": bytes(range(256)) * 99})), r"can't be unpacked: error"),
        (packed("gz", {"config.json": b"x" * 5000, "w": bytes(50_000_000)}), "unpack to more than 10,000,000"),
    ],
)
def test_what_is_no_model_is_refused(ask, web, tmp_path, content, said):
    web.files["/w"] = content
    with pytest.raises(ModelError, match=said) as e:
        ask(web.uri("/w"), limits=Limits(most_bytes=10_000_000, hosts=("localhost",)))
    assert str(e.value).startswith("base_model.weights_url: ")
    assert not list(tmp_path.rglob("escaped"))


def test_plain_http_is_for_weights_alone_and_carries_no_credentials(ask, s3):
    s3.client.put_object(Bucket=s3.bucket, Key="w.safetensors", Body=NEW, ACL="public-read")
    found = ask(f"{s3.url}/{s3.bucket}/w.safetensors", limits=Limits(hosts=("127.0.0.1",)))
    assert value(found) == 2
    with pytest.raises(Exception, match="http:// can't be read"):
        ask(name=f"{s3.url}/{s3.bucket}/w.safetensors")
