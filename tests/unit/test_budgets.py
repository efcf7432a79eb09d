"""A budget of steps or tokens: every method brought to it, or refused with the reason before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest

from seft_bench.bench.budget import budget_lines, budget_note, budget_record
from seft_bench.bench.matrix import cells_of
from seft_bench.config import MatrixConfig
from seft_bench.errors import InputError
from training.budgets import Unit, at_budget, trained_beyond_start
from training.methods import METHODS, build_stages
from training.settings import TrainSettings

WITHOUT_A_POLICY = {name for name, method in METHODS.items() if "policy" not in method.settings.model_fields}


def at_steps(method: str, settings: dict[str, Any], steps: int) -> Any:
    return at_budget(method, settings, "steps", steps)


def others_in_steps(method: str, steps: int, unit: Unit = "steps") -> dict[str, Any]:
    """Settings that give every training but the start's and the policy's these steps, or tokens."""
    fields = METHODS[method].settings.model_fields.items()
    trained = [key for key, field in fields if field.annotation is TrainSettings and key not in ("start", "policy")]
    graded = {"grader": "trained-reward-model"} if "grader" in METHODS[method].settings.model_fields else {}
    pairs = {"on_policy_pairs": True} if method == "realign" else {}
    return {**{key: {f"max_{unit}": steps} for key in trained}, **graded, **pairs}


def steps_of(method: str, settings: Any) -> int:
    return sum(stage.settings.max_steps or 0 for stage in trained_beyond_start(build_stages(method, settings, 2)))


@pytest.mark.parametrize("budget", [150, 151])
@pytest.mark.parametrize("method", sorted(METHODS.keys() - WITHOUT_A_POLICY))
def test_every_method_takes_exactly_its_budget(method: str, budget: int) -> None:
    found = at_steps(method, others_in_steps(method, 20), budget)
    assert sum(found.stages.values()) == steps_of(method, found.settings) == budget


@pytest.mark.parametrize("method", sorted(METHODS.keys() - WITHOUT_A_POLICY - {"grpo", "rloo"}))
def test_every_method_that_draws_nothing_while_it_trains_takes_exactly_its_tokens(method: str) -> None:
    found = at_budget(method, others_in_steps(method, 20_000, "tokens"), "tokens", 150_001)
    stages = trained_beyond_start(build_stages(method, found.settings, 2))
    assert sum(found.stages.values()) == sum(stage.settings.max_tokens or 0 for stage in stages) == 150_001
    assert {stage.settings.max_steps for stage in stages} == {None}


def test_tokens_of_answers_that_are_still_to_be_drawn_are_refused() -> None:
    for method in ("grpo", "rloo"):
        with pytest.raises(InputError, match="nobody knows how many tokens a policy will draw"):
            at_budget(method, {}, "tokens", 150_000)
    with pytest.raises(InputError, match=r"nobody knows the tokens of chosen .*give settings\.teacher\.max_tokens"):
        at_budget("self-label", {}, "tokens", 150_000)


def test_revisers_count_and_the_policy_gets_the_rest_over_its_rounds() -> None:
    found = at_steps("seft", others_in_steps("seft", 30), 151)
    assert found.stages == {"preliminary-reviser": 30, "reviser": 30, "policy-1": 46, "policy-2": 45}
    assert found.settings["policy"] == {"max_steps": 91}
    own_drafts = at_steps("seft", {**others_in_steps("seft", 30), "decision": "never"}, 150)  # needs no reviser
    assert own_drafts.stages == {"policy-1": 75, "policy-2": 75}


def test_other_settings_of_the_policy_stay_and_a_start_is_left_as_it_is() -> None:
    assert at_steps("dpo", {"policy": {"learning_rate": 1e-5}, "beta": 0.2}, 150).settings == {
        "policy": {"learning_rate": 1e-5, "max_steps": 150},
        "beta": 0.2,
    }
    assert at_steps("sft", {"start": {"max_steps": 7}}, 150).settings == {"start": {"max_steps": 7}}
    assert at_steps("sft", {}, 150).stages == {}


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("seft", {}, "give settings.preliminary.max_steps, settings.reviser.max_steps"),
        ("self-label", {}, "its other stages take 150 steps .*, which leaves the policy none"),
        ("dpo", {"policy": {"max_steps": 150}}, "settings.policy.max_steps: 150 contradicts it"),
        ("dpo", {"policy": {"epochs": 1}}, "settings.policy.epochs: 1 contradicts it"),
        ("dpo", {"training": {"max_steps": 20}}, "settings.training.max_steps: 20 contradicts it"),
        ("dpo", {"policy": {"validation": {"rows": 8, "early_stop": {}}}}, "dpo may stop early"),
        ("dpo", {"policy": {"warmup_steps": 150}}, "150 warmup_steps do not fit"),
        ("iterative-dpo", {"rounds": 151}, "cannot be shared by 151 rounds"),
        *((name, {}, "it trains no policy") for name in sorted(WITHOUT_A_POLICY - {"sft"})),
        ("dpo", {"beta": -1.0}, "beta"),
    ],
)
def test_what_cannot_be_brought_there_is_refused_with_the_reason(
    method: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        at_steps(method, settings, 150)


def matrix_of(*rows: dict[str, Any], **more: Any) -> MatrixConfig:
    start = {"name": "start", "method": "sft", "role": "start"}
    values: dict[str, Any] = {"name": "m", "base": "tinyworld", "seeds": [0], "suites": ["tiny-mtbench"]}
    return MatrixConfig.model_validate({**values, "rows": [start, *rows], **more})


def test_a_matrix_trains_its_rows_at_the_budget_and_says_so() -> None:
    dpo, label = {"name": "dpo", "method": "dpo"}, {"name": "label", "method": "self-label"}
    label["settings"] = {"teacher": {"max_steps": 40}}  # type: ignore[assignment]
    matrix = matrix_of(dpo, label, budget={"steps": 100})
    assert [cell.recipe.settings.get("policy") for cell in cells_of(matrix)] == [
        None,
        {"max_steps": 100},
        {"max_steps": 60},
    ]
    assert MatrixConfig.model_validate(matrix.as_row()) == matrix  # what workers are sent
    assert budget_record(matrix) == {
        "steps_beyond_start": {"start": {}, "dpo": {"dpo": 100}, "label": {"chosen": 40, "self-label": 60}}
    }
    assert budget_lines(matrix)[-1] == "budget of steps: 100: label: chosen 40 + self-label 60"
    assert budget_note(matrix)[0].startswith("At equal steps (100)")
    in_tokens = matrix_of(dpo, budget={"tokens": 90_000})
    assert cells_of(in_tokens)[1].recipe.settings == {"policy": {"max_tokens": 90_000}}
    assert MatrixConfig.model_validate(in_tokens.as_row()) == in_tokens
    assert in_tokens.as_row()["budget"] == {"tokens": 90_000}
    assert budget_note(in_tokens)[0].startswith("At equal tokens (90,000, within a batch a stage)")
    plain = matrix_of(dpo)
    assert (budget_record(plain), budget_lines(plain), budget_note(plain)) == ({}, [], ())
    assert "budget" not in plain.as_row()


def test_all_rows_that_cannot_be_brought_there_stand_in_one_message() -> None:
    rows = [{"name": "seft", "method": "seft"}, {"name": "dpo", "method": "dpo", "settings": {"policy": {"epochs": 1}}}]
    with pytest.raises(InputError) as raised:
        cells_of(matrix_of(*rows, budget={"steps": 100}))
    said = str(raised.value)
    assert "matrix m: 2 rows cannot be brought to `budget: {steps: 100}`" in said
    assert "row 'seft' (method seft): nobody knows the steps of preliminary-reviser and reviser" in said
    assert "row 'dpo' (method dpo): settings.policy.epochs: 1 contradicts it" in said


@pytest.mark.parametrize("budget", [{}, {"steps": 0}, {"steps": 10, "pairs": 5}, {"steps": 5, "tokens": 10}])
def test_a_budget_is_of_steps_or_tokens(budget: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="budget"):
        matrix_of(budget=budget)
