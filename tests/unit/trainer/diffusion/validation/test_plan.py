"""What is drawn, as far as the options say it; no torch is needed."""

import json
import subprocess
import sys

import pytest

from schemas.diffusion import Options
from trainyard.trainer.diffusion.validation.library import LIBRARY
from trainyard.trainer.diffusion.validation.plan import Plan, preview_steps
from trainyard.trainer.failures import ConfigError


def plan(**given):
    return Plan.of(Options(**({"model_family": "flux", "model_type": "lora"} | given)))


def test_prompt_and_libraries_come_together_each_under_its_name(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"night bench": "a bench at night", "ДОМ": "a house"}))
    found = plan(validation_prompt="a cat", user_prompt_library=str(path), validation_prompt_library=True)
    assert [(p.name, p.text) for p in found.prompts] == [
        ("validation", "a cat"),
        ("night bench", "a bench at night"),
        ("ДОМ", "a house"),
        *LIBRARY.items(),
    ]
    assert found.texts == (*(p.text for p in found.prompts), "blurry, cropped, ugly")


def test_a_library_may_stand_in_the_option_itself():
    assert [p.text for p in plan(user_prompt_library='{"x": "an x"}').prompts] == ["an x"]


def test_no_two_prompts_have_one_file_and_none_leaves_the_folder():
    names = {"a/b": "1", "a b": "2", "A_B": "3", "../..": "4", "ДОМ": "5", "x" * 300: "6"}
    files = [p.file for p in plan(user_prompt_library=json.dumps(names)).prompts]
    assert files == ["a_b", "a_b-2", "A_B-3", "prompt", "prompt-2", "x" * 64]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[1]", "an object of prompts"),
        ("{}", "an object of prompts"),
        ('{"a": 1}', "the prompt of 'a' is no text"),
        ("x", "is not JSON"),
    ],
)
def test_a_library_that_is_none_is_refused_by_its_path(tmp_path, content, problem):
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=rf"extra_parameters\.user_prompt_library: .*prompts\.json: .*{problem}"):
        plan(user_prompt_library=str(path))
    with pytest.raises(ConfigError, match=r"gone\.json: can't be read: No such file"):
        plan(user_prompt_library=str(tmp_path / "gone.json"))


def test_sizes_are_told_by_edge_by_both_edges_or_in_megapixels():
    assert plan(validation_resolution="512, 1024x768,1").sizes == ((512, 512), (1024, 768), (1024, 1024))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "the job has no validation_prompt"),
        ({"validation_prompt": "x", "validation_disable": True}, "validation_disable is set"),
        ({"validation_prompt": "x"}, None),
        ({"validation_method": "external-script", "validation_external_script": "true"}, None),
    ],
)
def test_whether_there_are_pictures(given, why):
    found = plan(**given)
    assert found.why_not == why
    assert bool(found.texts) == (why is None and not found.external), "nothing else is embedded"


@pytest.mark.parametrize(
    ("steps", "every", "shown"),
    [(20, 4, [1, 5, 9, 13, 17, 20]), (3, 1, [1, 2, 3]), (5, 9, [1, 5]), (1, 1, [1]), (9, 4, [1, 5, 9])],
)
def test_the_first_step_is_shown_then_each_nth_then_the_last(steps, every, shown):
    assert preview_steps(steps, every) == shown


def test_the_plan_and_the_scripts_need_no_torch():
    code = (
        "import sys, trainyard.trainer.diffusion.validation.plan, trainyard.trainer.diffusion.scripts; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
