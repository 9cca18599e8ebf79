"""`POST /train` (contract train.md, 1 and 3)."""

import asyncio
import io
import json

import attrs
import pytest


async def test_a_valid_document_is_created_and_located(client, document):
    answer = await client.post("/train", json=document("a"))
    job = await answer.json()
    assert (answer.status, answer.headers["Location"]) == (201, "/train/a")
    assert (job["status"], job["phase"], job["attempt"], job["last_sequence"]) == ("queued", "waiting", 1, 1)
    assert job["links"]["events"] == "/train/a/events"
    assert answer.headers["X-Request-Id"]


async def test_the_usage_guides_document_runs_on_the_simulated_backend(client, guide):
    answer = await client.post("/train", json={**guide, "backend": "simulated"})
    job = await answer.json()
    assert answer.status == 201
    assert [w["path"] for w in job["warnings"]] == ["customization.qlora"]
    assert await _end(client, job["job_id"]) == "succeeded"


async def test_the_usage_guides_document_on_local_names_exactly_what_is_lacking(client, guide):
    answer = await client.post("/train", json=guide)
    problem = await answer.json()
    assert answer.status == 400
    paths = {error["path"] for error in problem["errors"]}
    assert {"resources.gpus", "resources.gpu_type"} <= paths
    assert all(path.startswith("resources.") for path in paths)
    assert all(error["message"] for error in problem["errors"])


async def test_the_same_document_again_gives_the_job_that_exists(client, document):
    first = await (await client.post("/train", json=document("a"))).json()
    reordered = dict(reversed(document("a").items()))
    answer = await client.post("/train?strict=false", json=reordered)
    assert (answer.status, (await answer.json())["uid"]) == (200, first["uid"])


async def test_another_document_of_the_same_id_is_a_conflict_that_tells_nothing(client, document):
    await client.post("/train", json=document("a"))
    answer = await client.post("/train", json=document("a", steps=5))
    problem = await answer.json()
    assert (answer.status, answer.headers["x-should-retry"]) == (409, "false")
    assert "clone" in problem["detail"]
    assert "steps" not in json.dumps(problem)


async def test_two_ids_that_differ_in_case_alone_are_a_conflict(client, document):
    await client.post("/train", json=document("job-a"))
    assert (await client.post("/train", json=document("JOB-A"))).status == 409
    assert (await client.get("/train/JOB-A")).status == 404


async def test_many_at_once_of_one_document_make_one_job(client, document):
    answers = await asyncio.gather(*(client.post("/train", json=document("a")) for _ in range(20)))
    assert sorted(a.status for a in answers) == [200] * 19 + [201]
    assert len({(await a.json())["uid"] for a in answers}) == 1


async def test_every_error_of_a_document_is_told_at_once(client, document):
    wrong = document("a")
    wrong["customization"] = {"rank": "abc", "lora_dropout": 2}
    wrong["datasets"][0]["format"] = "xml"
    del wrong["artifacts"]["log_uri"]
    problem = await (await client.post("/train", json=wrong)).json()
    assert {e["path"] for e in problem["errors"]} == {
        *("customization.rank", "customization.lora_dropout"),
        *("datasets[0].format", "artifacts.log_uri"),
    }
    assert problem["error"]["param"] == problem["errors"][0]["path"]


async def test_the_engines_keys_are_read_beside_the_backends_on_every_backend(client, document):
    problem = await (await client.post("/train", json=document("a", processes=0, steps="many"))).json()
    assert {e["path"] for e in problem["errors"]} == {"extra_parameters.processes", "extra_parameters.steps"}
    job = await (await client.post("/train", json=document("a", procesess=2))).json()
    assert "did you mean 'processes'" in job["warnings"][0]["message"]
    rows = (await (await client.get("/backends")).json())["backends"]
    assert all("processes" in row["options_schema"]["properties"] for row in rows)


async def test_errors_of_the_backends_own_options_come_with_the_others(client, document):
    problem = await (await client.post("/train", json=document("a", steps="many", outcome="maybe"))).json()
    assert {e["path"] for e in problem["errors"]} == {"extra_parameters.steps", "extra_parameters.outcome"}


async def test_unknown_fields_are_warnings_and_with_strict_errors(client, document):
    odd = document("a", step=3) | {"tuning_parameter": {}}
    warnings = (await (await client.post("/train", json=odd)).json())["warnings"]
    assert {w["path"] for w in warnings} == {"tuning_parameter", "extra_parameters.step"}
    assert any("tuning_parameters" in w["message"] for w in warnings)
    assert (await client.post("/train?strict=true", json=odd | {"job_id": "b"})).status == 400
    assert (await client.get("/train/b")).status == 404


async def test_secrets_come_back_masked_and_the_mask_cannot_be_posted(client, document):
    secret = document("a")
    secret["base_model"]["huggingface_token"] = "hf_very-secret"
    secret["extra_parameters"]["env"] = {"WANDB_API_KEY": "also-secret"}
    text = await (await client.post("/train", json=secret)).text()
    text += await (await client.get("/train/a")).text()
    assert "very-secret" not in text
    assert "also-secret" not in text
    fetched = json.loads(await (await client.get("/train/a")).text())["metadata"]["request"]
    answer = await client.post("/train", json=fetched | {"job_id": "b"})
    assert answer.status == 400
    assert "base_model.huggingface_token" in {e["path"] for e in (await answer.json())["errors"]}


async def test_secrets_are_not_in_the_database_in_clear(client, parts, document, settings):
    secret = document("a")
    secret["base_model"]["huggingface_token"] = "hf_very-secret-token"
    await client.post("/train", json=secret)
    await parts.store.check()
    stored = b"".join(p.read_bytes() for p in settings.data_dir.glob("trainyard.db*"))
    assert b"very-secret-token" not in stored
    record = await parts.store.job("a")
    assert await parts.store.secrets(record.job.uid) == {"base_model.huggingface_token": "hf_very-secret-token"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "JSON"),
        (b'{"job_id": "a", "job_id": "b"}', "twice"),
        (b'{"priority": NaN}', "NaN"),
        (b'{"priority": 1e999}', ""),
        (b'{"priority": 12345678901234567890}', ""),
        (b'{"job_id": "\\ud800"}', "surrogate"),
        (b'{"job_id": "a\\u0000"}', "NUL"),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", "UTF-8"),
        (b"", ""),
    ],
)
async def test_what_is_no_json_is_a_clear_400(client, body, says):
    answer = await client.post("/train", data=body, headers={"Content-Type": "application/json"})
    problem = await answer.json()
    assert answer.status == 400
    assert problem["error"]["code"] == "invalid_json"
    assert says in problem["detail"]


async def test_a_body_that_is_too_large_is_413(client):
    answer = await client.post(
        "/train", data=io.BytesIO(b"x" * (2 << 20)), headers={"Content-Type": "application/json"}
    )
    assert (answer.status, (await answer.json())["error"]["code"]) == (413, "too_large")


async def test_a_body_of_another_type_is_415(client):
    answer = await client.post("/train", data=b"a=b", headers={"Content-Type": "text/plain"})
    assert answer.status == 415


async def test_an_unknown_backend_is_told_with_the_registered_ones(client, document):
    answer = await client.post("/train", json=document("a") | {"backend": "mainframe"})
    problem = await answer.json()
    assert (answer.status, problem["error"]["code"], problem["errors"][0]["path"]) == (
        400,
        "unknown_backend",
        "backend",
    )
    assert "local" in problem["detail"]
    assert "simulated" in problem["detail"]


async def test_flux_train_bodies_are_told_that_their_api_is_absent(client):
    answer = await client.post("/train", json={"output_name": "my_model", "network_dim": 4})
    assert answer.status == 400
    assert "Flux Train API" in (await answer.json())["detail"]


async def test_validate_says_the_same_and_stores_nothing(client, document):
    answer = await client.post("/train/validate", json=document("a"))
    found = await answer.json()
    assert (answer.status, found["ok"], found["job_spec"]["engine"]) == (200, True, "simulated")
    assert (await client.get("/train/a")).status == 404
    assert (await client.post("/train/validate", json={})).status == 400
    deep = await client.post("/train/validate?deep=true", json=document("a"))
    assert (deep.status, "trains nothing that could be examined" in await deep.text()) == (400, True)


async def test_relative_paths_are_stored_absolute(client, document, parts):
    relative = document("a")
    relative["artifacts"]["output_uri"] = "results"
    job = await (await client.post("/train", json=relative)).json()
    assert job["metadata"]["request"]["artifacts"]["output_uri"] == str(parts.cwd / "results")


async def test_too_many_queued_jobs_are_429(opened, document, settings):
    from aiohttp.test_utils import TestClient, TestServer

    from service.app import make_app

    parts = await opened(attrs.evolve(settings, max_queued_jobs=2, local_devices="0"))
    async with TestClient(TestServer(make_app(parts))) as client:
        held = {"devices": True, "duration_seconds": 60}
        for name in ("a", "b", "c"):
            assert (await client.post("/train", json=document(name, **held))).status == 201
            if name == "a":
                await _running(client, name)
        await asyncio.sleep(1.1)
        answer = await client.post("/train", json=document("d", **held))
        assert (answer.status, answer.headers["Retry-After"]) == (429, "30")
        for name in ("a", "b", "c"):
            await client.post(f"/train/{name}/cancel")


async def test_a_full_disk_is_507_and_nothing_is_stored(opened, document, settings):
    from aiohttp.test_utils import TestClient, TestServer

    from service.app import make_app

    parts = await opened(attrs.evolve(settings, min_free_bytes=1 << 60))
    async with TestClient(TestServer(make_app(parts))) as client:
        answer = await client.post("/train", json=document("a"))
        assert (answer.status, (await answer.json())["error"]["code"]) == (507, "storage_full")
        assert (await client.get("/train/a")).status == 404


async def _running(client, job_id: str) -> None:
    async with asyncio.timeout(30):
        while (await (await client.get(f"/train/{job_id}")).json())["started_at"] is None:
            await asyncio.sleep(0.02)


async def _end(client, job_id: str) -> str:
    async with asyncio.timeout(30):
        while (job := await (await client.get(f"/train/{job_id}")).json())["ended_at"] is None:
            await asyncio.sleep(0.05)
    return job["status"]


async def test_an_unknown_backend_and_wrong_options_are_told_with_all_other_errors(client, document):
    wrong = document("a", duration_seconds="long") | {"customization": {"rank": "x"}}
    for backend, also in (("simulated", "extra_parameters.duration_seconds"), ("nosuch", "backend")):
        problem = await (await client.post("/train", json=wrong | {"backend": backend})).json()
        assert {error["path"] for error in problem["errors"]} == {"customization.rank", also}


async def test_a_mask_among_the_options_is_one_error(client, document):
    problem = await (await client.post("/train", json=document("a", some_token="••••"))).json()
    assert [error["path"] for error in problem["errors"]] == ["extra_parameters.some_token"]


async def test_a_limit_larger_than_any_is_clamped(client):
    assert (await client.get(f"/train?limit={'9' * 40}")).status == 200


async def test_a_limit_of_cost_without_a_price_list_is_a_400(client, document):
    answer = await client.post("/train", json=document("a") | {"resources": {"max_cost": 5}})
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "resources.max_cost")


async def test_a_misspelt_required_field_is_named_beside_the_lack(client, document):
    wrong = document("a")
    wrong["datsets"] = wrong.pop("datasets")
    problem = await (await client.post("/train", json=wrong)).json()
    assert [e for e in problem["errors"] if e["path"] == "datasets"] == [
        {"path": "datasets", "message": "is required; 'datsets' is unknown"}
    ]
