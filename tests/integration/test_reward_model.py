"""Reward models from the command line: trained, judged by, graded by, and refused where answers are to be written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.chat import assistant, conversation_ids, load_tokenizer
from seft_bench.checkpoints.classifiers import is_reward_model
from seft_bench.config import RewardModelJudgeConfig
from seft_bench.files import read_json, read_jsonl
from seft_bench.judges import open_judge
from seft_bench.records import JudgeRequest, Judgment, Question
from tests.integration.cli import Seen, good, seft_bench
from tests.small_seft import STEP, write_data

SAMPLES = 3
LORA = {"rank": 4, "alpha": 8}


def write_recipe(desk: Path, base: Path, method: str, **settings: Any) -> None:
    held_out = {**STEP, "learning_rate": 3e-3, "max_steps": 12, "validation": {"rows": 2, "every_steps": 6}}
    is_trained = method == "reward-model" or settings.get("grader") == "trained-reward-model"
    few = {"start": STEP, **({"reward_model": held_out} if is_trained else {}), **settings}
    data = write_data(desk / "data")
    recipe = {"name": method, "method": method, "base": str(base), "data": str(data), "settings": few}
    (desk / f"{method}.yaml").write_text(yaml.safe_dump(recipe))


def train(name: str, *more: str) -> Seen:
    return good(seft_bench("train", f"{name}.yaml", *more))


@pytest.fixture
def reward_model(desk: Path, tiny_model: Path) -> Path:
    """The run of a reward model."""
    write_recipe(desk, tiny_model, "reward-model")
    train("reward-model")
    return desk / "runs" / "reward-model"


def test_its_accuracy_on_held_out_pairs_is_recorded_and_shown(reward_model: Path) -> None:
    """Two pairs of two questions: Wilson's interval of 2 of 2 begins at 1 / (1 + 1.96^2 / 2) = 0.3424."""
    found = read_json(reward_model / "diagnostics.json")["reward-model"]["held_out_accuracy"]
    assert (found["pairs"], found["questions"], found["step"]) == (2, 2, 12)
    if found["share"] == 1:
        assert (found["low"], found["high"]) == (pytest.approx(0.3424, abs=1e-4), 1.0)
    seen = train("reward-model")  # finished: it says so again
    assert f"held-out accuracy {100 * found['share']:.1f} %" in seen.err
    assert "of 2 pairs (2 questions) at step 12" in seen.err
    assert "judge by it: `kind: reward-model`" in seen.err


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_judge_prefers_by_the_rewards_that_were_learnt(
    lora: dict[str, int] | None, desk: Path, tiny_model: Path
) -> None:
    """A checkpoint, whole or an adapter, is a judge's model as it is; its margin is the training's last one."""
    write_recipe(desk, tiny_model, "reward-model", training={"lora": lora} if lora else {})
    train("reward-model")
    run = desk / "runs" / "reward-model"
    [stage] = run.glob("stages/reward-model-*")
    checkpoint = sorted((run / "checkpoints").iterdir())[-1]
    config = RewardModelJudgeConfig(name="mine", kind="reward-model", model=str(checkpoint), device="cpu")
    rows = read_jsonl(stage / "held_out_rows.jsonl")
    requests = [
        JudgeRequest(
            "preference",
            Question("s", str(at), "", (row["prompt"][0]["content"],)),
            1,
            (row["chosen"],),
            (row["rejected"],),
        )
        for at, row in enumerate(rows)
    ]
    judge, judgments = open_judge(config), list[Judgment]()
    judge.check({"preference"})
    judge.judge(requests, "m", judgments.append)
    margins = [one.details["reward"] - one.details["baseline_reward"] for one in judgments]
    measured = read_jsonl(stage / "validation.jsonl")[-1]
    assert sum(margins) / len(margins) == pytest.approx(measured["reward_margin"], rel=1e-4)
    other = RewardModelJudgeConfig(name="mine", kind="reward-model", model=str(checkpoint), device="cpu")
    assert open_judge(other).id == judge.id


@pytest.mark.slow
def test_a_merged_adapter_is_the_same_reward_model(desk: Path, tiny_model: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    from seft_bench.checkpoints.classifiers import load_reward_model

    write_recipe(desk, tiny_model, "reward-model", training={"lora": LORA})
    train("reward-model")
    adapter = sorted((desk / "runs" / "reward-model" / "checkpoints").iterdir())[-1]
    good(seft_bench("export", str(adapter), "--merge", "--out", "whole"))
    assert is_reward_model(desk / "whole")
    import torch

    ids = torch.tensor([conversation_ids(load_tokenizer(adapter), [*_prompt("q"), assistant("a")])])
    whole = AutoModelForSequenceClassification.from_pretrained(desk / "whole")
    with torch.no_grad():
        found, wanted = whole(ids).logits, load_reward_model(adapter, dtype="float32")(ids).logits
    torch.testing.assert_close(found, wanted)


def _prompt(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_it_is_refused_where_answers_are_to_be_written(reward_model: Path, desk: Path, tiny_model: Path) -> None:
    """Before anything runs: by `eval`, as where a policy starts, and as a row of a matrix."""
    evaluated = good(seft_bench("eval", str(reward_model), "--suite", "tiny-mtbench"), status=2)
    assert "is a reward model: it grades answers and writes none" in evaluated.err
    write_recipe(desk, tiny_model, "best-of-n", init=str(reward_model), policy=STEP, rounds=1)
    started = good(seft_bench("train", "best-of-n.yaml"), status=2)
    assert "is a reward model: it grades answers and writes none" in started.err
    assert not list((desk / "runs" / "best-of-n").glob("stages/*/run.json"))
    matrix = {"name": "m", "base": str(tiny_model), "seeds": [0], "suites": ["tiny-mtbench"], "workers": 1}
    matrix |= {"data": str(desk / "data"), "rows": [{"name": "r", "method": "reward-model"}]}
    (desk / "m.yaml").write_text(yaml.safe_dump(matrix))
    planned = good(seft_bench("bench", "m.yaml", "--dry-run"), status=2)
    assert "row 'r': method 'reward-model' trains a reward model, which writes no answers" in planned.err


def test_samples_are_graded_by_a_reward_model_trained_first(desk: Path, tiny_model: Path) -> None:
    """From the annotated pairs alone; without its last stages, the same command makes the same policy."""
    import torch
    from transformers import AutoModelForSequenceClassification

    few = {"policy": {**STEP, "max_steps": 2}, "rounds": 2, "samples": SAMPLES, "grader": "trained-reward-model"}
    write_recipe(desk, tiny_model, "best-of-n", **few, drafts={"max_new_tokens": 8, "temperature": 1.0})
    train("best-of-n")
    stages = desk / "runs" / "best-of-n" / "stages"
    [reward] = stages.glob("reward-model-*")
    learnt = read_jsonl(reward / "learnt_rows.jsonl") + read_jsonl(reward / "held_out_rows.jsonl")
    annotated = {row["chosen"] for row in read_jsonl(desk / "data" / "preferences.jsonl")}
    assert {row["chosen"] for row in learnt} == annotated
    checkpoint = sorted((reward / "checkpoints").iterdir())[-1]
    tokenizer, model = load_tokenizer(checkpoint), AutoModelForSequenceClassification.from_pretrained(checkpoint)
    [graded] = stages.glob("grades-1-*")
    assert read_json(graded / "stage.json")["graded_by"] == "rewards by stage:reward-model"
    for row in read_jsonl(graded / "scores.jsonl"):
        for text, grade in zip(row["samples"], row["grades"], strict=True):
            ids = torch.tensor([conversation_ids(tokenizer, [*row["prompt"], assistant(text)])])
            with torch.no_grad():
                wanted = model(ids).logits.item() if text.strip() else None
            assert grade == (wanted if wanted is None else pytest.approx(wanted, abs=1e-4))
    best = read_jsonl(next(stages.glob("policy-1-*")) / "training_rows.jsonl")
    assert len(best) == 3
    last = sorted((desk / "runs" / "best-of-n" / "checkpoints").iterdir())[-1] / "model.safetensors"
    made = last.read_bytes()
    for name in ("grades-2-*", "policy-2-*"):
        shutil.rmtree(next(stages.glob(name)))
    (desk / "runs" / "best-of-n" / "manifest.json").unlink()
    train("best-of-n")
    assert last.read_bytes() == made


@pytest.mark.parametrize("method", [pytest.param("iterative-dpo", marks=pytest.mark.slow), "grpo"])
def test_other_methods_grade_by_it(method: str, desk: Path, tiny_model: Path) -> None:
    few: dict[str, Any] = {"samples": 2, "grader": "trained-reward-model", "drafts": {"max_new_tokens": 8}}
    rounds = {"rounds": 1} if method == "iterative-dpo" else {}
    write_recipe(desk, tiny_model, method, **few, **rounds, policy={**STEP, "max_steps": 2})
    train(method)
    assert len(list((desk / "runs" / method / "stages").glob("reward-model-*"))) == 1


@pytest.mark.slow
def test_samples_are_graded_by_a_ready_reward_model(reward_model: Path, desk: Path, tiny_model: Path) -> None:
    """By a run's last checkpoint; what is no reward model is refused before anything is trained."""
    few: dict[str, Any] = {"samples": 2, "rounds": 1, "drafts": {"max_new_tokens": 8}, "policy": STEP}
    write_recipe(desk, tiny_model, "best-of-n", **few, grader=f"reward:{reward_model}")
    train("best-of-n")
    [graded] = (desk / "runs" / "best-of-n").glob("stages/grades-1-*")
    assert any(grade for row in read_jsonl(graded / "scores.jsonl") for grade in row["grades"])
    write_recipe(desk, tiny_model, "best-of-n", **few, grader=f"reward:{tiny_model}")
    refused = good(seft_bench("train", "best-of-n.yaml", "name=other"), status=2)
    assert "is no reward model" in refused.err
    assert not list((desk / "runs" / "other").glob("stages/*/run.json"))
