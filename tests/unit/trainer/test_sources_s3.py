"""Objects of S3 (moto's server): files, folders, credentials, roles."""

import json
import time

import boto3
import pytest

from common.access import Auth
from common.folder import write_whole
from common.objects import credentials_of
from schemas.secrets import seal
from trainyard.trainer.failures import DataError, DiskFull, ModelError, SourceRefused
from trainyard.trainer.sources.fetch import fetch
from trainyard.trainer.sources.limits import Limits

AUTH = Auth(at="datasets[0].auth")
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture
def get(tmp_path, s3):
    said = []

    def fetched(key, auth=AUTH, **more):
        uri = key if "://" in key else s3.uri(key)
        given = {"at": "datasets[0].source", "cache": tmp_path / "cache", "check": lambda: None, "say": said.append}
        return fetch(uri, auth, **{**given, **more})

    fetched.said = said
    return fetched


def test_an_object_is_one_file_and_is_fetched_once(s3, get, tmp_path):
    uri = s3.put("users/7/rows with ü.jsonl", b'{"text": "a"}\n' * 1000)
    path = get(uri)
    assert path.name == "rows with ü.jsonl" and path.read_bytes() == s3.get("users/7/rows with ü.jsonl")
    assert get(uri) == path
    (about,) = (tmp_path / "cache").rglob("about.json")
    told = json.loads(about.read_bytes())
    assert told["uri"] == uri and told["files"][0][1] == 14_000 and len(told["files"][0][3]) == 64


def test_an_object_is_asked_for_once_and_again_when_it_changed(s3, get):
    s3.put("rows.jsonl", b"one")
    before = s3.asked("GET", "rows.jsonl")
    assert get("rows.jsonl").read_bytes() == get("rows.jsonl").read_bytes() == b"one"
    assert s3.asked("GET", "rows.jsonl") == before + 1
    s3.put("rows.jsonl", b"two")
    assert get("rows.jsonl").read_bytes() == b"two"


def test_what_somebody_removed_from_the_cache_is_fetched_again(s3, get):
    s3.put("rows.jsonl", b"one")
    get("rows.jsonl").unlink()
    assert get("rows.jsonl").read_bytes() == b"one"


@pytest.mark.parametrize("prefix", ["models/tiny", "models/tiny/"])
def test_a_prefix_is_a_folder(s3, get, prefix):
    for n in range(9):
        s3.put(f"models/tiny/part-{n}.bin", bytes([n]) * 1000)
    s3.put("models/tiny/sub/config.json", b"{}")
    s3.put("models/tiny-too/other", b"")
    folder = get(prefix)
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert found == [*(f"part-{n}.bin" for n in range(9)), "sub/config.json"]
    assert (folder / "part-7.bin").read_bytes() == b"\x07" * 1000


def test_what_is_not_there_is_the_callers_kind_of_error(s3, get):
    with pytest.raises(DataError, match=r"datasets\[0\]\.source: s3://.*/none.jsonl: there is neither an object"):
        get("none.jsonl")
    with pytest.raises(ModelError, match=r"no-such-bucket"):
        get("s3://no-such-bucket/model/", missing=ModelError)


def test_an_empty_object_and_a_large_one(s3, get):
    s3.put("empty", b"")
    assert get("empty").read_bytes() == b""
    large = bytes(range(256)) * 50_000
    s3.put("large", large)
    assert get("large").read_bytes() == large
    with pytest.raises(SourceRefused, match="TRAINYARD_MAX_DOWNLOAD_BYTES"):
        get("large", limits=Limits(most_bytes=1000))


def test_what_does_not_fit_on_the_disk_is_not_begun_and_unused_files_make_way(s3, get, tmp_path, monkeypatch):
    s3.put("old", b"x" * 1000)
    unused = tmp_path / "cache" / "files" / "unused"
    (unused / "content").mkdir(parents=True)
    (unused / "lock").touch()
    write_whole(unused / "about.json", json.dumps({"files": []}).encode())
    old, free = get("old"), [1000]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free[0]}))
    s3.put("new", b"y" * 10_000)
    with pytest.raises(DiskFull, match=r"needs .* bytes, 1,000 are free; none was begun"):
        get("new")
    assert not unused.exists() and old.exists(), "what a job uses stays"


def test_wrong_keys_are_refused_with_their_field(s3, get):
    s3.put("rows.jsonl", b"{}")
    s3.only_known_callers(0)
    try:
        began = time.monotonic()
        with pytest.raises(SourceRefused, match=r"datasets\[0\]\.source: s3://.*rows.jsonl.*datasets\[0\]\.auth") as e:
            get("rows.jsonl", Auth(at="datasets[0].auth", access_key_id="AKIAWRONG", secret_access_key="s3cr3t"))
        assert "s3cr3t" not in str(e.value) and "403" in str(e.value)
        with pytest.raises(SourceRefused, match=r"role_arn: .*reader can't be assumed"):
            get("rows.jsonl", Auth(at="datasets[0].auth", role_arn=ROLE, session="job-1"))
    finally:
        s3.only_known_callers(None)
    assert time.monotonic() - began < 20


def test_a_role_is_assumed_with_the_jobs_id(s3, get):
    s3.put("rows.jsonl", b"{}")
    auth = Auth.of(
        {"role_arn": ROLE, "aws_region": "us-east-1"},
        {"datasets[0].auth.aws_access_key_id": "AKIA", "datasets[0].auth.aws_secret_access_key": "s"},
        "datasets[0].auth",
        "a job/with odd+signs",
    )
    assert auth.session == "a-job-with-odd+signs"
    assert get("rows.jsonl", auth).read_bytes() == b"{}"
    session = credentials_of(auth)()
    caller = boto3.client(
        "sts",
        region_name="us-east-1",
        aws_access_key_id=session["access_key_id"],
        aws_secret_access_key=session["secret_access_key"],
        aws_session_token=session["token"],
    ).get_caller_identity()
    assert caller["Arn"].endswith("assumed-role/reader/a-job-with-odd+signs")


def test_secrets_are_found_where_the_service_puts_them_and_never_shown():
    given = {"username": "me", "password": "pw-pw", "token": "tk-tk", "aws_access_key_id": "AKIA"}
    sealed = seal({"datasets": [{}, {"source": "s3://b/k", "auth": given}]})
    auth = Auth.of(sealed.document["datasets"][1]["auth"], sealed.values, "datasets[1].auth")
    assert (auth.username, auth.password, auth.token, auth.access_key_id) == ("me", "pw-pw", "tk-tk", "AKIA")
    assert "pw-pw" not in repr(auth) and "tk-tk" not in repr(auth) and "AKIA" not in repr(auth)
    without = Auth.of(sealed.document["datasets"][1]["auth"], {}, "datasets[1].auth")
    assert without.password is None, "a mask is no password"


@pytest.mark.parametrize("keys", [("m/../../up", "m/ok"), ("m/a", "m/a/b")])
def test_names_that_can_be_no_files_are_refused(s3, get, keys, tmp_path):
    for key in keys:
        s3.put(key, b"x")
    with pytest.raises((DataError, SourceRefused), match=r"datasets\[0\]\.source: s3://"):
        get("m/")
    assert not list(tmp_path.rglob("up"))


def test_a_store_that_can_not_be_opened_says_with_what(get, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(SourceRefused, match=r"datasets\[0\]\.source: az://.*can't be opened with datasets\[0\]\.auth"):
        get("az://container/rows.jsonl")
