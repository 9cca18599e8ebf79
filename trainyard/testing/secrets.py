"""The promise that a job's secrets are seen by its run alone, and the service's by none."""

import pytest

from common.settings import Settings
from service.specs import write_spec
from trainyard.testing.fixtures import BackendFixtures
from trainyard.testing.play import Play
from trainyard.testing.promise import kept
from trainyard.testing.requests import merged
from trainyard.testing.service import RunningService

_TOKEN = "hf_conformance_very_secret_token"  # noqa: S105 made up, to be looked for
_VALUE = "conformance-very-secret-value"
_OWN = "conformance-secret-of-the-service"
_SECRETS = {"base_model__huggingface_token": _TOKEN, "extra_parameters__env": {"CONFORMANCE_ENV": _VALUE}}


@pytest.mark.asyncio
class KeepsSecrets(BackendFixtures):
    """Tokens and `extra_parameters.env` reach the run, and are shown to nobody."""

    async def test_secrets_are_not_visible_from_outside(
        self, service: RunningService, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONFORMANCE_KEY_OF_THE_SERVICE", _OWN)
        document = self.document("secret", Play(steps=6000, seconds=600, secrets=True), settings)
        await service.submit(merged(document, **_SECRETS))
        await service.running("secret", step=1)
        places = dict(await self.visible(service, "secret"))
        lent = sorted(name for name, text in places.items() if _OWN in text)
        kept(
            not lent,
            "the service's own environment, which may hold its token and keys, stays its own",
            f"a variable of the service is in {', '.join(lent)}",
            "none: start the run with an environment that you made (PATH, HOME, …), as `start_guard` does",
        )
        places["the spec"] = write_spec(await service.spec("secret"))
        places["the job document"] = str(await service.job("secret"))
        places["the job's events"] = str(await service.events("secret"))
        places["the served log"] = str(await service.get("/train/secret/logs"))
        spec = service.folder("secret").spec
        places["spec.json"] = spec.read_text() if spec.exists() else ""
        self._none_in(places)

    async def test_a_run_is_given_its_secrets(self, service: RunningService, settings: Settings) -> None:
        document = self.document("given", Play(steps=1, seconds=0, secrets=True, code=1), settings)
        await service.submit(merged(document, **_SECRETS))
        job = await service.ended("given")
        events = await service.events("given")
        self._none_in({"the end's events and log tail": str(events), "the log": str(await service.get(_log(job)))})
        handed = service.folder("given").secrets(1)
        kept(
            not handed.exists(),
            "what a run was handed is gone after its attempt",
            f"{handed.name} is still there",
            "nothing: leave the folder's files of the service to the service",
        )
        spec = await service.spec("given")
        if not spec.folder:
            return
        log = service.folder("given").log.read_text()
        kept(
            log.count(_TOKEN) == 1 and log.count(_VALUE) >= 1,
            "a run finds its secrets: `secrets.<n>` in the job folder, and env in its environment",
            "the run printed " + log.replace(_TOKEN, "<the token>").replace(_VALUE, "<the value>"),
            "both: start the run by the guard in the job folder",
        )

    def _none_in(self, places: dict[str, str]) -> None:
        found = [f"{name} has {what}" for name, text in places.items() for what in (_TOKEN, _VALUE) if what in text]
        kept(
            not found,
            "a job's secrets are not visible: not in its spec, argv, environment, handle, log or events",
            "; ".join(found),
            "none of them: the service lays them into `secrets.<n>` (0600) in the job folder; hand over the folder's "
            "path, never the values",
        )


def _log(job: dict[str, object]) -> str:
    return f"/train/{job['job_id']}/logs"
