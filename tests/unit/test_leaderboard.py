"""The plain table: ranks, intervals, withheld rows; and what every format does with hostile names."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest

from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.report.leaderboard import plain_table, plain_tables
from seft_bench.report.render import RENDERERS, html_page, to_csv, to_html, to_json, to_latex, to_markdown
from seft_bench.report.tables import Cell, Column, Table, TableRow
from tests.unit.leaderboard_data import cells, result, values

HOSTILE = "\x1b[2J<script>alert('x')</script>|**bold** a_b 50%&\u202e\u200b${x}\nnext"


def model(name: str, score: float, **changes: object) -> Result:
    metrics = {"score": score, "turn_1": score, "turn_2": score, "se": 0.2, "low": score - 0.4, "high": score + 0.4}
    values: dict[str, object] = {
        "n": 160,
        "n_scored": 160,
        "n_unscored": 0,
        "coverage": 1.0,
        "withheld": False,
        "judge_id": "gpt-4",
    }
    return Result("mtbench", name, metrics, **(values | changes))  # type: ignore[arg-type]


def test_rows_are_ranked_from_best_to_worst_and_equal_scores_share_a_rank() -> None:
    table = plain_table([model("c", 6.0), model("a", 7.5), model("b", 6.0), model("d", 5.0)])
    assert values(table, "model") == ["a", "b", "c", "d"]
    assert values(table, "rank") == [1, 2, 2, 4]
    assert [cell.mark for cell in cells(table, "score")] == ["best", "", "", ""]


def test_judges_and_decodings_are_ranked_apart() -> None:
    results = [model("a", 7.0), model("b", 9.0, judge_id="other"), model("c", 8.0, decoding="greedy"), model("d", 6.0)]
    table = plain_table(results)
    ranks = dict(zip(values(table, "model"), values(table, "rank"), strict=True))
    assert ranks == {"a": 1, "d": 2, "b": 1, "c": 1}
    assert len({row.block for row in table.rows}) == 3


def test_a_withheld_row_stands_at_the_foot_without_rank_or_mark() -> None:
    table = plain_table([model("a", 9.9, withheld=True, coverage=0.5, n_scored=80), model("b", 5.0)])
    assert values(table, "model") == ["b", "a"]
    assert values(table, "rank") == [1, "withheld"]
    assert [cell.mark for cell in cells(table, "score")] == ["best", ""]
    assert values(table, "coverage") == [100.0, 50.0]
    assert any("must not be ranked" in note for note in table.notes)


def test_alpacaeval_ranks_by_lc_and_the_win_rate_has_students_interval() -> None:
    """Four judgments with standard error 10: t(0.975, 3) = 3.18245, so the win rate's interval is -/+ 31.8245."""
    plain = {"win_rate": 40.0, "win_rate_se": 10.0, "discrete_win_rate": 50.0, "avg_length": 1200}
    first = Result(
        "alpacaeval",
        "long",
        plain | {"lc_win_rate": 30.0, "lc_low": 28.0, "lc_high": 33.0},
        4,
        4,
        0,
        1.0,
        False,
        "gpt-4",
    )
    second = Result(
        "alpacaeval",
        "short",
        plain | {"win_rate": 35.0, "lc_win_rate": 45.0, "lc_low": 43.0, "lc_high": 46.0},
        4,
        4,
        0,
        1.0,
        False,
        "gpt-4",
    )
    table = plain_table([first, second])
    assert values(table, "model") == ["short", "long"]
    rates = cells(table, "win_rate")
    assert (rates[1].low, rates[1].high) == (
        pytest.approx(40 - 31.8245, abs=1e-3),
        pytest.approx(40 + 31.8245, abs=1e-3),
    )
    assert (cells(table, "lc_win_rate")[1].low, cells(table, "lc_win_rate")[1].high) == (28.0, 33.0)


def test_length_control_at_different_c_is_said() -> None:
    plain = {"win_rate": 40.0, "win_rate_se": 1.0, "lc_win_rate": 41.0, "lc_low": 40.0, "lc_high": 42.0}
    results = [
        Result("alpacaeval", name, plain | {"lc_c": c}, 100, 100, 0, 1.0, False, "gpt-4")
        for name, c in (("a", 21.544), ("b", 2.7826))
    ]
    assert "alpacaeval: the length control was fitted at C = 2.783, 21.54, by model." in plain_table(results).notes
    assert not any("fitted at C" in note for note in plain_table(results[:1]).notes)


def test_without_lc_for_one_model_all_are_ranked_by_the_win_rate() -> None:
    results = [
        Result(
            "alpacaeval",
            name,
            {"win_rate": rate, "win_rate_se": 1.0, "lc_win_rate": lc},
            100,
            100,
            0,
            1.0,
            False,
            "gpt-4",
        )
        for name, rate, lc in (("a", 40.0, 20.0), ("b", 30.0, None))
    ]
    table = plain_table(results)
    assert values(table, "model") == ["a", "b"]
    assert any("ranked by win rate" in note for note in table.notes)


def test_a_figure_that_cannot_be_given_is_a_dash_and_has_no_rank() -> None:
    table = plain_table([model("a", 7.0), dataclasses.replace(model("b", 0.0), metrics={"score": None})])
    assert values(table, "rank") == [1, None]
    lines = [line for line in to_markdown(table).splitlines() if "| b " in line]
    assert len(lines) == 1
    assert "–" in lines[0]  # noqa: RUF001
    assert " 0.0" not in lines[0]


def test_suites_make_a_table_each() -> None:
    tables = plain_tables([result("dpo", [5, 6, 7]), result("dpo", [0.2, 0.4, 0.6], suite="tiny-alpacaeval")])
    assert [table.title for table in tables] == ["Leaderboard: tiny-alpacaeval", "Leaderboard: tiny-mtbench"]
    assert "score" not in [column.key for column in tables[0].columns]


def test_no_results_and_unknown_metrics_are_the_users_error() -> None:
    with pytest.raises(InputError, match="seft-bench eval"):
        plain_table([])
    with pytest.raises(InputError, match="accuracy"):
        plain_table([dataclasses.replace(model("a", 1.0), metrics={"accuracy": 0.5})])


# Formats


def test_one_page_takes_several_tables() -> None:
    page = html_page(
        "<b>", plain_tables([result("dpo", [5, 6, 7]), result("dpo", [0.2, 0.4, 0.6], suite="tiny-alpacaeval")])
    )
    assert page.count("<table>") == 2
    assert page.count("<!doctype html>") == 1
    assert "<title>&lt;b&gt;</title>" in page


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_hostile_names_reach_no_format_as_control_characters(name: str) -> None:
    text = RENDERERS[name](plain_table([model(HOSTILE, 7.0)]))
    assert not [char for char in text if not char.isprintable() and char != "\n"]
    assert "\u202e" not in text
    assert "x1b" in text  # written out, not dropped: two names must not become one


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_same_results_same_bytes_in_any_order(name: str) -> None:
    results = [model(f"m{index}", 5.0 + index / 7) for index in range(5)]
    assert RENDERERS[name](plain_table(results)) == RENDERERS[name](plain_table(results[::-1]))


def test_html_is_escaped_and_loads_nothing() -> None:
    page = to_html(plain_table([model(HOSTILE, 7.0)]))
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)" in page
    assert "default-src 'none'" in page


def test_markdown_cells_cannot_break_the_table() -> None:
    text = to_markdown(plain_table([model(HOSTILE, 7.0), model("second", 6.0)]))
    rows = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert r"\<script\>" in text
    assert r"\*\*bold\*\*" in text
    assert "a_b" in text  # marks nothing within a word


def test_markdown_columns_are_aligned_also_with_wide_characters() -> None:
    text = to_markdown(plain_table([model("plain", 7.0), model("模型", 6.0)]))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(row) + row.count("模") + row.count("型") for row in rows}) == 1


def test_latex_is_escaped() -> None:
    text = to_latex(plain_table([model(r"50% a_b & {c} #1 $x$ ~ ^ \input{x} 模", 7.0)]))
    assert (
        r"50\% a\_b \& \{c\} \#1 \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{}input\{x\} U+6A21" in text
    )
    assert r"\toprule" in text
    assert r"\bottomrule" in text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-cmd", "@sum", " =1", "\t=1"])
def test_csv_runs_no_formula(name: str) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(plain_table([model(name, 7.0)])))))
    assert rows[0]["model"][0] in "'\\"


def test_csv_and_json_hold_unrounded_figures_and_their_ends() -> None:
    table = plain_table([model("a, b", 7.123456789)])
    row = next(csv.DictReader(io.StringIO(to_csv(table))))
    assert row["model"] == "a, b"
    assert float(row["score"]) == pytest.approx(7.123456789, abs=1e-9)
    assert float(row["score_low"]) == pytest.approx(6.723456789, abs=1e-9)
    parsed = json.loads(to_json(table))["rows"][0]
    assert parsed["score_high"] == pytest.approx(7.523456789, abs=1e-9)
    assert parsed["score_mark"] == "best"


def test_missing_values_are_empty_in_csv_null_in_json_and_a_dash_elsewhere() -> None:
    table = Table(
        "t",
        (Column("a", "a"), Column("b", "b", kind="number", decimals=1)),
        (TableRow((Cell("x"), Cell(footnote=1))), TableRow((Cell("y"), Cell(float("nan"))))),
        footnotes=("why",),
    )
    assert to_csv(table) == "block,a,b\n,x,\n,y,\n"
    assert [row["b"] for row in json.loads(to_json(table))["rows"]] == [None, None]
    assert json.loads(to_json(table))["rows"][0]["b_note"] == "why"
    assert "– (1)" in to_markdown(table)  # noqa: RUF001
    assert "- (1) why" in to_markdown(table)
    assert r"\textendash{} & \textsuperscript{(1)}" in to_latex(table)
    assert "<sup>(1)</sup>" in to_html(table)


def test_differences_carry_their_sign_and_zero_has_no_minus() -> None:
    column = Column("d", "d", kind="difference", decimals=2)
    table = Table("t", (column,), (TableRow((Cell(0.5, -0.001, 1.0),)),))
    assert "+0.50 [+0.00, +1.00]" in to_markdown(table)
