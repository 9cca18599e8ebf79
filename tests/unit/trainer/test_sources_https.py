"""Files over https: resumed, checked, limited; and the hosts that are never asked."""

import base64
import hashlib

import pytest

from common.access import Auth
from schemas.secrets import seal
from tests.https import Web
from trainyard.trainer.failures import DataError, SourceRefused
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.datasets import fetch_datasets
from trainyard.trainer.sources.fetch import fetch
from trainyard.trainer.sources.limits import Limits

CONTENT = bytes(range(256)) * 4096  # 1 MiB
NAMED = Limits(hosts=("localhost",))


@pytest.fixture
def web(web):
    web.files["/rows.jsonl"] = CONTENT
    return web


@pytest.fixture
def get(tmp_path, web: Web):
    def fetched(path="/rows.jsonl", limits=NAMED, auth=Auth(at="datasets[0].auth"), check=lambda: None, say=print):
        uri = path if "://" in path else web.uri(path)
        return fetch(uri, auth, at="datasets[0].source", cache=tmp_path / "cache", check=check, say=say, limits=limits)

    return fetched


def test_a_file_is_fetched_once_and_again_when_it_changed(web, get):
    path = get()
    assert (path.name, path.read_bytes()) == ("rows.jsonl", CONTENT)
    assert get() == path and web.gets("/rows.jsonl") == 1
    web.files["/rows.jsonl"] = b"new"
    assert get().read_bytes() == b"new" and path.read_bytes() == CONTENT


def test_a_body_that_ends_early_is_gone_on_with(web, get):
    web.cuts = [300_000, 400_000]
    assert get().read_bytes() == CONTENT
    assert [rest for method, _, rest in web.asked if method == "GET"] == [None, "bytes=300000-", "bytes=700000-"]


def test_a_server_without_ranges_is_read_from_its_start_again(web, get):
    web.cuts, web.ranges = [300_000], False
    assert get().read_bytes() == CONTENT and web.gets("/rows.jsonl") == 2


def test_a_file_that_changes_in_the_middle_is_fetched_as_it_is_then(web, get):
    def change(method, _path, headers):
        if method == "GET" and "Range" in headers:
            web.files["/rows.jsonl"] = b"y" * 500_000
        return 200

    web.cuts, web.status = [300_000], change
    assert get().read_bytes() == b"y" * 500_000


def test_a_digest_that_the_source_tells_is_held(web, get):
    good = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    web.headers["/rows.jsonl"] = {"Repr-Digest": f"sha-256=:{good}:"}
    assert get().read_bytes() == CONTENT
    web.files["/other"] = CONTENT
    web.headers["/other"] = {"Repr-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"}
    with pytest.raises(DataError, match=r"datasets\[0\]\.source: .*/other.*sha256 is .* not 0000"):
        get("/other")


def test_without_an_etag_it_is_fetched_each_time(web, get):
    web.etags = False
    assert get().read_bytes() == get().read_bytes() == CONTENT
    assert web.gets("/rows.jsonl") == 2


def test_files_of_one_path_are_told_by_their_query_where_no_tag_of_the_content_tells_them(web, get):
    web.files |= {"/get?id=1": b"one", "/get?id=2": b"two"}
    web.etags = False
    web.headers |= {path: {"Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT"} for path in web.files}
    assert [get(path).read_bytes() for path in ("/get?id=1", "/get?id=2", "/get?id=1")] == [b"one", b"two", b"one"]
    web.etags, web.headers = True, {}
    web.files |= {"/get?signature=a": b"all", "/get?signature=b": b"all"}
    assert get("/get?signature=a") == get("/get?signature=b")


def test_where_head_is_refused_one_byte_is_asked_for(web, get):
    web.status = lambda method, _path, _headers: 403 if method == "HEAD" else 200
    assert get("/rows.jsonl?signature=1").read_bytes() == CONTENT
    assert web.gets("/rows.jsonl?signature=1") == 2


def test_limits_of_size_and_refusals_name_the_field(web, get):
    with pytest.raises(SourceRefused, match=r"datasets\[0\]\.source: .* 1,048,576 bytes.*TRAINYARD_MAX_DOWNLOAD_BYTES"):
        get(limits=Limits(most_bytes=1 << 19, hosts=("localhost",)))
    with pytest.raises(DataError, match=r"datasets\[0\]\.source: https://localhost:\d+/none: there is no such file"):
        get("/none?secret=1")
    web.status = lambda *_: 401
    with pytest.raises(SourceRefused, match=r"access denied \(401\); datasets\[0\]\.auth may hold a token"):
        get()


def test_credentials_go_to_their_own_host_alone(web, get):
    seen = []
    web.status = lambda _method, path, headers: seen.append((path, headers.get("Authorization"))) or 200
    get(auth=Auth(at="a", username="me", password="pw"))
    assert {sent for _, sent in seen} == {"Basic bWU6cHc="}
    seen.clear()
    web.redirects["/moved"] = web.uri("/rows.jsonl").replace("localhost", "127.0.0.1")
    get("/moved", auth=Auth(at="a", token="t0ken"), limits=Limits(hosts=("localhost", "127.0.0.1")))
    assert {sent for _, sent in seen} == {None}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://localhost/x", "only https:// is followed"),
        ("https://169.254.169.254/latest", "none of the hosts"),
        ("/moved", "more than 5 redirects"),
    ],
)
def test_redirects_are_looked_at_as_the_first_url(web, get, target, said):
    web.redirects["/moved"] = target
    with pytest.raises(SourceRefused, match=said):
        get("/moved")


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.google.internal", "[fd00:ec2::254]", "2852039166"])
def test_metadata_services_are_never_asked(get, host):
    with pytest.raises(SourceRefused, match="metadata service"):
        get(f"https://{host}/x", limits=Limits(hosts=("*",)))


def test_a_proxy_is_not_asked_for_a_metadata_service_either(get, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:9")
    with pytest.raises(SourceRefused, match="metadata service"):
        get("https://169.254.169.254/x", limits=Limits(hosts=("*",)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "[::1]"])
def test_hosts_of_the_own_network_must_be_named(get, host):
    with pytest.raises(SourceRefused, match=r"private address .* TRAINYARD_DOWNLOAD_HOSTS"):
        get(f"https://{host}/x", limits=Limits())


def test_a_stop_ends_a_download_and_keeps_its_beginning(web, get, tmp_path):
    class Stop(Exception):
        pass

    def parts():
        return list((tmp_path / "cache").rglob("rows.jsonl.trainyard-part"))

    def check():
        if any(part.stat().st_size for part in parts()):
            raise Stop

    web.seconds_a_block = 0.05
    with pytest.raises(Stop):
        get(check=check)
    (part,) = parts()
    kept = part.stat().st_size
    assert 0 < kept < len(CONTENT)
    web.seconds_a_block = 0
    assert get().read_bytes() == CONTENT
    assert web.asked[-1][2] is not None and int(web.asked[-1][2][6:-1]) >= kept


def test_the_data_of_a_document_with_its_secrets(web, tmp_path):
    web.status = lambda _method, path, headers: 200 if (path, headers.get("Authorization")) == wanted else 403
    wanted = ("/rows.jsonl?signature=1", "Bearer tk-tk")
    document = {"datasets": [{"source": web.uri(wanted[0]), "format": "jsonl", "auth": {"token": "tk-tk"}}]}
    sealed = seal(document)
    more = {"cache": tmp_path / "cache", "check": lambda: None, "say": print, "limits": NAMED}
    (found,) = fetch_datasets(sealed.document, Secrets(sealed.values), **more)
    assert found.path is not None and found.path.read_bytes() == CONTENT
    assert (found.at, found.shown) == ("datasets[0]", web.uri("/rows.jsonl?••••"))
