"""The official AlpacaEval 2.0 figures of real models, from their public annotations and the official leaderboard's
rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seft_bench.data.official import OFFICIAL_FILES, data_status, instruction_difficulties
from seft_bench.evaluation.score_files import result_row, score_files
from seft_bench.records import Answer, Judgment, Result, candidate_first, instruction_id
from seft_bench.stats.alpacaeval import win_rate
from seft_bench.stats.lc_cross_validation import cross_validated_c
from seft_bench.stats.length_control import length_controlled, refitted
from seft_bench.suites import load_suite
from seft_bench.suites.alpacaeval_length import comparisons as rows_of
from seft_bench.suites.alpacaeval_length import lc_by_position
from seft_bench.suites.fit_difficulty import fit_difficulty_file
from tests.real_data import MODELS, alpaca_judged, compact, comparisons, rebuild

pytestmark = pytest.mark.usefixtures("official_data")

COMPLETE = tuple(model for model in MODELS if model != "phi-2")


def expected(shared_data: Path, model: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((shared_data / "alpaca_eval" / "expected.json").read_text())[model]
    return row


def test_official_files_pass_verification() -> None:
    assert {status.name: (status.state, status.message) for status in data_status()} == dict.fromkeys(
        OFFICIAL_FILES, ("ok", "")
    )


def test_gamed_rows_hold_the_recovered_sums(shared_data: Path) -> None:
    known = json.loads((shared_data / "alpaca_eval" / "gamed_sufficient_statistics.json").read_text())
    gamed = comparisons(shared_data, "phi-2").gamed
    assert gamed.preference_by_length == pytest.approx(known["sum_p_tanh_len"], abs=1e-5)
    assert gamed.preference_by_difficulty == pytest.approx(known["sum_p_difficulty"], abs=1e-5)


def test_questions_are_the_official_805() -> None:
    questions = load_suite("alpacaeval").questions()
    assert len({question.id for question in questions}) == len(questions) == 805
    assert all(
        question.id == instruction_id(question.turns[0]) and question.metadata["dataset"] for question in questions
    )


def test_verbatim_files_of_gemma(shared_data: Path) -> None:
    folder = shared_data / "examples" / "alpaca_eval" / "gemma-2b-it"
    annotations = folder / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
    [result] = score_files("alpacaeval", folder / "model_outputs.json", annotations)
    row, official = result_row(result), expected(shared_data, "gemma-2b-it")["official_leaderboard"]
    assert (row["model"], row["n"], row["n_scored"], row["n_unscored"], row["withheld"]) == (
        "gemma-2b-it",
        805,
        805,
        0,
        False,
    )
    assert row["metrics"]["win_rate"] == pytest.approx(official["win_rate"], abs=1e-6)
    assert row["metrics"]["win_rate_se"] == pytest.approx(official["standard_error"], abs=1e-6)
    assert row["metrics"]["lc_win_rate"] == pytest.approx(official["length_controlled_winrate"], abs=0.15)
    assert row["metrics"]["avg_length"] == official["avg_length"]
    assert score_files("alpacaeval", None, annotations)[0].metrics == result.metrics


@pytest.mark.parametrize("model", MODELS)
def test_figures_of_the_leaderboard(shared_data: Path, model: str, tmp_path: Path) -> None:
    [result] = score_files("alpacaeval", *rebuild(shared_data, model, tmp_path))
    official, metrics = expected(shared_data, model)["official_leaderboard"], result.metrics
    assert (result.n, result.n_scored) == (805, official["n_total"])
    assert metrics["win_rate"] == pytest.approx(official["win_rate"], abs=1e-6)
    assert metrics["win_rate_se"] == pytest.approx(official["standard_error"], abs=1e-6)
    assert metrics["discrete_win_rate"] == pytest.approx(official["discrete_win_rate"], abs=1e-6)
    if model in COMPLETE:  # where answers are missing, the official table counts them with length 0
        assert metrics["avg_length"] == official["avg_length"]
        assert metrics["lc_win_rate"] == pytest.approx(official["length_controlled_winrate"], abs=0.15)


@pytest.mark.parametrize("model", COMPLETE)
def test_lc_and_weights_at_the_official_c(shared_data: Path, model: str) -> None:
    """Weights within what liblinear's early stop leaves (its tolerance is 1e-4 of the initial violation)."""
    row = expected(shared_data, model)
    fitted = length_controlled(comparisons(shared_data, model), row["C_that_reproduces_official_lc"])
    assert fitted.win_rate == pytest.approx(row["official_leaderboard"]["length_controlled_winrate"], abs=0.02)
    assert list(fitted.weights) == pytest.approx(list(row["official_glm_weights"].values()), abs=0.02)


def lc_of(weights: list[float], difficulty: np.ndarray) -> tuple[float, float]:
    """LC and the official standard error that weights of (length, difficulty, constant) give, as alpaca_eval computes
    them.
    """
    predictions = 100 / (1 + np.exp(-(weights[1] * difficulty + weights[2])))
    return float(predictions.mean()), float(predictions.std(ddof=1) / np.sqrt(predictions.size))


@pytest.mark.parametrize("model", COMPLETE)
def test_official_standard_error(shared_data: Path, model: str) -> None:
    """Two rows of the table have it; for the others it follows from the published weights, which give the published LC
    to 1e-8.
    """
    row, rows = expected(shared_data, model), comparisons(shared_data, model)
    published = row["official_leaderboard"]
    if (error := published["lc_standard_error"]) is None:
        value, error = lc_of(list(row["official_glm_weights"].values()), rows.difficulty)
        assert value == pytest.approx(published["length_controlled_winrate"], abs=1e-8)
    assert length_controlled(rows, row["C_that_reproduces_official_lc"]).standard_error_official == pytest.approx(
        error, abs=1e-4
    )
    assert length_controlled(rows).standard_error_official == pytest.approx(error, abs=0.005)


@pytest.mark.parametrize("model", MODELS)
def test_cross_validation_chooses_the_official_c_or_one_that_changes_nothing(shared_data: Path, model: str) -> None:
    """Five times the official C. gemma-2b-it's held-out loss is flat: 166.8 officially, 21.5 here, LC 0.008 apart."""
    row, one = expected(shared_data, model), alpaca_judged(shared_data, model)
    rows, positions = rows_of(one), np.array(one.positions)
    chosen = cross_validated_c(rows, positions, np.arange(1610) % 805).c
    official = row["C_that_reproduces_official_lc"]
    if model != "gemma-2b-it":
        assert chosen == pytest.approx(official)
    assert length_controlled(rows, chosen).win_rate == pytest.approx(
        length_controlled(rows, official).win_rate, abs=0.01
    )


def test_by_row_position_gives_the_official_figure(shared_data: Path) -> None:
    """phi-2: 4.3987 officially; the same rows, positions for instructions, the same C."""
    row, one = expected(shared_data, "phi-2"), alpaca_judged(shared_data, "phi-2")
    rows = rows_of(one)
    keyed = length_controlled(rows, row["C_that_reproduces_official_lc"])
    assert lc_by_position(one, rows, keyed) == pytest.approx(
        row["official_leaderboard"]["length_controlled_winrate"], abs=0.003
    )


def test_options_reach_the_figures_and_are_said(shared_data: Path, tmp_path: Path) -> None:
    files = rebuild(shared_data, "FuseChat-Gemma-2-9B-Instruct", tmp_path)
    [plain] = score_files("alpacaeval", *files)
    [other] = score_files("alpacaeval", *files, length_control={"lc_c": "cross-validated", "lc_interval": "bootstrap"})
    [given] = score_files("alpacaeval", *files, length_control={"lc_c": "2.782559402207126", "lc_interval": None})
    assert (plain.metrics["lc_c"], other.metrics["lc_c"]) == (
        pytest.approx(21.544346900318832),
        pytest.approx(2.782559402207126),
    )
    assert other.metrics["lc_win_rate"] == pytest.approx(given.metrics["lc_win_rate"], abs=1e-7)
    assert other.metrics["lc_se"] == pytest.approx(given.metrics["lc_se"], rel=0.05)
    assert other.metrics["lc_low"] == pytest.approx(given.metrics["lc_low"], abs=0.3)
    assert any("C = 2.7826, chosen by 5-fold cross-validation" in note for note in other.notes)
    assert any("percentile interval of 2,000 refits" in note and "seed 0" in note for note in other.notes)
    assert any("sandwich" in note for note in plain.notes)
    assert other.metrics["win_rate"] == plain.metrics["win_rate"]


def test_joint_difficulties_resemble_the_official_ones(shared_data: Path, tmp_path: Path) -> None:
    """Six models instead of the official dozens: Pearson 0.68, Spearman 0.59."""
    paths = []
    for model in MODELS:
        (tmp_path / model).mkdir()
        paths.append(rebuild(shared_data, model, tmp_path / model)[1])
    fitted = fit_difficulty_file("alpacaeval", [], paths, tmp_path / "difficulty.json")
    assert (list(fitted.models), fitted.judgments, fitted.unjudged) == (list(MODELS), 4828, 0)
    values = json.loads((tmp_path / "difficulty.json").read_text())["difficulties"]
    ours = np.array([values[question.turns[0]] for question in load_suite("alpacaeval").questions()])
    assert np.corrcoef(ours, instruction_difficulties())[0, 1] == pytest.approx(0.68, abs=0.01)


def test_missing_rows_are_keyed_by_instruction(shared_data: Path, tmp_path: Path) -> None:
    """phi-2 lacks two rows: 4.40 officially, by row position; 3.89 keyed, at the C of the official figure."""
    fitted = length_controlled(
        comparisons(shared_data, "phi-2"), expected(shared_data, "phi-2")["C_that_reproduces_official_lc"]
    )
    assert fitted.win_rate == pytest.approx(3.89, abs=0.005)
    [result] = score_files("alpacaeval", *rebuild(shared_data, "phi-2", tmp_path))
    assert result.statuses == {"ok": 803, "missing": 2}
    assert not result.withheld
    # at the declared C
    assert any("LC is 3.82" in note and "by row position and would give 4.34 (+0.51)" in note for note in result.notes)


@pytest.mark.parametrize("model", MODELS)
def test_lc_interval_is_that_of_refits(shared_data: Path, model: str) -> None:
    """The formula against 2,000 refits on resampled questions: within 5 % on every real model."""
    pair = comparisons(shared_data, model)
    assert length_controlled(pair).standard_error == pytest.approx(refitted(pair).std(), rel=0.05)


@pytest.mark.parametrize("model", MODELS)
def test_order_shown_is_the_recorded_one(shared_data: Path, model: str) -> None:
    questions = load_suite("alpacaeval").questions()
    rows = compact(shared_data, "annotations", model)
    assert [candidate_first(questions[row["index"]].turns[0]) for row in rows] == [row["switched"] for row in rows]


def test_unscored_rows_leave_the_mean_but_not_the_coverage(shared_data: Path, tmp_path: Path) -> None:
    """Every fifth verdict lost: the win rate is that of the others, and the figure is withheld."""
    outputs, path = rebuild(shared_data, "gemma-2b-it", tmp_path)
    rows = json.loads(path.read_text())
    for row in rows[::5]:
        row["preference"] = None
    path.write_text(json.dumps(rows))
    [result] = score_files("alpacaeval", outputs, path)
    assert (result.n, result.n_scored, result.n_unscored, result.withheld) == (805, 644, 161, True)
    assert result.metrics["win_rate"] == pytest.approx(
        win_rate([row["preference"] for row in rows if row["preference"] is not None]).win_rate
    )


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["lc_c=cross-validated"],
        ["lc_c=0.5", "lc_interval=bootstrap"],
        ["lc_c=cross-validated", "lc_interval=bootstrap"],
    ],
)
def test_the_baseline_against_itself_is_at_fifty_without_a_judge(settings: list[str]) -> None:
    suite = load_suite("alpacaeval", settings)
    questions = suite.questions()
    answers = {question.id: Answer("alpacaeval", question.id, "gpt4", question.reference) for question in questions}
    judgments: list[Judgment] = []
    result: Result = suite.score("gpt4", questions, answers, judgments)
    assert (result.metrics["win_rate"], result.metrics["lc_win_rate"], result.n_scored) == (50.0, 50.0, 805)
    assert (result.metrics["lc_low"], result.metrics["lc_high"], result.metrics["lc_standard_error_official"]) == (
        50.0,
        50.0,
        0.0,
    )
