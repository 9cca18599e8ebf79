"""No document makes a 500: mutated, odd and hostile requests through the real application (issue, "Bad input")."""

import asyncio
import copy
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

GUIDE = json.loads((Path(__file__).parents[2] / "data" / "usage_guide.json").read_text())
GUIDE["extra_parameters"] = {
    "duration_seconds": 0.01,
    "steps": 1,
    "env": {"A": "b"},
    "max_retries": 1,
    "command": ["x"],
}
GUIDE["labels"] = {"team": "a"}
QUICKLY = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _places(value, path=()):
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(item, (*path, key))


PLACES = sorted((place for place in _places(GUIDE) if place), key=str)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        (
            *("", " ", "..", "~", "~nobody/x", "/", "//", "\0", "\ud800", "\u202e", "a" * 5000, "/" + "n" * 300 + "/x"),
            *(
                "file:///%00",
                "file:///%ff",
                "file://",
                "s3://",
                "http://[::1",
                "http://u:p@:x",
                "https://h/\n",
                "://@?",
            ),
            *(
                "/proc/1/root/x",
                "/dev/null/x",
                "••••",
                "http://••••@h",
                "http://169.254.169.254/",
                "local",
                "../../etc",
            ),
        )
    ),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
CHANGES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(("set", "drop", "add")), TEXTS, VALUES), max_size=4
)


def _changed(changes):
    document = copy.deepcopy(GUIDE)
    for place, how, name, value in changes:
        at = document
        try:
            for key in place[:-1]:
                at = at[key]
            if how == "drop":
                del at[place[-1]]
            else:
                at[name if how == "add" and isinstance(at, dict) else place[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier change took that place away
            continue
    return document


def _body(document):
    return json.dumps(document).encode("utf-8", "surrogatepass")


@pytest.fixture
async def send(client):
    """Sends from hypothesis's own, blocking function to the client on this loop, and wants no 500."""
    loop = asyncio.get_running_loop()

    async def ask(method, path, **more):
        answer = await client.request(method, path, **more)
        body = await answer.read()
        assert answer.status < 500, (method, path, answer.status, body[:500])
        if "X-Request-Id" not in answer.headers:  # aiohttp's parser: this was no HTTP, and no request came of it
            assert (answer.status, answer.content_type) == (400, "text/plain")
        elif answer.status >= 400 and method != "HEAD":
            problem = json.loads(body)
            assert problem["status"] == answer.status
            assert problem["detail"], problem
        return answer.status

    def blocking(method, path, **more):
        return asyncio.run_coroutine_threadsafe(ask(method, path, **more), loop).result(30)

    return blocking


async def _in_thread(examples):
    await asyncio.to_thread(examples)


JSON = {"Content-Type": "application/json"}


async def test_no_mutation_of_a_document_makes_a_500(send):
    backends = st.sampled_from(("simulated", "simulated", "local", None))

    @QUICKLY
    @given(CHANGES, backends, st.booleans(), st.booleans())
    def examples(changes, backend, strict, store):
        document = _changed(changes)
        if "backend" not in document:
            document["backend"] = backend
        path = f"/train{'' if store else '/validate'}?strict={str(strict).lower()}"
        send("POST", path, data=_body(document), headers=JSON)

    await _in_thread(examples)
    assert await asyncio.to_thread(send, "GET", "/train") == 200


async def test_no_body_makes_a_500(send):
    whole = _body(GUIDE)
    cut = st.integers(0, len(whole)).map(lambda n: whole[:n])
    flipped = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)).map(
        lambda at: whole[: at[0]] + bytes([at[1]]) + whole[at[0] + 1 :]
    )
    odd = st.sampled_from(
        (
            *(
                b"",
                b" ",
                b"[]",
                b"null",
                b'"x"',
                b"1",
                b"NaN",
                b'{"a":NaN}',
                b'{"a":1e999}',
                b'{"a":1,"a":2}',
                b"\xff\xfe{}",
            ),
            *(b"[" * 100_000, b'{"a":' * 50_000, b'{"a":' + b"9" * 50_000 + b"}", b'{"\\ud800":1}', b'{"a":"\\u0000"}'),
        )
    )
    encodings = st.sampled_from((None, None, None, "gzip", "deflate", "nonsense"))

    @QUICKLY
    @given(st.one_of(cut, flipped, odd, st.binary(max_size=200)), encodings)
    def examples(body, encoding):
        headers = JSON if encoding is None else JSON | {"Content-Encoding": encoding}
        assert send("POST", "/train/validate", data=body, headers=headers) in (200, 400, 415)

    await _in_thread(examples)


async def test_no_path_or_query_makes_a_500(send):
    names = st.one_of(st.text(max_size=20), st.sampled_from((".", "..", "a" * 1000, "validate", "é", "a\0b", "%2e%2e")))
    quoted = names.map(lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass")))
    ends = st.sampled_from(("", "/events", "/logs", "/metrics", "/checkpoints", "/cancel", "/resume", "/nothing"))
    keys = st.sampled_from(
        ("limit", "after", "cursor", "status", "label", "backend", "offset", "tail", "names", "strict")
    )
    values = st.one_of(
        quoted, st.integers().map(str), st.sampled_from(("9" * 30, "9" * 1500, "%ff", "-0", "1e3", "a%3db"))
    )
    methods = st.sampled_from(("GET", "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

    @QUICKLY
    @given(
        methods, st.one_of(st.just(""), st.just("job-1"), quoted), ends, st.lists(st.tuples(keys, values), max_size=3)
    )
    def examples(method, name, end, query):
        path = f"/train/{name}{end}" if name else "/train"
        send(method, URL(f"{path}?{'&'.join(f'{k}={v}' for k, v in query)}", encoded=True))

    document = {**GUIDE, "job_id": "job-1", "backend": "simulated"}
    assert await asyncio.to_thread(send, "POST", "/train", json=document) == 201
    await _in_thread(examples)


async def test_a_packed_body_is_a_415_before_anything_is_unpacked(client):
    for body in (gzip.compress(_body(GUIDE)), gzip.compress(b" " * 30_000_000), b"not packed"):
        answer = await client.post("/train", data=body, headers=JSON | {"Content-Encoding": "gzip"})
        assert (answer.status, answer.headers["Connection"]) == (415, "close")
        assert "Content-Encoding" in (await answer.json())["detail"]


@pytest.mark.parametrize("size", [300, 5000, 900_000])
async def test_a_model_name_too_long_for_a_path_is_no_fault_of_ours(client, document, size):
    wrong = document()
    wrong["base_model"]["model_name"] = "m" * size
    assert (await client.post("/train/validate", json=wrong)).status == 200


@pytest.mark.parametrize(
    "where", ["/" + "n" * 300 + "/x", "/dev/null/x", "/proc/1/root/x", "file:///tmp/%00", "/tmp/" + "a/" * 3000]
)
async def test_a_place_that_can_not_be_looked_at_is_a_400_on_local(client, document, where):
    wrong = document() | {"backend": "local", "extra_parameters": {}, "resources": {"gpus": 0}}
    wrong["base_model"]["model_name"] = where
    wrong["datasets"][0]["source"] = where
    wrong["artifacts"] = {"log_uri": where, "output_uri": where}
    answer = await client.post("/train/validate", json=wrong)
    assert answer.status == 400, await answer.text()
    assert (await answer.json())["errors"]
