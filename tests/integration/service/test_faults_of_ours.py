"""A fault of ours is a 500 in the one shape, with an id that the log has too; and the service goes on."""

from service.store.sqlite import SqliteStore


async def test_an_unexpected_error_is_a_problem_with_a_request_id(client, monkeypatch):
    async def broken(self, *values):
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(SqliteStore, "job", broken)
    answer = await client.get("/train/a", headers={"X-Request-Id": "req-7"})
    problem = await answer.json()
    assert (answer.status, problem["error"]["code"], answer.headers["X-Request-Id"]) == (500, "internal", "req-7")
    assert "req-7" in problem["detail"]
    assert "secret detail" not in problem["detail"]
    assert (await client.get("/healthz")).status == 200
