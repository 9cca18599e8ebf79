"""The client against a small real server that plays the contract, breaks on purpose and comes back."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from trainyard.client import APIError, Client, UnreachableError

Handler = Callable[[web.Request], Any]


def event(n: int, status: str = "running") -> dict[str, Any]:
    kind = {"running": "job.progress"}.get(status, f"job.{status}")
    return {"id": n, "job_id": "j", "sequence": n, "type": kind, "status": status, "data": {}, "message": ""}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"id: {e['id']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    servers: list[TestServer] = []

    async def start(routes: dict[str, Handler], port: int | None = None) -> TestServer:
        app = web.Application()
        for route, handler in routes.items():
            method, _, path = route.partition(" ")
            app.router.add_route(method, path, handler)
        server = TestServer(app, port=port)
        await server.start_server()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


def url(server: TestServer) -> str:
    return str(server.make_url("/"))


async def test_every_page_of_the_list_is_read(serve: Any) -> None:
    seen: list[list[tuple[str, str]]] = []

    async def page(request: web.Request) -> web.Response:
        seen.append(list(request.query.items()))
        start = int(request.query.get("cursor", "0"))
        jobs = [{"job_id": str(n)} for n in range(start, start + 2)]
        return web.json_response({"jobs": jobs, "next_cursor": None if start == 4 else str(start + 2)})

    async with Client(url(await serve({"GET /train": page}))) as client:
        jobs = [job["job_id"] async for job in client.list(status=["queued", "running"], label=["a=b c"])]
    assert jobs == ["0", "1", "2", "3", "4", "5"]
    assert seen[0] == [("limit", "500"), ("status", "queued"), ("status", "running"), ("label", "a=b c")]
    assert seen[2][-1] == ("cursor", "4")


async def test_a_refusal_carries_every_error_of_the_document(serve: Any) -> None:
    async def refuse(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer t0ken"
        problem = {
            "status": 400,
            "detail": "2 errors",
            "errors": [{"path": "$", "message": "a"}, {"path": "x", "message": "b"}],
            "error": {"code": "invalid_request", "message": "a", "param": "$", "type": "x"},
        }
        return web.json_response(problem, status=400, content_type="application/problem+json")

    async with Client(url(await serve({"POST /train": refuse})), "t0ken") as client:
        with pytest.raises(APIError) as caught:
            await client.submit({"job_id": "j"})
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    assert [e["path"] for e in caught.value.errors] == ["$", "x"]


async def test_a_job_is_steered_by_the_calls_of_the_api(serve: Any) -> None:
    seen: list[tuple[str, str, str]] = []

    async def take(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, await request.text()))
        return web.json_response({"job_id": "j"}, status=202)

    async with Client(url(await serve({"* /train/{rest:.*}": take}))) as client:
        await client.pause("j")
        await client.resume("j")
        await client.resume("j", {"tuning_parameters": {"max_steps": 9}})
        await client.change("j", {"priority": 3})
        assert await client.checkpoint("j") == {"job_id": "j"}
    assert seen == [
        ("POST", "/train/j/pause", ""),
        ("POST", "/train/j/resume", "{}"),
        ("POST", "/train/j/resume", '{"tuning_parameters": {"max_steps": 9}}'),
        ("PATCH", "/train/j", '{"priority": 3}'),
        ("POST", "/train/j/checkpoint", ""),
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: web.Response(text="<b>Bad\ngateway</b>", status=502), "<b>Bad gateway</b>"),
        (lambda: web.Response(status=307, headers={"Location": "https://x/"}), "https://x/"),
        (lambda: web.Response(text="[1]"), "another program"),
    ],
)
async def test_what_is_no_answer_of_this_api_is_said_plainly(serve: Any, answer: Any, said: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return answer()

    async with Client(url(await serve({"GET /backends": handler}))) as client:
        with pytest.raises(APIError, match=said):
            await client.backends()


async def test_a_service_that_never_answered_is_an_error_at_once() -> None:
    async with Client(f"http://127.0.0.1:{unused_port()}") as client:
        with pytest.raises(UnreachableError, match="cannot reach"):
            await client.follow("j")


async def test_a_call_that_hangs_ends_in_time(serve: Any) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with Client(url(await serve({"GET /backends": hang})), timeout=0.1) as client:
        with pytest.raises(UnreachableError, match="in time"):
            await client.backends()


async def test_a_broken_stream_goes_on_after_the_last_event_seen(serve: Any) -> None:
    cursors: list[str | None] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        cursors.append(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 10\n\n")
        if len(cursors) == 1:
            await response.write(sse(event(1), event(2)) + b"id: 3\ndata: {")
            assert request.transport is not None
            request.transport.abort()
        elif len(cursors) == 2:
            await response.write(sse(event(3)))
        else:
            await response.write(sse(event(4, "succeeded")))
        return response

    async with Client(url(await serve({"GET /train/j/events": stream}))) as client:
        ids = [e["id"] async for e in client.events("j")]
    assert ids == [1, 2, 3, 4]
    assert cursors == [None, "2", "3"]


async def test_204_means_that_the_job_is_over(serve: Any) -> None:
    async def over(_: web.Request) -> web.Response:
        return web.Response(status=204)

    async with Client(url(await serve({"GET /train/j/events": over}))) as client:
        assert [e async for e in client.events("j", after=9)] == []


async def test_after_a_reset_the_events_are_told_from_the_start(serve: Any) -> None:
    async def stream(request: web.Request) -> web.Response:
        assert request.headers["Last-Event-ID"] == "99"
        reset = b'event: reset\ndata: {"reason": "above the newest", "from": 1}\n\n'
        return web.Response(body=reset + sse(event(1, "failed")), content_type="text/event-stream")

    notices: list[str] = []
    async with Client(url(await serve({"GET /train/j/events": stream})), notice=notices.append) as client:
        assert [e["id"] async for e in client.events("j", after=99)] == [1]
    assert "told from the start" in notices[0]


async def test_follow_waits_for_a_service_that_restarts_and_says_so(serve: Any) -> None:
    port, notices, told = unused_port(), [], []

    async def first(request: web.Request) -> web.Response:
        return web.Response(body=b"retry: 100\n\n" + sse(event(1)), content_type="text/event-stream")

    async def second(request: web.Request) -> web.Response:
        assert request.headers["Last-Event-ID"] == "1"
        return web.Response(body=sse(event(2, "failed")), content_type="text/event-stream")

    async def show(_: web.Request) -> web.Response:
        return web.json_response({"job_id": "j", "status": "failed"})

    server = await serve({"GET /train/j/events": first}, port)
    async with Client(url(server), notice=notices.append) as client:
        following = asyncio.create_task(client.follow("j", told.append))
        while not told:
            await asyncio.sleep(0.01)
        await server.close()
        while not notices:
            await asyncio.sleep(0.01)
        await serve({"GET /train/j/events": second, "GET /train/j": show}, port)
        assert (await following)["status"] == "failed"
    assert [e["id"] for e in told] == [1, 2]
    assert "waiting for the service" in notices[0] and notices[1] == "the service is back"


async def test_patience_ends(serve: Any) -> None:
    async def stream(_: web.Request) -> web.Response:
        return web.Response(body=b"retry: 100\n\n" + sse(event(1)), content_type="text/event-stream")

    server = await serve({"GET /train/j/events": stream})
    async with Client(url(server), patience=0.3) as client:
        events = client.events("j")
        await anext(events)
        await server.close()
        with pytest.raises(UnreachableError):
            await anext(events)


async def test_a_followed_log_is_whole_though_it_is_masked_and_the_service_breaks(serve: Any) -> None:
    parts, calls = [b"one \xe2\x80\xa2\xe2\x80\xa2\n", b"two\n", b"", b"three\n", b""], []

    async def logs(request: web.Request) -> web.Response:
        offset = int(request.query.get("offset", "0"))
        calls.append(offset)
        if calls == [0, 1]:
            assert request.transport is not None
            request.transport.abort()
        text = parts[offset]
        after = offset if text == b"" and (offset == 4 or calls.count(2) == 1) else offset + 1
        return web.Response(body=text, headers={"X-Log-Offset": str(after)})

    async def show(_: web.Request) -> web.Response:
        return web.json_response({"status": "succeeded" if calls.count(2) else "running"})

    async with Client(url(await serve({"GET /train/j/logs": logs, "GET /train/j": show}))) as client:
        said = b"".join([text async for text in client.logs("j", follow=True)])
    assert said.decode() == "one ••\ntwo\nthree\n"
    assert calls == [0, 1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("bad", ["", ".", ".."])
async def test_what_cannot_be_an_id_never_reaches_another_path(bad: str) -> None:
    async with Client() as client:
        with pytest.raises(ValueError, match="letters or digits"):
            await client.show(bad)


@pytest.mark.parametrize("bad", ["", "localhost:8001", "ftp://x", "http://"])
def test_a_url_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="url must be like"):
        Client(bad)
