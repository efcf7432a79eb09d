"""Tables from results: all models side by side, and a matrix's methods with their seeds aggregated.

Pure: no files, no network, no clock. `report.render` writes a table down, `report.findings` says in words what it
shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.report.arms import LC, belongs, by_suite, in_table_order, is_control, measure_of, panels
from seft_bench.report.findings import findings
from seft_bench.report.methods import CONTROLS, CONTROLS_NOTE, Plan, method_table, method_tables
from seft_bench.report.published import published_table, published_tables
from seft_bench.report.tables import Cell, Column, Mark, Table, TableRow
from seft_bench.report.ties import ends, not_above, tied_with

__all__ = [
    "Plan",
    "Table",
    "findings",
    "method_table",
    "method_tables",
    "plain_table",
    "plain_tables",
    "published_table",
    "published_tables",
]


def plain_tables(results: Iterable[Result]) -> list[Table]:
    """`plain_table` of each suite, by name."""
    return [plain_table(group) for group in by_suite(results)]


def plain_table(results: Iterable[Result]) -> Table:
    """Build the table of one row a model, decoding and judge, ranked within suite, judge and decoding.

    Withheld results stand at the foot, unranked.

    AlpacaEval-like suites rank by the length-controlled win rate, as the official table does, and by the win rate where
    a model has none; MT-Bench-like ones by the score.

    Raises:
        InputError: no results, or one with none of the metrics that we know.
    """
    everything = in_table_order(results)
    if not everything:
        raise InputError("no results to make a table of. Run `seft-bench eval MODEL --suite SUITE` first.")
    columns = [
        column
        for column in _PLAIN_COLUMNS
        if column.role == "label" or any(_plain_cell(result, column).value is not None for result in everything)
    ]
    rows, controls, notes = [], [], []
    for panel in panels(everything):
        members = [result for result in everything if belongs(result, panel) and not is_control(result)]
        beside = sorted((result for result in everything if belongs(result, panel) and is_control(result)), key=_order)
        controls += [_unranked_row(result, columns, CONTROLS, "control") for result in beside]
        if members:
            ranked_by = _ranking_metric(members)
            ranked = _ranked_rows(members, ranked_by, columns, f"{panel.title}, judge {panel.judge_id or 'unknown'}")
            rows += ranked
            notes += _mixed_c_note(panel.suite, members)
            notes += [
                f"{panel.suite} is ranked by "
                f"{next(column.title for column in _PLAIN_COLUMNS if column.key == ranked_by)}."
            ]
            notes += [_ties_note(ranked_by)] if any(cell.mark == "tied" for row in ranked for cell in row.cells) else []
            notes += [f"{panel.title}: {sentence}" for sentence in not_above(members, beside, ranked_by)]
    withheld = sorted((result for result in everything if result.withheld), key=_order)
    rows += [_unranked_row(result, columns, "withheld", "withheld") for result in withheld] + controls
    notes += (
        ["Withheld: too few judgments are scored; the figures are shown, and must not be ranked or quoted."]
        if withheld
        else []
    )
    notes += [CONTROLS_NOTE] if controls else []
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
    return (
        f"In brackets: 95 % intervals over questions ({', '.join(kinds)}); they say nothing about training noise."
        if kinds
        else "No figure has an interval."
    )


def _ties_note(metric: str) -> str:
    how = "by the interval of differences paired by question" + (
        " (sandwich formula; where a result lacks what that needs, by both intervals' joint width)"
        if metric == LC.key
        else ", Student's t"
    )
    return f"Ties in {next(column.title for column in _PLAIN_COLUMNS if column.key == metric)}: {how}."


def _order(result: Result) -> tuple[str, str, str]:
    """Return the key that sorts rows without a rank: never the order in which files were read."""
    return result.model, result.decoding, result.judge_id


def _mixed_c_note(suite: str, members: Sequence[Result]) -> list[str]:
    """Name the Cs of the length control where models have different ones, as cross-validation chooses them.

    That is no error, but nothing that a reader would guess.
    """
    found = sorted({result.metrics["lc_c"] for result in members if result.metrics.get("lc_c") is not None})
    return (
        [f"{suite}: the length control was fitted at C = {', '.join(f'{c:.4g}' for c in found)}, by model."]
        if len(found) > 1
        else []
    )


def _ranking_metric(members: Sequence[Result]) -> str:
    """One metric for all of a panel: ranks by different metrics would not compare."""
    if all(result.metrics.get(LC.key) is not None for result in members):
        return LC.key
    return measure_of(members[0]).key


def _ranked_rows(members: Sequence[Result], metric: str, columns: Sequence[Column], block: str) -> list[TableRow]:
    """Rows from best to worst; equal figures share a rank, a row without the figure has none and comes last."""
    figures = [result.metrics.get(metric) for result in members]
    order = sorted(
        range(len(members)),
        key=lambda index: (figures[index] is None, -(figures[index] or 0.0), _order(members[index])),
    )
    ranks = [_rank(figure, figures) for figure in figures]
    tied = tied_with(members[order[0]], [members[index] for index in order if ranks[index] != 1], metric)
    return [
        _ranked_row(members[index], ranks[index], metric, columns, block, _mark(members[index], ranks[index], tied))
        for index in order
    ]


def _mark(result: Result, rank: int | None, tied: Sequence[Result]) -> Mark:
    return "best" if rank == 1 else "tied" if any(result is other for other in tied) else ""


def _rank(figure: float | None, figures: Sequence[float | None]) -> int | None:
    return None if figure is None else 1 + sum(1 for other in figures if other is not None and other > figure)


def _ranked_row(
    result: Result, rank: int | None, metric: str, columns: Sequence[Column], block: str, mark: Mark
) -> TableRow:
    cells = [Cell(rank) if column.key == "rank" else _plain_cell(result, column) for column in columns]
    marked = [
        replace(cell, mark=mark) if column.key == metric else cell for cell, column in zip(cells, columns, strict=True)
    ]
    return TableRow(tuple(marked), block)


def _unranked_row(result: Result, columns: Sequence[Column], block: str, why: str) -> TableRow:
    return TableRow(
        tuple(Cell(why) if column.key == "rank" else _plain_cell(result, column) for column in columns), block
    )


def _plain_cell(result: Result, column: Column) -> Cell:
    facts: dict[str, str | float] = {
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
