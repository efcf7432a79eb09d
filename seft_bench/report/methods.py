"""The table of a matrix: one row a method, its seeds aggregated. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.report.arms import (
    CONTENT,
    LC,
    Arm,
    Measure,
    Panel,
    arm,
    by_group,
    by_suite,
    difference,
    excludes_zero,
    group_of,
    length_controlled,
    mean_interval,
    measure_of,
    panels,
)
from seft_bench.report.tables import Cell, Column, Row, Table, footnote_number, interval_cell
from seft_bench.stats.intervals import Interval

_EACH_ALONE = "Each interval stands alone: nothing is corrected for the number of comparisons."


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The final results of a matrix: row name -> its results, in order; and all training seeds."""

    rows: Mapping[str, Sequence[Result]]
    seeds: tuple[int, ...]

    def facts(self, row: str) -> Mapping[str, Any]:
        return self.rows[row][0].run

    def label(self, row: str) -> str:
        label, group = str(self.facts(row).get("label") or self.facts(row)["row"]), group_of(self.facts(row))
        return f"{label} ({group})" if group else label

    def block(self, row: str) -> str:
        return "controls" if self.facts(row).get("role") == "control" else ""

    def start(self, row: str, name: str) -> str | None:
        """The row that a row's differences are taken to, on the same base and data: by name, else by its role."""
        group = group_of(self.facts(row))
        peers = [other for other in self.rows if group_of(self.facts(other)) == group]
        named = next((other for other in peers if self.facts(other)["row"] == name), None)
        return named or next((other for other in peers if self.facts(other).get("role") == "start"), None)


def method_tables(results: Iterable[Result], paired_against: str = "start") -> list[Table]:
    """`method_table` of each suite, in order of first appearance, a matrix's bases and data apart: what fits a page."""
    suites = by_suite(result for result in results if result.run)
    return [method_table(group, paired_against) for suite in suites for group in by_group(suite).values()]


def method_table(results: Iterable[Result], paired_against: str = "start") -> Table:
    """One row a row of the matrix, over its seeds' final checkpoints; controls in a block at the foot.

    For every suite, judge and decoding: the main metric with a 95 % interval over questions and seeds, LC where there is one, the
    content mean, and the difference to the row `paired_against`, paired by question and seed. Then what each row cost.

    Raises:
        InputError: no result comes from a matrix.
    """
    final = [result for result in results if result.run and result.run["final"]]
    matrix = _matrix(final)
    order = sorted(matrix.rows, key=lambda row: matrix.block(row) != "")  # a stable sort: the order given, controls last
    starts = {row: matrix.start(row, paired_against) for row in order}
    footnotes: list[str] = []
    columns, cells = [_ROW_LABEL], {row: [Cell(matrix.label(row))] for row in order}
    several = len({result.suite for result in final}) > 1
    for panel in panels(final):
        arms = {row: arm(matrix.rows[row], panel) for row in order}
        numbers = {row: footnote_number(footnotes, _what_is_missing(matrix, row, panel, arms[row])) for row in order}
        for column, panel_cells in _panel_columns(_prefix(panel, final), _group(panel, several, final), _measure(final, panel), arms, starts, numbers):
            columns.append(column)
            for row in order:
                cells[row].append(panel_cells[row])
    for column in _COSTS:
        columns.append(column)
        for row in order:
            cells[row].append(_cost(matrix.rows[row], column))
    rows = tuple(Row(tuple(cells[row]), matrix.block(row)) for row in order)
    title = f"Methods on {', '.join(dict.fromkeys(result.suite for result in final))}"
    return Table(title, tuple(columns), rows, _method_notes(matrix, final), tuple(footnotes))


_ROW_LABEL = Column("label", "method", role="label")
_LC_NOTE = (
    "LC win rate: mean over seeds; its interval joins the seeds' own intervals over questions with the variance between seeds; "
    "its ties are by the joint width, not paired."
)
_DIFFERENCE_NOTE = "Δ to start: difference to the start's row, paired by question and seed."
_COST_NOTE = "Unannotated prompts, steps, tokens and CPU seconds: all that training took, mean over seeds."
_COSTS = (
    Column("unannotated_prompts", "unannotated prompts", kind="number", note=_COST_NOTE),
    Column("steps", "steps", kind="number", note=_COST_NOTE),
    Column("tokens_trained", "tokens trained", kind="number", note=_COST_NOTE),
    Column("cpu_seconds", "CPU", unit="s", kind="number", note=_COST_NOTE),
    Column("seeds", "seeds", kind="number", role="label"),
)


def _matrix(final: Sequence[Result]) -> _Matrix:
    if not final:
        raise InputError("no result comes from a matrix's final checkpoint, so there are no methods to compare. Run `seft-bench bench MATRIX` first.")
    rows: dict[str, list[Result]] = {}
    for result in final:
        group = group_of(result.run)
        rows.setdefault(f"{group}: {result.run['row']}" if group else str(result.run["row"]), []).append(result)
    return _Matrix(rows, tuple(sorted({int(result.run["seed"]) for result in final})))


def _measure(final: Sequence[Result], panel: Panel) -> Measure:
    return measure_of(next(result for result in final if (result.suite, result.decoding) == (panel.suite, panel.decoding)))


def _group(panel: Panel, several_suites: bool, final: Sequence[Result]) -> str:
    """What stands over the columns of a panel: no more than is needed to tell it from the others."""
    name = panel.title if several_suites else panel.decoding
    return f"{name}, judge {panel.judge_id}" if _several_judges(panel, final) else name


def _prefix(panel: Panel, final: Sequence[Result]) -> str:
    """What the keys of a panel's columns begin with; a suite's other panels have another."""
    return "_".join([panel.suite, panel.decoding, *([panel.judge_id] if _several_judges(panel, final) else [])])


def _several_judges(panel: Panel, final: Sequence[Result]) -> bool:
    return len({result.judge_id for result in final if result.suite == panel.suite and not result.withheld}) > 1


PanelColumn = tuple[Column, dict[str, Cell]]


def _panel_columns(
    prefix: str, group: str, measure: Measure, arms: Mapping[str, Arm], starts: Mapping[str, str | None], footnotes: Mapping[str, int]
) -> list[PanelColumn]:
    """Main metric, LC, content and difference to the start, each with row -> cell."""

    def column(measure: Measure, kind: Any, role: Any = "detail", title: str = "", unit: str = "", key: str = "", note: str = "") -> Column:
        return Column(f"{prefix}_{key or measure.key}", title or measure.title, group, unit or measure.unit, kind, role, measure.decimals, note)

    main = {row: mean_interval(arms[row], measure) for row in arms}
    built = [(column(measure, "interval", "main"), _marked(main, _ties(main, arms, measure), footnotes))]
    lc = {row: length_controlled(arms[row]) for row in arms}
    if any(lc.values()):
        built.append((column(LC, "interval", note=_LC_NOTE), _marked(lc, _unpaired_ties(lc), footnotes)))
    content = {row: mean_interval(arms[row], CONTENT) for row in arms}
    if any(content.values()):
        built.append((column(CONTENT, "number"), _marked(content, _ties(content, arms, CONTENT), footnotes)))
    if any(starts.values()):
        paired = {row: start for row, start in starts.items() if start is not None and row != start}
        gains = {row: difference(arms[row], arms[paired[row]], measure) if row in paired else None for row in arms}
        numbers = {row: footnotes[row] or footnotes[paired[row]] if row in paired else 0 for row in arms}
        cells = {row: interval_cell(gain, numbers[row]) for row, gain in gains.items()}
        built.append((column(measure, "difference", title="Δ to start", unit="points", key=f"{measure.key}_difference", note=_DIFFERENCE_NOTE), cells))
    return built


Estimates = Mapping[str, Interval | None]


def _best(estimates: Estimates) -> str | None:
    means = {row: estimate.mean for row, estimate in estimates.items() if estimate is not None}
    return max(means, key=lambda row: means[row]) if len(means) > 1 else None


def _ties(estimates: Estimates, arms: Mapping[str, Arm], measure: Measure) -> set[str]:
    """Rows that the paired interval does not tell apart from the best."""
    best = _best(estimates)
    if best is None:
        return set()
    gaps = {row: difference(arms[best], arms[row], measure) for row in arms if row != best and estimates[row] is not None}
    return {row for row, gap in gaps.items() if gap is not None and not excludes_zero(gap)}


def _unpaired_ties(estimates: Estimates) -> set[str]:
    """For LC: rows whose gap to the best is within both intervals' joint width (wider than a paired one would be)."""
    best = _best(estimates)
    top = estimates[best] if best is not None else None
    if top is None or top.high is None:
        return set()
    return {row for row, estimate in estimates.items() if row != best and estimate is not None and _overlap(top, estimate)}


def _overlap(first: Interval, second: Interval) -> bool:
    if first.high is None or second.high is None:
        return False
    joint = math.hypot(first.high - first.mean, second.high - second.mean)
    return abs(first.mean - second.mean) <= joint


def _marked(estimates: Estimates, tied: set[str], footnotes: Mapping[str, int]) -> dict[str, Cell]:
    best = _best(estimates)
    cells = {row: interval_cell(estimate, footnotes[row]) for row, estimate in estimates.items()}
    return {row: replace(cell, mark="best" if row == best else "tied" if row in tied else "") for row, cell in cells.items()}


def _what_is_missing(matrix: _Matrix, row: str, panel: Panel, found: Arm) -> str:
    """Why seeds of a row are not in a panel's figures; "" where all are."""
    absent = [seed for seed in matrix.seeds if seed not in found]
    if not absent:
        return ""
    here = {int(result.run["seed"]): result for result in matrix.rows[row] if (result.suite, result.decoding) == (panel.suite, panel.decoding)}
    by_reason: dict[str, list[str]] = {}
    for seed in absent:
        by_reason.setdefault(_reason(here.get(seed)), []).append(str(seed))
    reasons = [f"{reason} (seed {', '.join(seeds)})" for reason, seeds in by_reason.items()]
    return f"{matrix.label(row)}, {panel.title}: {'; '.join(reasons)}."


def _reason(result: Result | None) -> str:
    if result is None:
        return "no result"
    if result.withheld:
        return f"withheld, coverage {100.0 * result.coverage:.1f} %"
    return f"judged by {result.judge_id}"


def _cost(results: Sequence[Result], column: Column) -> Cell:
    """Mean over the row's seeds; the last column is their number."""
    runs = {int(result.run["seed"]): result.run for result in results}
    if column.key == "seeds":
        return Cell(len(runs))
    values = [run[column.key] for run in runs.values() if run.get(column.key) is not None]
    return Cell(fmean(values)) if values else Cell()


def _method_notes(matrix: _Matrix, final: Sequence[Result]) -> tuple[str, ...]:
    seeds = f"{len(matrix.seeds)} training seeds" if len(matrix.seeds) > 1 else "one training seed, so training noise is not in the intervals"
    judges = ", ".join(sorted({result.judge_id for result in final if result.judge_id}))
    notes = [f"In brackets: 95 % bootstrap intervals over questions and seeds; {seeds}; only each run's final checkpoint.", _EACH_ALONE]
    return (*notes, *([f"Judge: {judges}."] if judges else []))
