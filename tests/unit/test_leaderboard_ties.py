"""Ties in the plain table, and tables that do not depend on the order of their input or on Python's hash seed."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from seft_bench.records import Result, run_of
from seft_bench.report.leaderboard import Plan, method_table, method_tables, plain_table
from seft_bench.report.render import RENDERERS
from seft_bench.report.ties import paired_by_question
from tests.conftest import REPOSITORY
from tests.unit.leaderboard_data import LEVELS, cells, matrix, result, values


def model(name: str, figures: list[float], suite: str = "tiny-mtbench") -> Result:
    return dataclasses.replace(result("dpo", figures, suite=suite), model=name, run=None)


def test_the_paired_interval_is_scipys() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(6, 1, 40), rng.normal(5.5, 1, 40)
    gap = paired_by_question(model("a", list(first)), model("b", list(second)))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert gap is not None
    assert (gap.mean, gap.low, gap.high) == (
        pytest.approx(first.mean() - second.mean()),
        pytest.approx(expected.low),
        pytest.approx(expected.high),
    )


def test_pairing_is_by_question_id_over_the_questions_of_both() -> None:
    first = dataclasses.replace(model("a", [0.0, 1.0]), per_question={"x": 3.0, "y": 5.0, "only": 100.0})
    second = dataclasses.replace(model("b", [0.0, 1.0]), per_question={"y": 4.0, "x": 1.0, "other": -100.0})
    gap = paired_by_question(first, second)
    assert gap is not None
    assert gap.mean == pytest.approx(1.5)
    assert paired_by_question(first, dataclasses.replace(second, per_question={})) is None


def test_a_constant_gap_is_no_tie_though_the_intervals_overlap_and_noise_is_one() -> None:
    """Questions differ by points, so both intervals are wide; b is 0.1 below a on every question, c is as good as a on
    average.
    """
    difficulty = [2.0, 9.0, 4.0, 7.0, 3.0, 8.0, 5.0, 6.0]
    rows = [
        model("a", difficulty),
        model("b", [value - 0.1 for value in difficulty]),
        model("c", [value + (0.4 if index % 2 else -0.45) for index, value in enumerate(difficulty)]),
    ]
    table = plain_table(rows)
    marks = dict(zip(values(table, "model"), (cell.mark for cell in cells(table, "score")), strict=True))
    assert marks == {"a": "best", "b": "", "c": "tied"}
    assert "Ties in score: by the interval of differences paired by question, Student's t." in table.notes


def test_lc_ties_go_by_the_joint_width_and_say_so() -> None:
    figures = [0.2, 0.5, 0.4, 0.6]
    levels, plain = {"a": 50.0, "b": 46.0, "c": 45.0}, {"win_rate": 40.0, "win_rate_se": 1.0}
    metrics = {name: {**plain, "lc_win_rate": lc, "lc_low": lc - 3, "lc_high": lc + 3} for name, lc in levels.items()}
    rows = [dataclasses.replace(model(name, figures, "tiny-alpacaeval"), metrics=metrics[name]) for name in levels]
    table = plain_table(rows)
    assert [cell.mark for cell in cells(table, "lc_win_rate")] == ["best", "tied", ""]  # sqrt(9 + 9) = 4.24
    assert any("by both intervals' joint width" in note for note in table.notes)


def test_lc_ties_are_paired_where_the_influences_are_there() -> None:
    """The same two models, 3 points apart: told apart only where the questions move both of them alike."""
    plain = {"win_rate": 40.0, "win_rate_se": 1.0}
    alike, other_way = {"q1": 2.0, "q2": -2.0, "q3": 1.0, "q4": -1.0}, {"q1": -2.0, "q2": 2.0, "q3": -1.0, "q4": 1.0}
    for theirs, mark in ((alike, ""), (other_way, "tied")):
        rows = [
            dataclasses.replace(
                model(name, [0.2, 0.5, 0.4, 0.6], "tiny-alpacaeval"),
                metrics={**plain, "lc_win_rate": lc, "lc_low": lc - 6, "lc_high": lc + 6},
                covariates={"lc_influence": influence},
            )
            for name, lc, influence in (("a", 50.0, alike), ("b", 47.0, theirs))
        ]
        assert [cell.mark for cell in cells(plain_table(rows), "lc_win_rate")] == ["best", mark]


def test_without_figures_of_every_question_no_tie_is_claimed() -> None:
    rows = [dataclasses.replace(item, per_question={}) for item in (model("a", [5.0, 6.0]), model("b", [5.0, 5.9]))]
    assert [cell.mark for cell in cells(plain_table(rows), "score")] == ["best", ""]


# Stable bytes


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_shuffled_results_give_the_same_bytes(name: str) -> None:
    results = [
        item for item in matrix(LEVELS, questions=25) if not (run_of(item).row == "dpo" and run_of(item).seed == 2)
    ]
    plan = Plan({row: row for row in (*LEVELS, "orpo")}, [1, 2, 3])
    expected = RENDERERS[name](method_table(results, plan=plan)), RENDERERS[name](plain_table(results))
    for seed in range(3):
        shuffled = random.Random(seed).sample(results, len(results))
        assert (RENDERERS[name](method_table(shuffled, plan=plan)), RENDERERS[name](plain_table(shuffled))) == expected


def test_two_processes_with_other_hash_seeds_give_the_same_bytes() -> None:
    code = (
        "from tests.unit.leaderboard_data import LEVELS, matrix\n"
        "from seft_bench.report.published_files import load_published\n"
        "from seft_bench.report.sheets import STYLES, Sheets; from seft_bench.report.leaderboard import Plan\n"
        "results, published = matrix(LEVELS, questions=12), load_published('alignment-papers')\n"
        "for plan in (None, Plan(LEVELS, [1, 2, 3, 4])):\n"
        "    for style in STYLES: print(Sheets(results, plan, published).text(style))"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 20_000


# Seeds that are not all there


def test_a_row_with_fewer_seeds_shows_its_count_and_is_marked_in_every_figure() -> None:
    results = [
        item for item in matrix(LEVELS, questions=15) if not (run_of(item).row == "dpo" and run_of(item).seed == 2)
    ]
    table = method_table(results)
    said = "DPO: 2 of 3 seeds; no result of seed 2."
    assert table.footnotes == (said,)
    row = next(row for row in table.rows if row.cells[0].value == "DPO")
    keys = [column.key for column in table.columns]
    assert row.cells[keys.index("seeds")].value == 2
    marked = [keys[index] for index, cell in enumerate(row.cells) if cell.footnote]
    assert {
        "tiny-mtbench_sampled_score",
        "tiny-mtbench_greedy_score_difference",
        "tiny-alpacaeval_sampled_lc_win_rate",
        "seeds",
    } <= set(marked)
    assert not any(cell.footnote for other in table.rows if other is not row for cell in other.cells)


def test_a_seed_and_a_row_that_nobody_has_are_said() -> None:
    table = method_table(
        matrix(LEVELS, questions=10), plan=Plan({**dict.fromkeys(LEVELS, ""), "orpo": "ORPO"}, [1, 2, 3, 4])
    )
    assert "No final result yet, so no row: ORPO." in table.notes
    assert len(table.footnotes) == len(LEVELS)
    assert all("3 of 4 seeds; no result of seed 4." in footnote for footnote in table.footnotes)
    assert any("4 training seeds" in note for note in table.notes)


def test_with_several_bases_only_rows_without_a_result_are_said_to_lack_one() -> None:
    results = [
        dataclasses.replace(item, run=dataclasses.replace(run_of(item), base=base))
        for base in ("small", "large")
        for item in matrix(LEVELS, questions=10)
    ]
    plan = Plan({**dict.fromkeys(LEVELS, ""), "orpo": "ORPO"}, [1, 2, 3])
    assert "No final result yet, so no row: ORPO (small), ORPO (large)." in method_table(results, plan=plan).notes
    assert [table.notes[-1] for table in method_tables(results, plan=plan)][:2] == [
        f"No final result yet, so no row: ORPO ({base})." for base in ("small", "large")
    ]


def test_a_seed_with_unscored_questions_counts_by_what_is_scored_and_the_lowest_coverage_is_shown() -> None:
    """Seed 1 scores 4 questions at 4.0, seed 2 three of them at 8.0: the mean over what is scored is 40 / 7, and never
    one seed's.
    """
    first, second = result("dpo", [4.0] * 4, seed=1), result("dpo", [8.0] * 3, seed=2)
    table = method_table([first, dataclasses.replace(second, coverage=0.985)])
    keys = [column.key for column in table.columns]
    (row,) = table.rows
    assert row.cells[keys.index("tiny-mtbench_sampled_score")].value == pytest.approx(40 / 7)
    assert row.cells[keys.index("coverage")].value == pytest.approx(98.5)
    assert row.cells[keys.index("seeds")].value == 2
