"""SEFT's and ReAlign's settings end to end on a tiny model: revisers of other kinds, candidates, mixed-in rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline
from seft_bench.config import RecipeConfig
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_jsonl
from seft_bench.stages.runs import TrainedRun
from tests.conftest import REPOSITORY
from tests.small_seft import STEP, small_seft, write_data
from tests.tiny_model import make_tiny_model

ONE_ROUND: dict[str, Any] = {"evolution": "external", "rounds": 1}
FROM_CHOSEN = {
    **ONE_ROUND,
    "init": "base",
    "draft_policy": "chosen",
    "decision": "margin",
    "good_answers": True,
    "drafts": {"max_new_tokens": 24, "batch_size": 8, "temperature": 0.0},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def recipe(base: Path, data: Path, method: str = "seft", **settings: Any) -> RecipeConfig:
    small = small_seft(base, data)
    return small.model_copy(update={"method": method, "settings": {**small.settings, "teacher": STEP, **settings}})


def rows_of(run: TrainedRun, stage: str, name: str) -> list[dict[str, Any]]:
    [folder] = run.folder.glob(f"stages/{stage}-*")
    return read_jsonl(folder / name)


def test_good_answers_of_the_pairs_are_learnt_behind_what_the_chosen_policy_answered(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    run = pipeline.train(recipe(tiny_model, data, **FROM_CHOSEN), tmp_path / "run", checkpoints=1)
    assert run.manifest["stages"][0].startswith("chosen-")
    revised, learnt = rows_of(run, "revised-1", "revised.jsonl"), rows_of(run, "policy-1", "training_rows.jsonl")
    good = [row["chosen"] for row in read_jsonl(data / "preferences.jsonl")]
    assert [row["answer"] for row in learnt] == [row["answer"] for row in revised] + good
    assert all(row["kept"] == (row["statistic"] >= -0.2) for row in revised)


def test_a_reviser_of_own_drafts_that_sees_others(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """Two rounds, one of each kind, calibrated: training, labels, thresholds and decisions read the same prompts."""
    settings = {"reviser_pairs": "both", "evidence": 2, "rounds": 2}
    run = pipeline.train(recipe(tiny_model, data, **settings), tmp_path / "run", checkpoints=1)
    [evidence] = run.folder.glob("stages/reviser-evidence-*")
    annotated = read_jsonl(evidence / "drafts.jsonl")
    assert all(len(row["other_drafts"]) == 2 and row["samples"] == [row["draft"]] for row in annotated)
    labelled = rows_of(run, "labels", "scores.jsonl")
    assert [row["rejected"] for row in labelled] == [row[key] for key in ("rejected", "draft") for row in annotated]
    for row, learnt in zip(labelled, rows_of(run, "preliminary-reviser", "training_rows.jsonl"), strict=True):
        question = row["prompt"][-1]["content"]
        first, second = row["other_drafts"]
        said = [message["content"] for message in learnt["prompt"]]
        assert said[:6] == [question, first, question, second, question, row["rejected"]]
        assert learnt["answer"] == row["chosen"]
    revised = rows_of(run, "revised-2", "revised.jsonl")
    assert all(len(row["other_drafts"]) == 2 and len(row["samples"]) == 1 for row in revised)
    assert all("other_drafts" in row for row in rows_of(run, "calibration-2", "scores.jsonl"))
    assert run.manifest["cost"]["unannotated_prompts"] == 6, "evidence asks no prompt anew"


def test_rows_are_weighted_by_how_sure_the_decision_was(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    settings = {**FROM_CHOSEN, "weights": "confidence", "learn": "revised", "margin": -0.1}
    run = pipeline.train(recipe(tiny_model, data, **settings), tmp_path / "run", checkpoints=1)
    revised, learnt = rows_of(run, "revised-1", "revised.jsonl"), rows_of(run, "policy-1", "training_rows.jsonl")
    assert all(row["confidence"] == pytest.approx(min(1, abs(row["statistic"] + 0.1) / 0.1)) for row in revised)
    sure = [row["confidence"] for row in revised if not row["kept"]]
    assert sure, "an untaught reviser revises some draft"
    weights = [row["weight"] for row in learnt]
    assert sum(weights) == pytest.approx(len(weights)) == len(sure) + len(read_jsonl(data / "preferences.jsonl"))
    assert weights[0] / weights[-1] == pytest.approx(sure[0]), "a good answer counts 1, a draft its confidence"


def test_an_untrained_reviser_of_another_size_and_vocabulary_revises(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """Its own tokenizer reads drafts and measures likelihoods: texts cross, ids do not."""
    other = make_tiny_model(tmp_path / "other", vocab_size=300, seed=3, hidden_size=16)
    settings = {**ONE_ROUND, "reviser_kind": "untrained", "reviser_init": str(other)}
    run = pipeline.train(recipe(tiny_model, data, **settings), tmp_path / "run", checkpoints=1)
    assert run.manifest["parents"][f"model/{other}"] != run.manifest["parents"]["base"]
    assert [name.rpartition("-")[0] for name in run.manifest["stages"]] == [
        *("start", "drafts-1", "calibration-drafts-1", "calibration-1", "revised-1", "policy-1"),
    ]
    assert all(isinstance(row["statistic"], float) for row in rows_of(run, "revised-1", "revised.jsonl"))


def test_candidates_are_samples_and_their_revisions(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    settings = {**ONE_ROUND, "decision": "candidates", "candidates": 2, "reviser_kind": "plain"}
    run = pipeline.train(recipe(tiny_model, data, **settings), tmp_path / "run", checkpoints=1)
    rows = rows_of(run, "revised-1", "revised.jsonl")
    assert all(len(row["samples"]) == 2 for row in rows)
    assert all(row["from_reviser"] or row["answer"] in row["samples"] for row in rows)
    said = read_json(run.folder / "diagnostics.json")["revised-1"]["diagnostics"]
    assert said["from_reviser"] == sum(row["from_reviser"] for row in rows) / len(rows)


def test_realign_learns_both_kinds_of_pairs(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    settings = {**ONE_ROUND, "decision": "always", "on_policy_pairs": True, "pair_samples": 3}
    given = recipe(tiny_model, data, "realign", **settings)
    run = pipeline.train(given, tmp_path / "run", checkpoints=1)
    pairs, revised = rows_of(run, "policy-1", "training_rows.jsonl"), rows_of(run, "revised-1", "revised.jsonl")
    assert [pair["chosen"] for pair in pairs[: len(revised)]] == [row["revision"] for row in revised]
    graded = rows_of(run, "grades-1", "scores.jsonl")
    both = [list(zip(row["grades"], row["samples"], strict=True)) for row in graded]
    best = {max(pair for pair in pairs if pair[0] is not None)[1] for pairs in both}  # an empty sample has no grade
    assert {pair["chosen"] for pair in pairs[len(revised) :]} <= best
    assert len(pairs) > len(revised)


def test_a_reviser_that_is_nowhere_is_refused_before_anything_is_trained(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"reviser_init '\./nowhere' is no checkpoint"):
        pipeline.train(recipe(tiny_model, data, reviser_init="./nowhere"), tmp_path / "run", checkpoints=1)
    assert not list(tmp_path.glob("run/stages/*"))


KILLED_WHILE_REVISING = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from seft_bench import pipeline
from seft_bench.config import RecipeConfig
from seft_bench.stages import revise

def killed(path, rows):
    path.write_text('{"prompt": [')
    os.kill(os.getpid(), signal.SIGKILL)

revise.write_jsonl = killed
pipeline.train(RecipeConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), checkpoints=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("settings", [FROM_CHOSEN, {**ONE_ROUND, "decision": "candidates", "candidates": 2}])
def test_killed_while_revising_it_goes_on_to_the_same_policy(
    settings: dict[str, Any], tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    given = recipe(tiny_model, data, **settings)
    child = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_REVISING, given.model_dump_json(), str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    [folder] = (tmp_path / "killed").glob("stages/revised-1-*")
    assert not (folder / "stage.json").exists()
    resumed = pipeline.train(given, tmp_path / "killed", checkpoints=1)
    whole = pipeline.train(given, tmp_path / "whole", checkpoints=1)
    weights = [run.checkpoints[-1] / "model.safetensors" for run in (resumed, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
