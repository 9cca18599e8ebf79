"""The manifest and the model card of a job that was resumed with other values: they name those, too."""

import json

import pytest
from attrs import evolve

from tests.here import Here
from trainyard.trainer.claim import Spec

RATE = "tuning_parameters.learning_rate"
#: As the service writes it: the document has it already.
GIVEN = {"step": 2, "values": {RATE: 5e-4, "backend": "elsewhere"}}


class Resumed(Here):
    def run(self):
        run = super().run()
        known = json.loads(self.folder.spec.read_text())
        self.folder.spec.write_text(json.dumps(known | {"recorded": [GIVEN]}))
        return evolve(run, spec=Spec.read(run.claim))


@pytest.mark.slow
def test_what_a_resume_gave_is_named_beside_what_the_run_repeats_and_is_not_repeated_itself(tmp_path, tiny_model):
    here = Resumed(tmp_path / "here", tiny_model)
    here.tuning |= {"max_steps": 4, "lr_scheduler": "constant"}
    here.changes = [{"step": step, "values": {RATE: rate}} for step, rate in ((1, 2e-3), (3, 4e-3))]
    here.train()
    assert [data["learning_rate"] for data in here.events("progress")] == [1e-3, 2e-3, 2e-3, 4e-3]
    assert here.manifest["changes"] == [here.changes[0], GIVEN, here.changes[1]]
    assert "| 2 | backend | elsewhere |" in (here.output / "final" / "README.md").read_text()
