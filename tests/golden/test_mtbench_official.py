"""Eight models' real GPT-4 judgments, against plain arithmetic and against FastChat's way of averaging in pandas."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pandas
import pytest

from seft_bench.evaluation.score_files import score_files
from seft_bench.records import Result
from seft_bench.suites import load_suite
from tests.real_data import read_gzip

pytestmark = pytest.mark.usefixtures("official_data")

WITHHELD = {"granite-7b-lab", "mistral-7b_dolphin_orca_labonne_dpo"}


@pytest.fixture
def rows(shared_data: Path) -> list[dict[str, Any]]:
    return read_gzip(shared_data / "mt_bench" / "judgments_single.jsonl.gz")


@pytest.fixture
def results(rows: list[dict[str, Any]], tmp_path: Path) -> dict[str, Result]:
    """FastChat's one file with all models, written out as a user has it."""
    path = tmp_path / "gpt-4_single.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {result.model: result for result in score_files("mtbench", None, path)}


def last_valid(rows: list[dict[str, Any]], model: str) -> dict[tuple[int, int], float]:
    scores = {}
    for row in rows:
        if row["model"] == model and row["score"] != -1:
            scores[row["question_id"], row["turn"]] = float(row["score"])
    return scores


def test_one_result_for_each_of_eight_models(results: dict[str, Result], rows: list[dict[str, Any]]) -> None:
    assert list(results) == list(dict.fromkeys(row["model"] for row in rows))
    assert len(results) == 8
    assert {result.n for result in results.values()} == {160}


def test_turn_averages_are_plain_means_of_the_last_valid_rows(
    results: dict[str, Result], rows: list[dict[str, Any]]
) -> None:
    for model, result in results.items():
        scores = last_valid(rows, model)
        for turn in (1, 2):
            assert result.metrics[f"turn_{turn}"] == pytest.approx(
                statistics.fmean(s for (_, t), s in scores.items() if t == turn), abs=1e-4
            )
        assert result.metrics["score"] == pytest.approx(statistics.fmean(scores.values()), abs=1e-4)
        assert result.n_scored == len(scores)


def test_score_fastchat_is_what_show_result_prints(results: dict[str, Result], rows: list[dict[str, Any]]) -> None:
    frame = pandas.DataFrame(rows)[["model", "score", "turn"]]
    shown = frame[frame["score"] != -1].groupby("model")[["score"]].mean()["score"]
    assert {model: result.metrics["score_fastchat"] for model, result in results.items()} == pytest.approx(
        shown.to_dict(), abs=1e-9
    )


def test_models_with_unparsed_judgments_are_withheld(results: dict[str, Result]) -> None:
    assert {model for model, result in results.items() if result.withheld} == WITHHELD
    granite, dolphin = results["granite-7b-lab"], results["mistral-7b_dolphin_orca_labonne_dpo"]
    assert granite.statuses == {"ok": 40, "parse_error": 110, "api_error": 10}
    assert dolphin.statuses == {"ok": 146, "api_error": 14}
    assert granite.metrics["score"] == pytest.approx(7.40, abs=0.005)


def test_judged_twice_counts_the_later_run(results: dict[str, Result], rows: list[dict[str, Any]]) -> None:
    """mistral-orpo: run 0 had a wrong chat template (5.39), run 1 is right (6.33); FastChat averages both."""
    orpo = results["mistral-orpo"]
    assert orpo.metrics["score"] == pytest.approx(6.33, abs=0.005)
    assert orpo.metrics["score_fastchat"] < orpo.metrics["score"] - 0.4
    assert any("judge a key again" in note for note in orpo.notes)


def test_categories_average_their_questions(
    results: dict[str, Result], rows: list[dict[str, Any]], shared_data: Path
) -> None:
    lines = (shared_data / "official" / "mt_bench" / "question.jsonl").read_text().splitlines()
    category = {row["question_id"]: row["category"] for row in map(json.loads, lines)}
    for model, result in results.items():
        scores = last_valid(rows, model)
        assert set(result.metrics["by_category"]) == set(category.values())
        for name, value in result.metrics["by_category"].items():
            assert value == pytest.approx(
                statistics.fmean(s for (q, _), s in scores.items() if category[q] == name), abs=1e-9
            )


def test_clustered_errors_are_those_of_the_literature(results: dict[str, Result], rows: list[dict[str, Any]]) -> None:
    """With both turns scored it is the standard error of 80 question means; taking 160 rows as independent gives
    less.
    """
    for model, result in results.items():
        scores = last_valid(rows, model)
        if len(scores) < 160:
            continue
        means = [(scores[question, 1] + scores[question, 2]) / 2 for question in range(81, 161)]
        error = statistics.stdev(means) / 80**0.5
        assert result.metrics["se"] == pytest.approx(error, abs=1e-9)
        assert error > statistics.stdev(scores.values()) / 160**0.5
        assert result.metrics["high"] - result.metrics["score"] == pytest.approx(1.9905 * error, rel=1e-4)


def test_reference_answers_are_those_of_101_to_130() -> None:
    questions = load_suite("mtbench").questions()
    assert [question.id for question in questions] == [str(number) for number in range(81, 161)]
    assert [question.id for question in questions if question.reference] == [str(number) for number in range(101, 131)]
    assert all(len(question.reference) in (0, 2) and len(question.turns) == 2 for question in questions)
