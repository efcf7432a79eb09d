"""Settings that cannot work: one message with file, key and value, status 2, and nothing trained before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import small_matrix
from tests.integration.cli import good, seft_bench
from tests.small_seft import STEP, write_data
from tests.tiny_model import make_tiny_model
from training.methods import METHODS

FEW = {**STEP, "max_steps": 2}
TRAININGS = dict.fromkeys(("start", "preliminary", "reviser", "decider", "teacher", "policy"), FEW)
DRAFTS = {"max_new_tokens": 8, "batch_size": 8, "temperature": 1.0}
INF, NAN = float("inf"), float("nan")

Case = tuple[str, dict[str, Any], str]

BY_THEMSELVES: list[Case] = [
    ("best-of-n", {"drafts": {"temperature": 0}}, "drafts.temperature: 0 makes all 8 samples of a prompt alike"),
    ("iterative-dpo", {"drafts": {"temperature": 0}}, "drafts.temperature: 0 makes all 8 samples of a prompt alike"),
    ("self-rewarding", {"drafts": {"temperature": 0}}, "drafts.temperature: 0 makes all 8 samples of a prompt alike"),
    ("best-of-n", {"drafts": {"temperature": INF}}, "drafts.temperature: Input should be a finite number (got inf)"),
    ("best-of-n", {"samples": 1}, "samples: Input should be greater than 1 (got 1)"),
    ("best-of-n", {"keep": "above"}, "keep: above learns samples graded min_grade or more: give a min_grade"),
    ("best-of-n", {"min_grade": 5.0}, "min_grade: 5 parts no samples: grades by base-likelihood are at most 0"),
    (
        "best-of-n",
        {"min_grade": 11, "grader": "rubric"},
        "min_grade: 11 parts no samples: grades by rubric are 1",
    ),
    ("best-of-n", {"min_grade": 0, "grader": "rubric"}, "min_grade: 0 parts no samples: grades by rubric are 1 to 10"),
    ("best-of-n", {"min_graded_share": 1.5}, "min_graded_share: Input should be less than or equal to 1 (got 1.5)"),
    ("best-of-n", {"centering": 0.1}, "centering: of a reward model that is trained first, and grader is base-"),
    (
        "grpo",
        {"reward_model": {"epochs": 1}, "grader": "rubric", "training": {"device": "cpu"}},
        "reward_model: of a reward model that is trained first, and grader is rubric",
    ),
    ("best-of-n", {"grader": "likelihood:"}, "a likelihood is one of base-likelihood, start-likelihood"),
    ("best-of-n", {"grader": "nobody"}, "grader: unknown judge 'nobody'"),
    ("grpo", {"grader": "nobody"}, "grader: unknown judge 'nobody'"),
    ("best-of-n", {"prompts": 1, "rounds": 2}, "prompts: 1 cannot be shared by 2 rounds"),
    ("seft", {"prompts": 1, "rounds": 2}, "prompts: 1 cannot be shared by 2 rounds"),
    ("spin", {"rounds": 4}, "policy.max_steps: 2 cannot be shared by 4 rounds"),
    ("seft", {"rounds": 4}, "policy.max_steps: 2 cannot be shared by 4 rounds"),
    ("seft", {"instruction": " "}, "instruction: String should match pattern"),
    ("dpo", {"beta": 0}, "beta: Input should be greater than 0 (got 0)"),
    ("iterative-dpo", {"beta": INF}, "beta: Input should be a finite number (got inf)"),
    ("dpo", {"policy": {"learning_rate": INF}}, "policy.learning_rate: Input should be a finite number (got inf)"),
    ("dpo", {"policy": {"max_grad_norm": NAN}}, "policy.max_grad_norm: Input should be a finite number (got nan)"),
    ("dpo", {"policy": {"epochs": INF, "max_steps": None}}, "policy.epochs: Input should be a finite number (got inf)"),
    ("dpo", {"policy": {"adam_betas": [0.9, 1.0]}}, "policy.adam_betas.1: Input should be less than 1 (got 1.0)"),
    ("dpo", {"policy": {"adam_betas": [-0.1, 0.9]}}, "policy.adam_betas.0: Input should be greater than or equal to 0"),
]
"""Method, settings, and the message: nothing but the settings is needed to see it."""

WITH_DATA: list[Case] = [
    ("best-of-n", {"policy": {"max_steps": 9}, "rounds": 7}, "round 7 of 7 has no prompts left: there are 6"),
    ("seft", {"policy": {"max_steps": 9}, "rounds": 7}, "round 7 of 7 has no prompts left: there are 6"),
    ("seft", {"prompts": 700}, "prompts: 700 are asked for, and data:prompts has 6"),
    ("self-label", {"prompts": 700}, "prompts: 700 are asked for, and data:prompts has 6"),
    ("spin", {"prompts": 700}, "prompts: 700 are asked for, and data:sft has 8"),
    ("grpo", {"prompts": 700}, "prompts: 700 are asked for"),
    ("kto", {"labels": "unpaired"}, "lacks unpaired.jsonl"),
    ("sft", {"start": {"max_length": 4}}, "raise max_length (now 4)"),
    ("best-of-n", {"policy": {"max_length": 10}}, "stage 'policy-1': max_length: 10 leaves an answer no room"),
    ("seft", {"policy": {"max_length": 10}}, "stage 'policy-1': max_length: 10 leaves an answer no room"),
    ("seft", {"reviser": {"max_length": 12}}, "stage 'reviser': max_length: 12 leaves an answer no room"),
    (
        "seft",
        {"decider": {"max_length": 12}, "decision": "token"},
        "stage 'decider': max_length: 12 leaves an answer no room",
    ),
    ("seft", {"drafts": {"max_new_tokens": 600}}, "drafts.max_new_tokens: 600 leave a prompt of 1 tokens no room"),
    ("self-rewarding", {"judge": "prompt"}, "judging.max_new_tokens: 256 leave a prompt of"),
    ("best-of-n", {"grader": "likelihood:./nowhere"}, "grader './nowhere' is no checkpoint"),
    ("dpo", {"policy": {"warmup_steps": 2}}, "2 warmup_steps do not fit into the run's 2 steps"),
    ("spin", {"policy": {"warmup_steps": 1}}, "1 warmup_steps do not fit into the run's 1 steps"),
    ("dpo", {"policy": {"device": "gpu"}}, "unknown device 'gpu'"),
    ("dpo", {"policy": {"device": "cuda:99"}}, "device: cuda:99 is not on this machine"),
    (
        "dpo",
        {"policy": {"attention": "flash_attention_3", "precision": "mixed"}},
        "flash_attention_3 cannot",
    ),
    ("dpo", {"policy": {"lora": {"target_modules": ["nowhere"]}}}, "Target modules {'nowhere'} not found"),
    ("dpo", {"policy": {"validation": {"rows": 100}}}, "validation: rows 100 of"),
]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A base and a folder of data."""
    folder = tmp_path_factory.mktemp("refusals")
    return str(make_tiny_model(folder / "base")), str(write_data(folder / "data"))


def settings_of(method: str, given: dict[str, Any]) -> dict[str, Any]:
    known = METHODS[method].settings.model_fields
    few: dict[str, Any] = {key: value for key, value in {**TRAININGS, "drafts": DRAFTS}.items() if key in known}
    if method == "grpo":
        few |= {"drafts": {"max_new_tokens": 8}, "policy": {**STEP, "max_steps": 2, "global_batch_size": 8}}
    for key, value in given.items():
        few[key] = {**few.get(key, {}), **value} if isinstance(value, dict) else value
    return few


def named(case: Case) -> str:
    return f"{case[0]} {case[1]}"


@pytest.mark.parametrize("case", BY_THEMSELVES + WITH_DATA, ids=named)
def test_train_refuses_before_it_trains(case: Case, material: tuple[str, str], desk: Path) -> None:
    method, given, says = case
    base, data = material
    row = {"name": "refused", "method": method, "base": base, "data": data, "settings": settings_of(method, given)}
    (desk / "refused.yaml").write_text(yaml.safe_dump(row))
    seen = good(seft_bench("train", "refused.yaml", "--yes"), status=2)
    assert says in seen.err
    assert seen.out == ""
    assert not list(desk.rglob("train.jsonl"))
    assert "refused.yaml: " in seen.err or case in WITH_DATA


@pytest.mark.parametrize("case", BY_THEMSELVES, ids=named)
def test_bench_refuses_before_any_cell(case: Case, material: tuple[str, str], desk: Path) -> None:
    method, given, says = case
    base, data = material
    rows = [
        {"name": "fine", "method": "sft", "settings": {"start": TRAININGS["start"]}},
        {"name": "refused", "method": method, "settings": settings_of(method, given)},
    ]
    matrix = small_matrix.write_matrix(desk, base=base, data=data, rows=rows)
    seen = good(seft_bench("bench", matrix, "--out", "out"), status=2)
    assert says in seen.err
    assert "row 'refused': " in seen.err
    assert not list(desk.rglob("train.jsonl"))


def test_what_means_something_is_not_refused(material: tuple[str, str], desk: Path) -> None:
    base, data = material
    given = {"copies_share": 0, "max_poor_kept": 0, "rounds": 1, "evolution": "external"}
    zero = {**settings_of("seft", given), "policy": {**STEP, "weight_decay": 0, "warmup_ratio": 0}}
    row = {"name": "zeros", "method": "seft", "base": base, "data": data, "settings": zero}
    (desk / "zeros.yaml").write_text(yaml.safe_dump(row))
    good(seft_bench("train", "zeros.yaml"))
    shutil.rmtree(desk / "runs")
