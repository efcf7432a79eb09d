"""Train, answer, judge, score on the tinyworld with few steps: files, resuming, and what is never done twice."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline, results, subjects
from seft_bench.config import RecipeConfig, RubricJudgeConfig
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_jsonl, read_log
from seft_bench.judges import open_judge
from seft_bench.judges.base import BaseJudge
from seft_bench.records import RunFacts
from seft_bench.stages import runs
from seft_bench.suites import load_suite
from tests.conftest import REPOSITORY
from tests.integration.cli import good, seft_bench

FEW_STEPS: dict[str, Any] = {"max_steps": 4}
SEFT: dict[str, Any] = {
    "start": FEW_STEPS,
    "preliminary": FEW_STEPS,
    "reviser": FEW_STEPS,
    "policy": FEW_STEPS,
    "prompts": 24,
    "drafts": {"max_new_tokens": 12},
    "evolution": "external",
    "rounds": 1,
}


def recipe(method: str = "seft", name: str = "run", **settings: Any) -> RecipeConfig:
    return RecipeConfig(name=name, method=method, base="tinyworld", seed=0, settings=settings)


@pytest.fixture(scope="module")
def seft_run(tmp_path_factory: pytest.TempPathFactory) -> runs.TrainedRun:
    return pipeline.train(recipe(**SEFT), tmp_path_factory.mktemp("seft") / "run", diagnostics_judge="rubric")


def test_a_run_leaves_checkpoints_a_log_a_recipe_and_a_manifest(seft_run: runs.TrainedRun) -> None:
    assert [folder.name for folder in seft_run.checkpoints] == ["step-000002", "step-000004"]
    for folder in seft_run.checkpoints:
        assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
            path.name for path in folder.iterdir()
        }
    assert len(read_jsonl(seft_run.folder / "train.jsonl")) == 4
    assert "method: seft" in (seft_run.folder / "recipe.yaml").read_text()
    assert seft_run.manifest["cost"]["unannotated_prompts"] == 24
    assert seft_run.manifest["cost"]["policy_steps"] == 4
    assert seft_run.manifest["cost"]["tokens_generated"] > 0
    annotated = {kind: seft_run.manifest["cost"][f"annotated_{kind}"] for kind in ("pairs", "labels", "conversations")}
    [data] = (seft_run.folder / "data").glob("tinyworld-*/")
    rows = {name: read_jsonl(data / f"{name}.jsonl") for name in ("preferences", "calibration", "sft")}
    held = {name: len({json.dumps(row) for row in own}) for name, own in rows.items()}
    pairs = held["preferences"] + held["calibration"]
    assert annotated == {"pairs": pairs, "labels": 0, "conversations": held["sft"]}
    assert seft_run.manifest["cost"]["judge_calls"] == 0  # the diagnostics' are not the training's
    assert str(seft_run.folder) not in json.dumps(seft_run.manifest["config"])


def test_diagnostics_say_what_the_reviser_did(seft_run: runs.TrainedRun) -> None:
    found = json.loads((seft_run.folder / "diagnostics.json").read_text())
    assert sum(found["labels"]["label_counts"].values()) == 800
    revised = found["revised-1"]["diagnostics"]
    assert revised["drafts"] == 24
    grades = revised["grades"]
    assert grades["all"]["drafts"] == grades["annotated"]["drafts"] + grades["unannotated"]["drafts"] == 24
    assert grades["all"]["gain"] == pytest.approx(grades["all"]["after"] - grades["all"]["before"], abs=2e-4)


def test_the_policy_learns_the_kept_drafts_as_they_are_and_the_others_revised(seft_run: runs.TrainedRun) -> None:
    stages = {
        path.name.rpartition("-")[0]: path
        for path in (seft_run.folder / "stages").iterdir()
        if not path.name.startswith(".")
    }
    revised = read_jsonl(stages["revised-1"] / "revised.jsonl")
    for row in revised:
        assert row["answer"] == (row["draft"] if row["kept"] else row["revision"])
    learnt = read_jsonl(stages["policy-1"] / "training_rows.jsonl")
    assert learnt == [{"prompt": row["prompt"], "answer": row["answer"]} for row in revised if row["answer"].strip()]


def test_a_finished_run_is_returned_at_once(seft_run: runs.TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "run_stages", lambda *_: pytest.fail("trained again"))
    assert pipeline.train(recipe(**SEFT), seft_run.folder).checkpoints == seft_run.checkpoints


def test_another_recipe_in_the_same_folder_is_refused(seft_run: runs.TrainedRun) -> None:
    with pytest.raises(InputError, match="another recipe"):
        pipeline.train(recipe(**{**SEFT, "prompts": 20}), seft_run.folder)


def test_methods_share_equal_stages(seft_run: runs.TrainedRun, tmp_path: Path) -> None:
    shared = seft_run.folder / "stages"
    before = {
        path.name: (path / "stage.json").stat().st_mtime_ns
        for path in shared.glob("*/")
        if (path / "stage.json").exists()
    }
    pipeline.train(recipe(**{**SEFT, "decision": "always"}), tmp_path / "always", stages_folder=shared)
    after = {
        path.name: (path / "stage.json").stat().st_mtime_ns
        for path in shared.glob("*/")
        if (path / "stage.json").exists()
    }
    assert {name: after[name] for name in before} == before
    assert sorted(name.rpartition("-")[0] for name in set(after) - set(before)) == ["policy-1", "revised-1"]


@pytest.mark.parametrize("method", ["sft", "sft-chosen", "dpo", "orpo", "self-label"])
def test_every_method_trains(method: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"start": FEW_STEPS, "policy": FEW_STEPS}
    settings |= {"teacher": FEW_STEPS, "prompts": 8, "drafts": {"max_new_tokens": 8}} if method == "self-label" else {}
    settings = {"start": FEW_STEPS} if method == "sft" else settings
    run = pipeline.train(recipe(method, **settings), tmp_path / "run", checkpoints=1)
    assert len(run.checkpoints) == 1
    assert run.manifest["cost"]["policy_steps"] == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"decision": "token", "decider": FEW_STEPS},
        {"decision": "never"},
        {"statistic": "keep"},
        {"evolution": "internal_then_external", "rounds": 2},
    ],
    ids=["token", "never", "keep", "internal_then_external"],
)
def test_variants_of_seft_train(seft_run: runs.TrainedRun, settings: dict[str, Any], tmp_path: Path) -> None:
    run = pipeline.train(
        recipe(**{**SEFT, **settings}), tmp_path / "run", stages_folder=seft_run.folder / "stages", checkpoints=1
    )
    assert run.checkpoints[0].is_dir()


SAMPLED: dict[str, Any] = {
    "start": FEW_STEPS,
    "policy": FEW_STEPS,
    "prompts": 8,
    "drafts": {"max_new_tokens": 8, "temperature": 1.0},
}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("best-of-n", {"samples": 3, "grader": "rubric"}),
        ("best-of-n", {"samples": 3, "keep": "above", "min_grade": -9.0, "rounds": 1}),
        ("iterative-dpo", {"samples": 3, "reference": "start"}),
        ("spin", {}),
    ],
)
def test_methods_that_learn_from_own_samples_train(method: str, settings: dict[str, Any], tmp_path: Path) -> None:
    run = pipeline.train(recipe(method, **SAMPLED, **settings), tmp_path / "run", checkpoints=1)
    rounds = settings.get("rounds", 2)
    names = [name.rpartition("-")[0] for name in run.manifest["stages"]]
    assert names[-1] == f"policy-{rounds}"
    steps = [read_json(path)["steps"] for path in (tmp_path / "run" / "stages").glob("policy-*/summary.json")]
    assert sum(steps) == FEW_STEPS["max_steps"], "rounds share the steps"
    assert run.manifest["cost"]["unannotated_prompts"] == (0 if method == "spin" else 8)
    assert run.manifest["cost"]["judge_calls"] == (24 if settings.get("grader") == "rubric" else 0)
    for graded in (tmp_path / "run" / "stages").glob("grades-*/scores.jsonl"):
        assert all(len(row["grades"]) == len(row["samples"]) == 3 for row in read_jsonl(graded))


def test_realign_learns_pairs_of_what_was_revised(seft_run: runs.TrainedRun, tmp_path: Path) -> None:
    shared = seft_run.folder / "stages"
    run = pipeline.train(
        recipe("realign", **SEFT | {"decision": "always"}), tmp_path / "run", stages_folder=shared, checkpoints=1
    )
    last = shared / run.manifest["stages"][-1]
    pairs, revised = read_jsonl(last / "training_rows.jsonl"), read_jsonl(_revised_file(run, shared))
    assert pairs == [{"prompt": row["prompt"], "chosen": row["revision"], "rejected": row["draft"]} for row in revised]
    assert read_jsonl(last / "train.jsonl")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_a_grader_that_asks_a_server_is_refused_where_nobody_agreed_to_its_price(tmp_path: Path) -> None:
    asked = recipe("best-of-n", **SAMPLED, grader="openai-gpt-4.1")
    with pytest.raises(InputError, match="asks a server, and nobody agreed"):
        pipeline.train(asked, tmp_path / "run", checkpoints=1)
    assert not list((tmp_path / "run").glob("stages/*/train.jsonl"))


def _revised_file(run: runs.TrainedRun, shared: Path) -> Path:
    (folder,) = [name for name in run.manifest["stages"] if name.startswith("revised-1-")]
    return shared / folder / "revised.jsonl"


def test_a_margin_keeps_the_drafts_that_reach_it(seft_run: runs.TrainedRun, tmp_path: Path) -> None:
    """The reviser of a few steps: its statistics lie apart, and a margin between them parts the drafts."""
    shared = seft_run.folder / "stages"

    found = [row["statistic"] for row in read_jsonl(_revised_file(seft_run, shared))]
    middle = sorted(found)[len(found) // 2]
    settings = SEFT | {"decision": "margin", "margin": middle}
    run = pipeline.train(recipe(**settings), tmp_path / "run", stages_folder=shared, checkpoints=1)
    kept = [row["kept"] for row in read_jsonl(_revised_file(run, shared))]
    assert kept == [value >= middle for value in found]
    assert 0 < sum(kept) < len(kept)


def test_fresh_deletes_a_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        runs.forget_run(tmp_path / "run")
    assert (tmp_path / "run" / "thesis.tex").exists()


# Evaluation


@pytest.fixture
def evaluate(seft_run: runs.TrainedRun, tmp_path: Path) -> Callable[..., list[Any]]:
    suite = load_suite("tiny-mtbench")
    suite.config = suite.config.model_copy(update={"max_questions": 6, "max_new_tokens": 8})
    judge = open_judge(RubricJudgeConfig(name="rubric", kind="rubric"))
    places = pipeline.Places(tmp_path / "work", tmp_path / "results", tmp_path / "store.sqlite")
    facts = RunFacts("seft", "SEFT", "method", "seft", seed=0, step=4, final=True)
    subject = subjects.checkpoint_subject(seft_run.checkpoints[-1], "run/step-000004", facts)

    def run(subject: subjects.Subject = subject, **options: Any) -> list[Any]:
        return pipeline.evaluate(subject, suite, options.pop("judge", judge), places, **options)

    return run


def test_an_evaluation_gives_one_result_a_decoding_and_saves_everything(
    evaluate: Callable[..., list[Any]], tmp_path: Path
) -> None:
    found = evaluate()
    assert [result.decoding for result in found] == ["sampled", "greedy"]
    assert all(result.n == result.n_scored == 12 and result.coverage == 1 for result in found)
    assert found[0].manifest["config"]["suite"]["name"] == "tiny-mtbench"
    assert [dataclasses.asdict(result)["metrics"] for result in results.read_results(tmp_path / "results")] == [
        result.metrics for result in sorted(found, key=lambda result: result.decoding)
    ]


def test_running_again_asks_neither_model_nor_judge(evaluate: Callable[..., list[Any]]) -> None:
    first = evaluate()

    class Never(BaseJudge):
        id = open_judge(RubricJudgeConfig(name="rubric", kind="rubric")).id
        notes: tuple[str, ...] = ()

        def judge(self, *_: Any) -> None:
            pytest.fail("judged again")

    again = evaluate(judge=Never())
    assert [result.metrics for result in again] == [result.metrics for result in first]


def test_steps_can_be_run_one_by_one(evaluate: Callable[..., list[Any]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--stage answer"):
        evaluate(steps=("judge",))
    assert evaluate(steps=("answer",)) == []
    assert not list((tmp_path / "work").glob("**/judgments-*.jsonl"))
    assert evaluate(steps=("judge",)) == []
    assert len(evaluate(steps=("score",))) == 2


def test_a_lost_answer_is_made_again_and_only_it_is_judged(evaluate: Callable[..., list[Any]], tmp_path: Path) -> None:
    first = evaluate()
    path = next((tmp_path / "work").glob("**/greedy/answers.jsonl"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:20])  # killed while the third line was being written
    judgments = next(path.parent.glob("judgments-*.jsonl"))
    before = len(read_log(judgments))
    again = evaluate()
    assert [result.metrics for result in again] == [result.metrics for result in first]
    assert len(read_log(judgments)) == before  # the same answers came back, so no verdict was asked for again


def test_another_seed_draws_its_own_answers(evaluate: Callable[..., list[Any]]) -> None:
    first, other, again = evaluate(seed=0), evaluate(seed=1), evaluate(seed=0)
    assert first[0].per_question != other[0].per_question  # sampled
    assert first[1].per_question == other[1].per_question  # greedy
    assert first[0].per_question == again[0].per_question


def test_other_weights_under_the_same_name_never_share_answers(
    evaluate: Callable[..., list[Any]], seft_run: runs.TrainedRun
) -> None:
    evaluate()
    other = subjects.checkpoint_subject(seft_run.checkpoints[0], "run/step-000004")
    assert other.fingerprint != subjects.checkpoint_subject(seft_run.checkpoints[1], "run/step-000004").fingerprint
    asked: list[str] = []

    def load() -> Any:
        asked.append("loaded")
        return subjects.checkpoint_subject(seft_run.checkpoints[0], "x").open_generator()

    evaluate(subject=dataclasses.replace(other, open_generator=load))
    assert asked == ["loaded"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "", "x" * 500, "\x1b[31mred", "模型"])
def test_a_models_name_never_leaves_its_folder(name: str) -> None:
    found = results.slug(name)
    assert found
    assert "/" not in found
    assert found not in (".", "..")
    assert len(found) <= 120
    assert "\x1b" not in found


# Kill and go on


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    import torch

    torch.set_num_threads(1)  # as in the process that is killed: with other threads, sums are added up otherwise
    command = ("train", "method=sft", "name=run", "settings.start.max_steps=60", "--out")
    good(seft_bench(*command, str(tmp_path / "whole")))
    process = subprocess.Popen(
        [sys.executable, "-m", "seft_bench.cli.main", *command, str(tmp_path / "killed")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(
        lambda: any(len(read_log(path)) > 20 for path in (tmp_path / "killed").glob("stages/*/train.jsonl")), process
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    good(seft_bench(*command, str(tmp_path / "killed")))
    for name in ("train.jsonl", "checkpoints/step-000060/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def _wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], timeout_seconds: float = 120) -> None:
    end = time.monotonic() + timeout_seconds
    while not ready():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.02)
