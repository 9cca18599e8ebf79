"""Promises about what a backend says of a request before anything runs."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.json_text import to_text
from common.settings import Settings
from schemas.converter import structure
from schemas.train import TrainRequest
from service.revisions import put
from service.specs import shown_spec, write_spec
from trainyard.testing.fixtures import BackendFixtures
from trainyard.testing.play import Play
from trainyard.testing.promise import kept
from trainyard.testing.service import Document, RunningService

_SOON_SECONDS = 2.0
_TRIES = 3


@pytest.mark.asyncio
class ValidatesRequests(BackendFixtures):
    """`validate_request` names all that is wrong here, each with its path, and lets good requests pass."""

    async def test_a_good_request_is_valid(self, service: RunningService, settings: Settings) -> None:
        status, answer = await service.call("POST", "/train/validate", self.document("good", Play(), settings))
        kept(
            status == 200,
            "`validate_request` returns no errors for a request that the backend can run",
            answer,
            "an empty list; or override `document` so that it makes requests that your backend takes",
        )

    async def test_what_it_can_not_do_is_refused_with_its_path(
        self, service: RunningService, settings: Settings
    ) -> None:
        for path, values in self.refused().items():
            bad = put(self.document("bad", Play(), settings), values)
            status, answer, seconds = await _quickest(service, bad)
            errors = answer.get("errors", []) if isinstance(answer, dict) else []
            kept(
                status == 400 and path in {error["path"] for error in errors},
                f"`validate_request` refuses {dict(values)}",
                f"{status}, with errors for {[error['path'] for error in errors]}: {answer}",
                f"a FieldError whose path is {path!r}, as the request's document writes it",
            )
            kept(
                all(len(error["message"]) > 5 for error in errors),
                "an error says what would run",
                errors,
                "a message for the reader, as 'must be 8 or fewer, got 100000'",
            )
            kept(
                seconds < _SOON_SECONDS * self.pace,
                "`validate_request` returns at once: it is called while a caller waits, and blocks the service",
                f"{seconds:.1f} s",
                "no network in it; ask the cluster in the background, and judge by what is known",
            )

    async def test_everything_that_is_wrong_is_told_at_once(self, service: RunningService, settings: Settings) -> None:
        refused = self.refused()
        bad = self.document("bad", Play(), settings)
        for values in refused.values():
            bad = put(bad, values)
        _, answer = await service.call("POST", "/train/validate", bad)
        told = {error["path"] for error in answer["errors"]} if isinstance(answer, dict) else set()
        kept(
            refused.keys() <= told,
            "all errors of a document are told at once",
            f"errors for {sorted(told)}",
            f"one for each of {sorted(refused)}: collect them in a list, raise for none",
        )


@pytest.mark.asyncio
class BuildsSpecs(BackendFixtures):
    """`build_job_spec` is pure: the same request gives the same spec, and nothing is touched."""

    async def test_the_same_request_gives_the_same_spec(self, service: RunningService, settings: Settings) -> None:
        first, second = (service.backend.build_job_spec(self._request(settings)) for _ in range(2))
        kept(
            first == second,
            "`build_job_spec` is pure",
            f"two different specs for one request:\n  {first}\n  {second}",
            "equal ones: no clock, no random name, no counter in it (ids and devices belong into `submit`)",
        )

    async def test_building_a_spec_touches_nothing(self, service: RunningService, settings: Settings) -> None:
        before = set(_files(settings.data_dir.parent))
        service.backend.build_job_spec(self._request(settings))
        kept(
            (made := set(_files(settings.data_dir.parent)) - before) == set(),
            "`build_job_spec` writes nothing",
            f"it made {sorted(map(str, made))}",
            "no file at all: a spec is also built for POST /train/validate, where nothing may be left behind",
        )

    async def test_a_spec_is_plain_json(self, service: RunningService, settings: Settings) -> None:
        spec = service.backend.build_job_spec(self._request(settings))
        shown = shown_spec(spec)
        try:
            back = json.loads(write_spec(spec))
        except (TypeError, ValueError) as e:
            back = f"{type(e).__name__}: {e}"
        kept(
            isinstance(back, dict) and back | {"warnings": []} == json.loads(to_text(shown)) | {"warnings": []},
            "a spec can be stored and shown: its values are JSON",
            back,
            "strings, numbers, lists and objects in `request`, `options`, `needs` …",
        )

    def _request(self, settings: Settings) -> TrainRequest:
        read = structure(self.document("spec", Play(), settings), TrainRequest)
        assert read.value is not None, read.errors
        return read.value


async def _quickest(service: RunningService, document: Document) -> tuple[int, Any, float]:
    """What is said of a document, and the least seconds that it took: a busy machine may make some calls long."""
    times: list[float] = []
    for _ in range(_TRIES):
        began = time.monotonic()
        status, answer = await service.call("POST", "/train/validate", document)
        times.append(time.monotonic() - began)
    return status, answer, min(times)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.name.startswith("trainyard.db"))


def merged(document: Document, **values: object) -> Document:
    """A document with further values; `__` in a name is a dot of the path."""
    return put(document, {name.replace("__", "."): value for name, value in values.items()})
