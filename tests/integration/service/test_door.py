"""Who is let in (contract train.md, 3, "Credential")."""

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from schemas.values import Secret
from service.app import make_app


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "10.0.0.1"},
        {"X-Forwarded-Proto": "https"},
        {"Forwarded": "for=10.0.0.1"},
        {"X-Real-IP": "10.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Host": "train.example.org"},
        {"Host": "evil.example:8001"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_while_nobody_must_identify_himself_only_this_machine_is_served(client, headers):
    answer = await client.get("/train", headers=headers)
    problem = await answer.json()
    assert (answer.status, problem["error"]["code"]) == (403, "not_open_yet")
    assert "TRAINYARD_TOKEN" in problem["detail"]
    assert "trainyard server" in problem["detail"]


async def test_a_same_origin_page_and_a_plain_client_are_served(client):
    own = f"http://{client.host}:{client.port}"
    for headers in ({}, {"Sec-Fetch-Site": "same-origin", "Origin": own}, {"Host": "localhost"}, {"Host": "[::1]:80"}):
        assert (await client.get("/train", headers=headers)).status == 200


async def test_health_is_open_to_every_peer(client):
    for path in ("/healthz", "/readyz"):
        assert (await client.get(path, headers={"X-Forwarded-For": "10.0.0.1", "Host": "x.example"})).status == 200


async def test_another_peer_than_loopback_is_refused():
    from unittest.mock import Mock

    from aiohttp.test_utils import make_mocked_request

    from common.errors import NotOpenYet
    from common.settings import Settings
    from service.auth import admit

    transport = Mock(get_extra_info=lambda name, default=None: ("192.0.2.7", 999) if name == "peername" else default)
    request = make_mocked_request("GET", "/train", headers={"Host": "localhost"}, transport=transport)
    with pytest.raises(NotOpenYet):
        admit(request, Settings())


async def test_with_a_token_every_caller_must_send_it(opened, settings):
    parts = await opened(attrs.evolve(settings, token=Secret("right-token")))
    async with TestClient(TestServer(make_app(parts))) as client:
        for headers in ({}, {"X-TRAINER-TOKEN": "wrong"}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "st_no"}):
            answer = await client.get("/train", headers=headers)
            assert (answer.status, (await answer.json())["error"]["code"]) == (401, "unauthorized")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for headers in ({"X-TRAINER-TOKEN": "right-token"}, {"Authorization": "Bearer right-token"}):
            proxied = {"X-Forwarded-For": "10.0.0.1", "Host": "train.example.org"}
            assert (await client.get("/train", headers={**headers, **proxied})).status == 200
        assert (await client.get("/healthz")).status == 200


async def test_every_error_has_the_one_shape(client, document):
    await client.post("/train", json=document("a"))
    asked = [
        client.post("/train", data=b"{", headers={"Content-Type": "application/json"}),
        client.post("/train", json={}),
        client.post("/train", data="x", headers={"Content-Type": "text/plain"}),
        client.post("/train", json=document("a", steps=9)),
        client.get("/nowhere"),
        client.get("/train/none"),
        client.patch("/train/a", json={}),
        client.get("/train?limit=x"),
        client.get("/train", headers={"Via": "x"}),
        client.get("/api/x"),
    ]
    for coming in asked:
        answer = await coming
        problem = await answer.json()
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert set(problem) == {"type", "title", "status", "detail", "errors", "error"}
        assert set(problem["error"]) == {"message", "type", "param", "code"}
        assert problem["status"] == answer.status >= 400
        assert answer.headers["X-Request-Id"]


async def test_a_plain_request_id_is_kept_and_an_odd_one_replaced(client):
    answer = await client.get("/healthz", headers={"X-Request-Id": "abc-123"})
    assert answer.headers["X-Request-Id"] == "abc-123"
    answer = await client.get("/healthz", headers={"X-Request-Id": "a b<script>"})
    assert answer.headers["X-Request-Id"] != "a b<script>"
