"""Curves beside the events: TensorBoard, Weights & Biases with its own library (offline), and both."""

import json
import sys
import time

import pytest

from trainyard.trainer.diffusion.curves import Curves
from trainyard.trainer.diffusion.options import read_options


def curves(here):
    run = here.run()
    return Curves(read_options(run.spec.request), run), run


def records(output):
    """Of the one run that is kept, once its end is written too: the library's own process writes it."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    until, found = time.monotonic() + 120, []
    while not any(record.HasField("exit") for record in found):
        assert time.monotonic() < until, f"the end of the run is not written: {found}"
        time.sleep(0.05)
        (file,) = output.glob("wandb/offline-run-*/run-*.wandb")
        store, found = DataStore(), []
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            found.append(wandb_internal_pb2.Record.FromString(data))
        store.close()
    return found


def kept(output):
    """What the run is called, what it says of the job, and its numbers by step."""
    run, numbers = None, {}
    for record in records(output):
        if record.HasField("run"):
            run = record.run
        if record.HasField("history"):
            row = {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            numbers[row["_step"]] = {name: value for name, value in row.items() if not name.startswith("_")}
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    return (run.project, run.display_name, run.run_id), config, numbers


def test_nothing_is_written_and_nothing_imported_where_nothing_is_asked_for(job):
    found, run = curves(job("flux"))
    found.scalars(1, {"loss": 1.0})
    found.close(True)
    assert not run.spec.output.exists() or not {"wandb", "tensorboard"} & {p.name for p in run.spec.output.iterdir()}


@pytest.mark.slow
def test_both_are_written_and_a_job_without_a_key_keeps_what_would_be_sent(job, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    here = job("flux", report_to="tensorboard, wandb", tracker_project_name="kontext", tracker_run_name="third try")
    here.output.mkdir()
    found, run = curves(here)
    assert "wandb" not in sys.modules, "it is imported with the first number"
    found.from_step(2)
    for step in (3, 4):
        found.scalars(step, {"loss": 1 / step, "grad_norm": 0.5})
    found.close(True)
    called, config, numbers = kept(here.output)
    assert called == ("kontext", "third try", run.spec.uid)
    assert config["lora_rank"] == 4 and config["job_id"] == run.spec.job_id
    assert numbers == {3: {"loss": 1 / 3, "grad_norm": 0.5}, 4: {"loss": 0.25, "grad_norm": 0.5}}
    assert len(list((here.output / "tensorboard").iterdir())) == 1
    assert here.said("no WANDB_API_KEY is in extra_parameters.env; curves are kept, and `wandb sync ")
    import wandb

    def broken(*_, **__):
        raise wandb.Error("the line is dead")

    begun = Curves(read_options(run.spec.request), run)
    begun.scalars(5, {"loss": 0.1})
    monkeypatch.setattr(wandb.Run, "log", broken)
    begun.scalars(6, {"loss": 0.1})
    begun.scalars(7, {"loss": 0.1})
    begun.close(False)
    said = [event["message"] for event in here.events("log") if "the line is dead" in event["message"]]
    assert said == ["report_to wandb: the line is dead; nothing more is told there"]
