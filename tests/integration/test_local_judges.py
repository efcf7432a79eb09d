"""Judges in this process through `seft-bench eval`: figures, files, going on, and what is refused before anything is
loaded.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.config import config_folder
from seft_bench.files import read_jsonl
from seft_bench.judges.reward_model import RewardModelJudge
from seft_bench.judges.transformers import TransformersJudge
from seft_bench.records import Answer, JudgeRequest, from_row
from seft_bench.suites import load_suite
from tests.integration.cli import seft_bench
from tests.local_judges import independent_preference, with_config
from tests.tiny_model import make_tiny_model, make_tiny_reward_model

QUESTIONS = 12


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, a judge with room for our prompts, and a reward model."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny_model(folder / "policy")
    with_config(make_tiny_model(folder / "judge", seed=3), max_position_embeddings=4096)
    make_tiny_reward_model(folder / "reward", seed=1)
    return folder


def write_yaml(path: Path, **values: Any) -> str:
    path.write_text(yaml.safe_dump(values))
    return str(path)


def suite(desk: Path, name: str) -> str:
    """A shipped tiny suite with its first questions only, answered greedily."""
    shipped = yaml.safe_load((config_folder() / "suites" / f"{name}.yaml").read_text())
    small = shipped | {
        "name": f"{name}-small",
        "max_questions": QUESTIONS,
        "decodings": {"greedy": {"temperature": 0.0}},
        "max_new_tokens": 8,
    }
    return write_yaml(desk / f"{name}-small.yaml", **small)


def causal(desk: Path, model: Path, **more: Any) -> str:
    return write_yaml(
        desk / "causal.yaml",
        **{"name": "causal", "kind": "transformers", "model": str(model), "templates": "seft-bench", "max_tokens": 8}
        | more,
    )


def reward(desk: Path, model: Path, **more: Any) -> str:
    return write_yaml(desk / "reward.yaml", **{"name": "reward", "kind": "reward-model", "model": str(model)} | more)


def only(desk: Path, name: str) -> Path:
    [found] = desk.glob(f"runs/evaluations/*/*/*/{name}")
    return found


def test_a_local_judges_preferences_make_the_win_rate(
    desk: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        "eval",
        str(models / "policy"),
        "--suite",
        suite(desk, "tiny-alpacaeval"),
        "--judge",
        causal(desk, models / "judge"),
        "--json",
    )
    seen = seft_bench(*command)
    assert seen.status == 0, seen.err
    [result] = json.loads(seen.out)
    judgments = {row["question_id"]: row for row in read_jsonl(only(desk, "judgments-causal-*.jsonl"))}
    answers = {row["question_id"]: from_row(Answer, row) for row in read_jsonl(only(desk, "answers.jsonl"))}
    small = load_suite(str(desk / "tiny-alpacaeval-small.yaml"))
    requests: list[JudgeRequest] = small.requests(small.questions(), answers)
    assert {request.candidate_first for request in requests} == {True, False}
    expected = [independent_preference(models / "judge", request) for request in requests]
    assert [judgments[request.question.id]["preference"] for request in requests] == pytest.approx(expected, abs=1e-5)
    assert result["metrics"]["win_rate"] == pytest.approx(100 * (sum(expected) / len(expected) - 1), abs=1e-3)
    # killed after all but one verdict, it asks for that one only; with all there, it is not even loaded
    path = only(desk, "judgments-causal-*.jsonl")
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + '\n{"key": "cut of')
    assert json.loads(seft_bench(*command).out)[0]["metrics"] == pytest.approx(result["metrics"], abs=1e-3)
    assert len(read_jsonl(path)) == QUESTIONS
    monkeypatch.setattr(TransformersJudge, "_load", lambda self: pytest.fail("the judge was loaded for nothing"))
    assert seft_bench(*command).status == 0


def test_grades_that_nobody_can_read_are_withheld(desk: Path, models: Path) -> None:
    seen = seft_bench(
        "eval",
        str(models / "policy"),
        "--suite",
        suite(desk, "tiny-mtbench"),
        "--judge",
        causal(desk, models / "judge"),
        "--json",
    )
    assert seen.status == 5
    [result] = json.loads(seen.out)
    assert (result["n"], result["n_scored"], result["metrics"]["score"]) == (2 * QUESTIONS, 0, None)
    assert {row["status"] for row in read_jsonl(only(desk, "judgments-causal-*.jsonl"))} == {"parse_error"}


def test_a_reward_models_win_rate(desk: Path, models: Path) -> None:
    command = (
        "eval",
        str(models / "policy"),
        "--suite",
        suite(desk, "tiny-alpacaeval"),
        "--judge",
        reward(desk, models / "reward", batch_size=5),
        "--json",
    )
    seen = seft_bench(*command)
    assert seen.status == 0, seen.err
    [result] = json.loads(seen.out)
    rows = read_jsonl(only(desk, "judgments-reward-*.jsonl"))
    assert result["metrics"]["win_rate"] == pytest.approx(
        100 * (sum(row["preference"] for row in rows) / QUESTIONS - 1)
    )
    assert len({row["preference"] for row in rows}) > 1
    [saved] = desk.glob("results/*/*/result.json")
    assert any("Bradley-Terry" in note for note in json.loads(saved.read_text())["notes"])


def test_a_reward_model_calibrated_on_a_run_of_our_own(
    desk: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rubric grades the base model's answers; the reward model takes its scale from them and grades another
    model.
    """
    small = suite(desk, "tiny-mtbench")
    base = Path(shutil.copytree(config_folder().parent / "seft_bench" / "tinyworld" / "base", desk / "base"))
    assert seft_bench("eval", str(base), "--suite", small).status == 0
    files = {
        "answers": str(only(desk, "answers.jsonl")),
        "judgments": str(only(desk, "judgments-rubric-*.jsonl")),
        "suite": small,
    }
    command = (
        "eval",
        str(models / "policy"),
        "--suite",
        small,
        "--judge",
        reward(desk, models / "reward", calibration=files),
    )
    seen = seft_bench(*command)
    assert seen.status == 0, seen.err
    [saved] = desk.glob("results/*/policy*/result.json")
    result = json.loads(saved.read_text())
    assert 1 <= result["metrics"]["score"] <= 10
    assert any(f"fitted on {2 * QUESTIONS} graded answers to {QUESTIONS} questions" in note for note in result["notes"])
    monkeypatch.setattr(RewardModelJudge, "judge", lambda *_: pytest.fail("judged again"))
    saved.unlink()
    assert seft_bench(*command).status == 0
    assert json.loads(saved.read_text())["notes"] == result["notes"]  # what was said of the grades is said again


# What is refused before a model is loaded


def refused(desk: Path, models: Path, suite_name: str, judge: str) -> str:
    seen = seft_bench("eval", str(models / "policy"), "--suite", suite(desk, suite_name), "--judge", judge)
    assert seen.status == 2, seen.err
    assert "Traceback" not in seen.err
    assert not (desk / "runs").exists()
    return seen.err


def test_grades_of_a_reward_model_without_a_scale(desk: Path, models: Path) -> None:
    assert "calibration: {answers: FILE" in refused(desk, models, "tiny-mtbench", reward(desk, models / "reward"))


def test_a_model_that_is_not_there(desk: Path, models: Path) -> None:
    for write in (causal, reward):
        assert "no checkpoint" in refused(desk, models, "tiny-alpacaeval", write(desk, desk / "nowhere"))


def test_the_wrong_kind_of_model(desk: Path, models: Path) -> None:
    assert "a causal language model is needed" in refused(
        desk, models, "tiny-alpacaeval", causal(desk, models / "reward")
    )
    assert "a reward model (sequence classification) is needed" in refused(
        desk, models, "tiny-alpacaeval", reward(desk, models / "judge")
    )


def test_code_that_comes_with_a_model(desk: Path, models: Path) -> None:
    own = with_config(
        Path(shutil.copytree(models / "judge", desk / "own")),
        model_type="own-kind",
        auto_map={"AutoConfig": "own.OwnConfig"},
    )
    (own / "own.py").write_text("raise SystemExit('this must never run')\n")
    assert "own" in refused(desk, models, "tiny-alpacaeval", causal(desk, own))


@pytest.mark.parametrize("key", ["api_key_env", "temperature"])
def test_settings_that_this_kind_does_not_have(desk: Path, models: Path, key: str) -> None:
    assert key in refused(desk, models, "tiny-alpacaeval", causal(desk, models / "judge", **{key: 1}))
