"""One of several processes runs out of memory: all begin again from the newest checkpoint with half as much at once."""

import json

import pytest

from tests.integration.trainer.test_processes_curves import prepared

pytestmark = pytest.mark.slow

#: In process `rank` a call of the model with more than `rows` rows asks torch for more memory than there is, from the
#: call of number `call` on.
TIGHT = """
import importlib.abc, importlib.machinery, inspect, os, sys

NAME = "transformers.models.llama.modeling_llama"

class Tight(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != NAME or os.environ.get("RANK") != "{rank}":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            forward, calls = module.LlamaForCausalLM.forward, [0]

            def limited(self, input_ids=None, **more):
                import torch

                calls[0] += 1
                if len(input_ids) > {rows} and calls[0] >= {call}:
                    torch.empty(1 << 60)
                return forward(self, input_ids=input_ids, **more)

            limited.__signature__ = inspect.signature(forward)
            module.LlamaForCausalLM.forward = limited

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Tight())
"""


def tight(job, rows, *, rank=1, call=0):
    folder = job.folder.parent / f"tight {rank}"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(TIGHT.format(rows=rows, rank=rank, call=call))
    job.paths = [str(folder)]


def test_all_begin_again_from_the_newest_checkpoint_and_learn_the_same(new_job, new_here):
    job = prepared(new_job, "two", "lora", processes=2, micro_batch_size=4, save_steps=2, max_steps=6, eval_ratio=0)
    tight(job, 2, call=6)
    job.command(id="c1", command="change", values={"tuning_parameters.learning_rate": 5e-4})
    assert job.run() == 0, job.log
    steps = [data["step"] for data in job.events("progress")]
    assert steps[-1] == 6 and 2 < len(steps) - 6 + 2 + 2 < 7, "it went on from a checkpoint, not from the start"
    (said,) = [event["message"] for event in job.events("log") if "out of memory" in event["message"]]
    assert "with micro_batch_size 4: it is 2 from here on" in said and "all processes began again from step " in said
    manifest = json.loads((job.output / "manifest.json").read_text())
    (halved,) = manifest["halved"]
    assert (halved["name"], halved["from"], halved["to"]) == ("micro_batch_size", 4, 2) and halved["step"] > 0
    assert len(job.events("end")) == len(job.events("ack")) == 1, "what was asked for and answered is not done again"
    assert [change["values"] for change in manifest["changes"]] == [{"tuning_parameters.learning_rate": 5e-4}]
    assert [event["type"] for event in job.events()].count("end") == 1

    small = new_here("small")
    small.tuning |= {"batch_size": 8, "micro_batch_size": 2, "max_steps": 6}
    small.changes = manifest["changes"]
    small.train()
    assert job.losses() == pytest.approx(small.losses(), rel=1e-3)
