"""Tables from results: all models side by side, and a matrix's methods with their seeds aggregated.

Pure: no files, no network, no clock. `report.render` writes a table down, `report.findings` says in words what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.report.arms import LC, belongs, by_suite, measure_of, panels
from seft_bench.report.findings import findings
from seft_bench.report.methods import method_table, method_tables
from seft_bench.report.tables import Cell, Column, Row, Table
from seft_bench.stats.intervals import t_quantile

__all__ = ["Table", "findings", "method_table", "method_tables", "plain_table", "plain_tables"]


def plain_tables(results: Iterable[Result]) -> list[Table]:
    """`plain_table` of each suite, in order of first appearance."""
    return [plain_table(group) for group in by_suite(results)]


def plain_table(results: Iterable[Result]) -> Table:
    """One row a model, decoding and judge, ranked within suite, judge and decoding; withheld ones at the foot, unranked.

    AlpacaEval-like suites rank by the length-controlled win rate, as the official table does, and by the win rate where a model has none;
    MT-Bench-like ones by the score.

    Raises:
        InputError: no results, or one with none of the metrics that we know.
    """
    everything = list(results)
    if not everything:
        raise InputError("no results to make a table of. Run `seft-bench eval MODEL --suite SUITE` first.")
    columns = [column for column in _PLAIN_COLUMNS if column.role == "label" or any(_plain_cell(result, column).value is not None for result in everything)]
    rows, notes = [], []
    for panel in panels(everything):
        members = [result for result in everything if belongs(result, panel)]
        if members:
            ranked_by = _ranking_metric(members)
            rows += _ranked_rows(members, ranked_by, columns, f"{panel.title}, judge {panel.judge_id or 'unknown'}")
            notes += [f"{panel.suite} is ranked by {next(column.title for column in _PLAIN_COLUMNS if column.key == ranked_by)}."]
    withheld = [result for result in everything if result.withheld]
    rows += [Row(tuple(_plain_cell(result, column) for column in columns), "withheld") for result in withheld]
    notes += ["Withheld: too few judgments are scored; the figures are shown, and must not be ranked or quoted."] if withheld else []
    title = f"Leaderboard: {', '.join(dict.fromkeys(result.suite for result in everything))}"
    return Table(title, tuple(columns), tuple(rows), (*dict.fromkeys(notes), _plain_intervals_note(columns)))


_PLAIN_COLUMNS = (
    Column("rank", "rank", kind="number", role="label"),
    Column("model", "model", role="label"),
    Column("suite", "suite", role="label"),
    Column("decoding", "decoding", role="label"),
    Column("lc_win_rate", "LC win rate", unit="%", kind="interval", role="main", decimals=1),
    Column("win_rate", "win rate", unit="%", kind="interval", role="main", decimals=1),
    Column("discrete_win_rate", "discrete", unit="%", kind="number", decimals=1),
    Column("avg_length", "length", unit="characters", kind="number"),
    Column("score", "score", unit="1-10", kind="interval", role="main", decimals=2),
    Column("turn_1", "turn 1", kind="number", decimals=2),
    Column("turn_2", "turn 2", kind="number", decimals=2),
    Column("content", "content", unit="0-1", kind="number", decimals=3),
    Column("n", "scored", kind="number", role="label"),
    Column("coverage", "coverage", unit="%", kind="number", role="label", decimals=1),
    Column("judge", "judge", role="label"),
)


def _plain_intervals_note(columns: Sequence[Column]) -> str:
    kinds = [column.title for column in columns if column.kind == "interval"]
    return f"In brackets: 95 % intervals over questions ({', '.join(kinds)}); they say nothing about training noise." if kinds else "No figure has an interval."


def _ranking_metric(members: Sequence[Result]) -> str:
    """One metric for all of a panel: ranks by different metrics would not compare."""
    if all(result.metrics.get(LC.key) is not None for result in members):
        return LC.key
    return measure_of(members[0]).key


def _ranked_rows(members: Sequence[Result], metric: str, columns: Sequence[Column], block: str) -> list[Row]:
    """Rows from best to worst; equal figures share a rank, a row without the figure has none and comes last."""
    figures = [result.metrics.get(metric) for result in members]
    order = sorted(range(len(members)), key=lambda index: (figures[index] is None, -(figures[index] or 0.0), members[index].model))
    return [_ranked_row(members[index], _rank(figures[index], figures), metric, columns, block) for index in order]


def _rank(figure: float | None, figures: Sequence[float | None]) -> int | None:
    return None if figure is None else 1 + sum(other is not None and other > figure for other in figures)


def _ranked_row(result: Result, rank: int | None, metric: str, columns: Sequence[Column], block: str) -> Row:
    cells = [Cell(rank) if column.key == "rank" else _plain_cell(result, column) for column in columns]
    marked = [replace(cell, mark="best") if column.key == metric and rank == 1 else cell for cell, column in zip(cells, columns, strict=True)]
    return Row(tuple(marked), block)


def _plain_cell(result: Result, column: Column) -> Cell:
    facts: dict[str, str | float] = {
        "rank": "withheld",  # ranked rows get their number in `_ranked_row`
        "model": result.model,
        "suite": result.suite,
        "decoding": result.decoding,
        "judge": result.judge_id,
        "n": result.n_scored,
        "coverage": 100.0 * result.coverage,
    }
    if column.key in facts:
        return Cell(facts[column.key])
    low, high = ends(result, column.key)
    return Cell(result.metrics.get(column.key), low, high)


def ends(result: Result, metric: str) -> tuple[float | None, float | None]:
    """The 95 % interval over questions of a metric, where there is one."""
    metrics = result.metrics
    if metric == "win_rate" and metrics.get("win_rate_se") is not None and result.n_scored > 1:
        margin = t_quantile(result.n_scored - 1) * metrics["win_rate_se"]
        return metrics["win_rate"] - margin, metrics["win_rate"] + margin
    prefix = {"score": "", LC.key: "lc_"}.get(metric)
    return (None, None) if prefix is None else (metrics.get(f"{prefix}low"), metrics.get(f"{prefix}high"))
