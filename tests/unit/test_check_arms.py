"""The results that a check's arguments mean, and what is said where they mean none."""

from __future__ import annotations

from pathlib import Path

import pytest

from seft_bench.checkpoints.steps import checkpoints_below, last_checkpoint
from seft_bench.checks.arms import find_pairs
from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.results import read_results, save_result


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for model in ("mine/checkpoint-1000", "theirs/checkpoint-1000"):
        result = Result(
            "tiny-mtbench",
            model,
            {"score": 5.0},
            1,
            1,
            0,
            1.0,
            False,
            statuses={"ok": 1},
            judge_id="rubric-1",
            decoding="greedy",
            per_question={"q": 5.0},
        )
        save_result(tmp_path / "results", result)
    return tmp_path / "results"


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_trainers_folder_means_its_last_step(tmp_path: Path, results: Path) -> None:
    for run in ("mine", "theirs"):
        for step in (1000, 500):
            checkpoint(tmp_path / run / f"checkpoint-{step}")
    (pair,) = find_pairs(str(tmp_path / "mine"), str(tmp_path / "theirs"), read_results(results), results)
    assert (pair.candidate.model, pair.baseline.model) == ("mine/checkpoint-1000", "theirs/checkpoint-1000")


def test_two_models_side_by_side_are_no_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint(tmp_path / name)
    assert last_checkpoint(tmp_path) is None
    assert [path.name for path in checkpoints_below(tmp_path)] == ["a", "b"]


def test_a_misspelt_folder_is_called_absent(results: Path) -> None:
    with pytest.raises(InputError, match=r"runs/nine is no folder here, and there are no results"):
        find_pairs("runs/nine", "theirs/checkpoint-1000", read_results(results), results)


def test_options_that_leave_nothing_are_blamed_and_kept_in_the_advice(results: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)with these options.*--suite mtbench`"):
        find_pairs("mine/checkpoint-1000", "theirs/checkpoint-1000", read_results(results), results, suites=["mtbench"])


def test_without_options_none_are_blamed(results: Path) -> None:
    other = Result(
        "tiny-alpacaeval",
        "third",
        {"win_rate": 50.0},
        1,
        1,
        0,
        1.0,
        False,
        statuses={"ok": 1},
        judge_id="rubric-1",
        decoding="greedy",
        per_question={"q": 0.5},
    )
    save_result(results, other)
    with pytest.raises(InputError, match=r"^there is no suite and decoding in common"):
        find_pairs("mine/checkpoint-1000", "third", read_results(results), results)
