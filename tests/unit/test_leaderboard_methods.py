"""The table of a matrix: intervals worked out by hand, marks, blocks, missing cells, costs."""

from __future__ import annotations

import dataclasses

import pytest

from seft_bench.errors import InputError
from seft_bench.records import COSTS, Result, run_of
from seft_bench.report.leaderboard import method_table, method_tables
from seft_bench.report.render import RENDERERS, to_latex, to_markdown
from seft_bench.report.tables import Cell, Table
from seft_bench.stats.intervals import Interval
from seft_bench.stats.seeds import joint_interval
from tests.unit.leaderboard_data import control, matrix, result

LEVELS = {"start": 5.2, "dpo": 6.7, "self-label": 7.2, "seft": 7.1}


def cell(table: Table, label: str, key: str) -> Cell:
    column = [column.key for column in table.columns].index(key)
    return next(row.cells[column] for row in table.rows if row.cells[0].value == label)


def constant_seeds(row: str, levels: tuple[float, ...], **where: object) -> list[Result]:
    """Every question has the seed's level, so the interval over questions has no width."""
    return [
        result(row, [level] * 30, seed=seed, content=[level / 10] * 30, **where)
        for seed, level in enumerate(levels, start=1)
    ]  # type: ignore[arg-type]


def test_mean_and_interval_over_seeds_by_hand() -> None:
    """Seeds at 4, 5, 6: two draws of three reach the means 4 and 6 with probability 1/9 each, so the 95 % interval is
    [4, 6].
    """
    figure = cell(method_table(constant_seeds("dpo", (4.0, 5.0, 6.0))), "DPO", "tiny-mtbench_sampled_score")
    assert (figure.value, figure.low, figure.high) == (pytest.approx(5.0), pytest.approx(4.0), pytest.approx(6.0))


def test_the_difference_is_paired_by_question_and_seed() -> None:
    """The seeds differ by 2 points and the arms by exactly 1 in each seed: a paired interval has no width, an unpaired
    one would.
    """
    results = constant_seeds("start", (4.0, 5.0, 6.0)) + constant_seeds("dpo", (5.0, 6.0, 7.0))
    gain = cell(method_table(results), "DPO", "tiny-mtbench_sampled_score_difference")
    assert (gain.value, gain.low, gain.high) == (pytest.approx(1.0), pytest.approx(1.0), pytest.approx(1.0))
    own = cell(method_table(results), "SFT (start)", "tiny-mtbench_sampled_score_difference")
    assert (own.value, own.footnote) == (None, 0)


def test_win_rates_are_in_percent_and_questions_are_paired_by_id() -> None:
    start = result("start", [0.2, 0.4, 0.6], suite="tiny-alpacaeval")
    dpo = result("dpo", [0.3, 0.5, 0.7], suite="tiny-alpacaeval")
    shuffled = dataclasses.replace(dpo, per_question=dict(reversed(list(dpo.per_question.items()))))
    table = method_table([start, shuffled])
    assert cell(table, "DPO", "tiny-alpacaeval_sampled_win_rate").value == pytest.approx(50.0)
    gain = cell(table, "DPO", "tiny-alpacaeval_sampled_win_rate_difference")
    assert (gain.value, gain.low, gain.high) == (pytest.approx(10.0), pytest.approx(10.0), pytest.approx(10.0))


def test_lc_joins_the_spread_over_questions_and_over_seeds_by_hand() -> None:
    """Half-widths 3 and 5: within (9 + 25) / 2 = 17.

    Means 50, 54: variance 8, of their mean 4. sqrt(17 + 1.96^2 * 4) = 5.68915.
    """
    joint = joint_interval([Interval(50.0, 47.0, 53.0, ""), Interval(54.0, 49.0, 59.0, "")])
    assert joint.mean == 52.0
    assert joint.low == pytest.approx(52.0 - 5.68915, abs=1e-4)
    assert joint.high == pytest.approx(52.0 + 5.68915, abs=1e-4)
    assert joint_interval([Interval(50.0, 47.0, 53.0, "")]).high == pytest.approx(53.0)
    assert joint_interval([Interval(50.0, None, None, ""), Interval(54.0, 49.0, 59.0, "")]).low is None


def test_the_best_is_bold_and_a_paired_tie_is_marked_a_real_gap_is_not() -> None:
    """SEFT is 0.1 under self-label on every second question and 0.1 over it on the others, but for one: no difference
    shown. DPO is 1 under it everywhere.
    """
    best = [5.0] * 40
    wobble = [5.0 + (0.1 if index % 2 else -0.1) for index in range(39)] + [4.9]
    table = method_table([result("self-label", best), result("seft", wobble), result("dpo", [4.0] * 40)])
    key = "tiny-mtbench_sampled_score"
    assert [cell(table, label, key).mark for label in ("self-label", "SEFT", "DPO")] == ["best", "tied", ""]
    text = to_markdown(table)
    assert "**5.00** [5.00, 5.00]" in text
    assert "] ≈" in text
    assert r"\textbf{5.00} & [5.00, 5.00]" in to_latex(table)


def test_rows_stand_in_the_order_given_with_controls_in_a_block_at_the_foot() -> None:
    table = method_table(matrix(LEVELS, seeds=(1,), questions=10))
    assert [(row.cells[0].value, row.block) for row in table.rows] == [
        ("SFT (start)", ""),
        ("DPO", ""),
        ("SEFT", ""),
        ("self-label", "controls"),
    ]


def test_only_final_checkpoints_of_the_matrix_count() -> None:
    early = result("dpo", [9.0] * 5, step=75, final=False)
    other = dataclasses.replace(result("dpo", [9.0] * 5), run=None, model="llama")
    table = method_table([early, other, result("dpo", [4.0] * 5)])
    assert len(table.rows) == 1
    assert cell(table, "DPO", "tiny-mtbench_sampled_score").value == pytest.approx(4.0)


def test_missing_and_withheld_seeds_are_footnoted_and_never_zero() -> None:
    results = matrix(LEVELS, questions=20)
    results = [
        item
        for item in results
        if not (
            run_of(item).row == "dpo"
            and run_of(item).seed == 2
            and item.suite == "tiny-mtbench"
            and item.decoding == "sampled"
        )
    ]
    results = [
        dataclasses.replace(item, withheld=True, coverage=0.91)
        if run_of(item).row == "seft" and item.decoding == "greedy"
        else item
        for item in results
    ]
    table = method_table(results)
    dash = cell(table, "SEFT", "tiny-mtbench_greedy_score")
    assert (dash.value, dash.mark) == (None, "")
    assert table.footnotes[dash.footnote - 1] == "SEFT, tiny-mtbench, greedy: withheld, coverage 91.0 % (seed 1, 2, 3)."
    partial = cell(table, "DPO", "tiny-mtbench_sampled_score")
    assert partial.value is not None
    assert table.footnotes[partial.footnote - 1] == "DPO, tiny-mtbench, sampled: no result (seed 2)."
    assert cell(table, "SEFT", "tiny-mtbench_greedy_score_difference").value is None
    assert f"– ({dash.footnote})" in to_markdown(table)  # noqa: RUF001


def test_a_withheld_start_leaves_no_difference_and_says_why() -> None:
    table = method_table([result("start", [5.0] * 5, withheld=True), result("dpo", [6.0] * 5)])
    gain = cell(table, "DPO", "tiny-mtbench_sampled_score_difference")
    assert gain.value is None
    assert table.footnotes[gain.footnote - 1].startswith("SFT (start), tiny-mtbench, sampled: withheld")


def test_costs_are_means_over_seeds() -> None:
    results = [result("dpo", [5.0] * 5, seed=seed) for seed in (1, 2)]
    results[1] = dataclasses.replace(results[1], run=dataclasses.replace(run_of(results[1]), cpu_seconds=71.25))
    table = method_table([*results, *(dataclasses.replace(item, decoding="greedy") for item in results)])
    assert cell(table, "DPO", "cpu_seconds").value == pytest.approx(66.25)
    assert cell(table, "DPO", "unannotated_prompts").value == 0
    assert cell(table, "DPO", "tokens_trained").value == 412_345
    assert cell(table, "DPO", "seeds").value == 2


def _costing(item: Result, **costs: float | None) -> Result:
    return dataclasses.replace(item, run=dataclasses.replace(run_of(item), **costs))


def test_readers_get_what_rows_cost_in_a_table_of_its_own_and_programs_in_the_one() -> None:
    dpo = [_costing(result("dpo", [5.0] * 5, seed=seed), annotated_pairs=800, judge_calls=0) for seed in (1, 2)]
    start = [_costing(result("start", [4.0] * 5), annotated_pairs=0, judge_calls=0, annotated_conversations=30)]
    *scores, costs = method_tables([*start, *dpo, control("constant", [3.0] * 5)])
    assert costs.title == "What the methods cost"
    assert "tokens_trained" not in [column.key for table in scores for column in table.columns]
    assert [row.cells[0].value for row in costs.rows] == ["SFT (start)", "DPO"]  # a control took no training
    keys = [column.key for column in costs.columns]
    assert "annotated_conversations" in keys
    assert not {"annotated_labels", "judge_usd", "gpu_seconds"} & set(keys)  # nobody spent any
    assert [cell(costs, "DPO", key).value for key in ("annotated_pairs", "judge_calls", "annotated_conversations")] == [
        *(800, 0, None)
    ]
    assert "A dash: the run was recorded before this was counted: SFT conversations." in costs.notes
    wide = method_table([*start, *dpo])
    assert set(COSTS) <= {column.key for column in wide.columns}
    assert cell(wide, "SFT (start)", "annotated_conversations").value == 30


def test_a_mean_over_seeds_of_which_one_is_unknown_is_unknown() -> None:
    runs = [_costing(result("dpo", [5.0] * 5, seed=seed), judge_calls=calls) for seed, calls in ((1, 64), (2, None))]
    assert cell(method_table(runs), "DPO", "judge_calls").value is None


def test_content_and_its_column_only_where_the_judge_grades_it() -> None:
    table = method_table([result("dpo", [5.0] * 4, content=[0.2, 0.4, 0.6, 0.8])])
    assert cell(table, "DPO", "tiny-mtbench_sampled_content").value == pytest.approx(0.5)
    assert not [column.key for column in method_table([result("dpo", [5.0] * 4)]).columns if "content" in column.key]


def test_judges_are_never_mixed() -> None:
    table = method_table(
        [
            result("dpo", [5.0] * 5, judge="a"),
            result("seft", [9.0] * 5, judge="b"),
            result("seft", [6.0] * 5, judge="a"),
        ]
    )
    assert cell(table, "SEFT", "tiny-mtbench_sampled_a_score").value == pytest.approx(6.0)
    assert cell(table, "SEFT", "tiny-mtbench_sampled_b_score").value == pytest.approx(9.0)
    other = cell(table, "DPO", "tiny-mtbench_sampled_b_score")
    assert (other.value, table.footnotes[other.footnote - 1]) == (
        None,
        "DPO, tiny-mtbench, sampled: judged by a (seed 1).",
    )


def test_one_seed_twice_and_no_matrix_are_the_users_error() -> None:
    twice = [result("dpo", [5.0] * 3), dataclasses.replace(result("dpo", [6.0] * 3), model="copy")]
    with pytest.raises(InputError, match="copy"):
        method_table(twice)
    with pytest.raises(InputError, match="seft-bench bench"):
        method_table([dataclasses.replace(twice[0], run=None)])


def test_one_table_a_suite_and_a_short_one_for_a_terminal() -> None:
    results = matrix(LEVELS, seeds=(1,), questions=10)
    assert [table.title for table in method_tables(results)] == [
        "Methods on tiny-alpacaeval",
        "Methods on tiny-mtbench",
        "What the methods cost",
    ]
    short = method_table(results).only("label", "main")
    assert [column.title for column in short.columns] == [
        "method",
        "win rate",
        "win rate",
        "score",
        "score",
        "lowest coverage",
        "seeds",
    ]
    assert all(len(row.cells) == 7 for row in short.rows)
    assert not any("LC win rate" in note for note in short.all_notes)


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_same_results_same_bytes(name: str) -> None:
    results = matrix(LEVELS, questions=30)
    again = [
        dataclasses.replace(item, per_question=dict(reversed(list(item.per_question.items())))) for item in results
    ]
    assert RENDERERS[name](method_table(results)) == RENDERERS[name](method_table(again))
