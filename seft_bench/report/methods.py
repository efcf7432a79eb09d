"""The table of a matrix: one row a method, its seeds aggregated. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from seft_bench.errors import InputError
from seft_bench.records import Result, RunFacts, run_of
from seft_bench.report.arms import (
    CONTENT,
    LC,
    Arm,
    Measure,
    Panel,
    arm,
    bare_mean,
    belongs,
    by_group,
    by_suite,
    difference,
    excludes_zero,
    in_table_order,
    is_control,
    is_final,
    length_controlled,
    mean_interval,
    measure_of,
    overlap,
    panels,
)
from seft_bench.report.costs import COST_COLUMNS, cost_cell, cost_table
from seft_bench.report.tables import Cell, Column, Kind, Role, Table, TableRow, footnote_number, interval_cell
from seft_bench.stats.intervals import Interval

CONTROLS = "Controls: what a judge gives to nothing"
"""Block of the rows without a model."""
CONTROLS_NOTE = (
    "Controls without a model (a constant, a copy of the prompt, filler) are judged like all others, evaluated once, "
    "never ranked and never bold."
)
_EACH_ALONE = "Each interval stands alone: nothing is corrected for the number of comparisons."


@dataclass(frozen=True, slots=True)
class Plan:
    """What a matrix should hold.

    Attributes:
        rows: row name -> label.
        seeds: of the trainings.
        notes: what its tables say of it, one sentence each.
        idle: (group, row) of rows that do not run on a base and data set.
    """

    rows: Mapping[str, str]
    seeds: Sequence[int]
    notes: Sequence[str] = ()
    idle: Collection[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The final results of a matrix: row name -> its results, in order; and all training seeds that there should be."""

    rows: Mapping[str, Sequence[Result]]
    seeds: tuple[int, ...]

    def facts(self, row: str) -> RunFacts:
        return run_of(self.rows[row][0])

    def label(self, row: str) -> str:
        run = self.facts(row)
        label = run.label or run.row
        return f"{label} ({run.group})" if run.group else label

    def is_modelless(self, row: str) -> bool:
        return is_control(self.rows[row][0])

    def block(self, row: str) -> str:
        if self.is_modelless(row):
            return CONTROLS
        return "controls" if self.facts(row).role == "control" else ""

    def start(self, row: str, name: str) -> str | None:
        """The row that a row's differences are taken to, on the same base and data: by name, else by its role."""
        group = self.facts(row).group
        peers = [other for other in self.rows if self.facts(other).group == group]
        named = next((other for other in peers if self.facts(other).row == name), None)
        return named or next((other for other in peers if self.facts(other).role == "start"), None)

    def arm(self, row: str, panel: Panel) -> Arm:
        """Seed -> result.

        A control without a model says the same whatever the seed, so its one result stands beside every seed.
        """
        if not self.is_modelless(row):
            return arm(self.rows[row], panel)
        found = [result for result in self.rows[row] if belongs(result, panel)]
        return dict.fromkeys(self.seeds, found[0]) if found else {}


def method_tables(results: Iterable[Result], paired_against: str = "start", plan: Plan | None = None) -> list[Table]:
    """`method_table` of each suite, by name, a matrix's bases and data apart: what fits a page; then what rows cost.

    Controls without a model stand in each of them but the last.
    """
    own = [result for result in results if result.run is not None]
    tables = []
    for suite in by_suite(own):
        controls = [result for result in suite if is_control(result)]
        groups = by_group(result for result in suite if not is_control(result)).values()
        tables += [
            method_table([*group, *controls], paired_against, plan, with_costs=False) for group in groups or [[]]
        ]
    return [*tables, _cost_table(own, plan)] if tables else []


def _cost_table(results: Sequence[Result], plan: Plan | None) -> Table:
    matrix = _matrix([result for result in results if is_final(result)], plan)
    rows = [row for row in _in_blocks(matrix) if not matrix.is_modelless(row)]
    trained = {row: (matrix.label(row), matrix.block(row)) for row in rows}
    costs = [(*trained[row], list(map(run_of, matrix.rows[row]))) for row in rows]
    return cost_table(costs, plan.notes if plan else ())


def method_table(
    results: Iterable[Result], paired_against: str = "start", plan: Plan | None = None, with_costs: bool = True
) -> Table:
    """Build the table of one row a row of the matrix, over its seeds' final checkpoints.

    Controls stand in blocks at the foot, those without a model last.

    For every suite, judge and decoding: the main metric with a 95 % interval over questions and seeds, LC where there
    is one, the content mean, and the difference to the row `paired_against`, paired by question and seed. Then what
    each row cost, the lowest coverage of its results, and how many seeds it has.

    Args:
        plan: what the matrix should hold: the order of the rows, and a row or seed without any result is said too.
        with_costs: have columns of what training took; for readers they stand in a table of their own.

    Raises:
        InputError: no result comes from a matrix.
    """
    final = [result for result in results if is_final(result)]
    matrix = _matrix(final, plan)
    order = _in_blocks(matrix)
    starts = {row: matrix.start(row, paired_against) for row in order}
    footnotes: list[str] = []
    columns, cells = [_ROW_LABEL], {row: [Cell(matrix.label(row))] for row in order}
    several = len({result.suite for result in final}) > 1
    for panel in panels(in_table_order(final)):
        arms = {row: matrix.arm(row, panel) for row in order}
        numbers = {row: footnote_number(footnotes, _what_is_missing(matrix, row, panel, arms[row])) for row in order}
        for column, panel_cells in _panel_columns(
            _prefix(panel, final), _group(panel, several, final), _measure(final, panel), arms, starts, numbers
        ):
            columns.append(column)
            for row in order:
                cells[row].append(panel_cells[row])
    for column in [*(COST_COLUMNS if with_costs else ()), *_FOUND]:
        columns.append(column)
        for row in order:
            cells[row].append(_fact(matrix, row, column, footnotes))
    rows = tuple(TableRow(tuple(cells[row]), matrix.block(row)) for row in order)
    title = f"Methods on {', '.join(sorted({result.suite for result in final}))}"
    return Table(title, tuple(columns), rows, _method_notes(matrix, final, plan), tuple(footnotes))


def _in_blocks(matrix: _Matrix) -> list[str]:
    """The rows in the order given, controls last."""
    return sorted(matrix.rows, key=lambda row: ("", "controls", CONTROLS).index(matrix.block(row)))


_ROW_LABEL = Column("label", "method", role="label")
_LC_NOTE = (
    "LC win rate: mean over seeds; its interval joins the seeds' own intervals over questions with the variance "
    "between seeds; its ties are by the joint width, not paired."
)
_DIFFERENCE_NOTE = "Δ to start: difference to the start's row, paired by question and seed."
_FOUND = (
    Column("coverage", "lowest coverage", unit="%", kind="number", role="label", decimals=1),
    Column("seeds", "seeds", kind="number", role="label"),
)


def _matrix(final: Sequence[Result], plan: Plan | None) -> _Matrix:
    if all(is_control(result) for result in final):
        raise InputError(
            "no result comes from a matrix's final checkpoint, so there are no methods to compare. Run `seft-bench "
            "bench MATRIX` first."
        )
    rows: dict[str, list[Result]] = {row: [] for row in (plan.rows if plan else ())}
    for result in final:
        run = run_of(result)
        rows.setdefault(f"{run.group}: {run.row}" if run.group else run.row, []).append(result)
    rows = {row: own for row, own in rows.items() if own}
    seeds = {run_of(result).seed for result in final if not is_control(result)} | set(plan.seeds if plan else ())
    return _Matrix(rows, tuple(sorted(seeds)))


def _measure(final: Sequence[Result], panel: Panel) -> Measure:
    return measure_of(
        next(result for result in final if (result.suite, result.decoding) == (panel.suite, panel.decoding))
    )


def _group(panel: Panel, several_suites: bool, final: Sequence[Result]) -> str:
    """Return what stands over the columns of a panel: no more than is needed to tell it from the others."""
    name = panel.title if several_suites else panel.decoding
    return f"{name}, judge {panel.judge_id}" if _several_judges(panel, final) else name


def _prefix(panel: Panel, final: Sequence[Result]) -> str:
    """Return what the keys of a panel's columns begin with; a suite's other panels have another."""
    return "_".join([panel.suite, panel.decoding, *([panel.judge_id] if _several_judges(panel, final) else [])])


def _several_judges(panel: Panel, final: Sequence[Result]) -> bool:
    return len({result.judge_id for result in final if result.suite == panel.suite and not result.withheld}) > 1


PanelColumn = tuple[Column, dict[str, Cell]]


def _panel_columns(
    prefix: str,
    group: str,
    measure: Measure,
    arms: Mapping[str, Arm],
    starts: Mapping[str, str | None],
    footnotes: Mapping[str, int],
) -> list[PanelColumn]:
    """Main metric, LC, content and difference to the start, each with row -> cell."""

    def column(
        measure: Measure,
        kind: Kind,
        role: Role = "detail",
        title: str = "",
        unit: str = "",
        key: str = "",
        note: str = "",
    ) -> Column:
        return Column(
            f"{prefix}_{key or measure.key}",
            title or measure.title,
            group,
            unit or measure.unit,
            kind,
            role,
            measure.decimals,
            note,
        )

    main = {row: mean_interval(arms[row], measure) or bare_mean(arms[row], measure) for row in arms}
    built = [(column(measure, "interval", "main"), _marked(main, _ties(main, arms, measure), arms, footnotes))]
    lc = {row: length_controlled(arms[row]) for row in arms}
    if any(lc.values()):
        built.append((column(LC, "interval", note=_LC_NOTE), _marked(lc, _unpaired_ties(lc, arms), arms, footnotes)))
    content = {row: mean_interval(arms[row], CONTENT) for row in arms}
    if any(content.values()):
        built.append((column(CONTENT, "number"), _marked(content, _ties(content, arms, CONTENT), arms, footnotes)))
    if any(starts.values()):
        paired = {row: start for row, start in starts.items() if start is not None and row != start}
        gains = {row: difference(arms[row], arms[paired[row]], measure) if row in paired else None for row in arms}
        numbers = {row: footnotes[row] or footnotes[paired[row]] if row in paired else 0 for row in arms}
        cells = {row: interval_cell(gain, numbers[row]) for row, gain in gains.items()}
        built.append(
            (
                column(
                    measure,
                    "difference",
                    title="Δ to start",
                    unit="points",
                    key=f"{measure.key}_difference",
                    note=_DIFFERENCE_NOTE,
                ),
                cells,
            )
        )
    return built


Estimates = Mapping[str, Interval | None]


def _contest(estimates: Estimates, arms: Mapping[str, Arm]) -> dict[str, Interval]:
    """The rows that may be best: those with an estimate and a model."""
    return {
        row: estimate
        for row, estimate in estimates.items()
        if estimate is not None and not any(map(is_control, arms[row].values()))
    }


def _best(estimates: Mapping[str, Interval]) -> str | None:
    means = {row: estimate.mean for row, estimate in estimates.items()}
    return max(means, key=lambda row: means[row]) if len(means) > 1 else None


def _ties(estimates: Estimates, arms: Mapping[str, Arm], measure: Measure) -> set[str]:
    """Rows that the paired interval does not tell apart from the best."""
    contest = _contest(estimates, arms)
    best = _best(contest)
    if best is None:
        return set()
    gaps = {row: difference(arms[best], arms[row], measure) for row in contest if row != best}
    return {row for row, gap in gaps.items() if gap is not None and not excludes_zero(gap)}


def _unpaired_ties(estimates: Estimates, arms: Mapping[str, Arm]) -> set[str]:
    """For LC: rows whose gap to the best is within both intervals' joint width (wider than a paired one would be)."""
    contest = _contest(estimates, arms)
    best = _best(contest)
    return (
        set()
        if best is None
        else {row for row, estimate in contest.items() if row != best and overlap(contest[best], estimate)}
    )


def _marked(
    estimates: Estimates, tied: set[str], arms: Mapping[str, Arm], footnotes: Mapping[str, int]
) -> dict[str, Cell]:
    best = _best(_contest(estimates, arms))
    cells = {row: interval_cell(estimate, footnotes[row]) for row, estimate in estimates.items()}
    return {
        row: replace(cell, mark="best" if row == best else "tied" if row in tied else "") for row, cell in cells.items()
    }


def _what_is_missing(matrix: _Matrix, row: str, panel: Panel, found: Arm) -> str:
    """Say why seeds of a row are not in a panel's figures; "" where all are."""
    absent = [seed for seed in matrix.seeds if seed not in found]
    if not absent:
        return ""
    if matrix.is_modelless(row):
        here = [
            result for result in matrix.rows[row] if (result.suite, result.decoding) == (panel.suite, panel.decoding)
        ]
        return f"{matrix.label(row)}, {panel.title}: {_reason(here[0] if here else None)}."
    if all(seed not in {run_of(result).seed for result in matrix.rows[row]} for seed in absent):
        return _missing_seeds(matrix, row)  # said once for the row, not again for every panel
    by_seed = {
        run_of(result).seed: result
        for result in matrix.rows[row]
        if (result.suite, result.decoding) == (panel.suite, panel.decoding)
    }
    by_reason: dict[str, list[str]] = {}
    for seed in absent:
        by_reason.setdefault(_reason(by_seed.get(seed)), []).append(str(seed))
    reasons = [f"{reason} (seed {', '.join(seeds)})" for reason, seeds in by_reason.items()]
    return f"{matrix.label(row)}, {panel.title}: {'; '.join(reasons)}."


def _reason(result: Result | None) -> str:
    if result is None:
        return "no result"
    if result.withheld:
        return f"withheld, coverage {100.0 * result.coverage:.1f} %"
    return f"judged by {result.judge_id}"


def _fact(matrix: _Matrix, row: str, column: Column, footnotes: list[str]) -> Cell:
    """What a row cost, the lowest coverage of its results, or the number of its seeds."""
    if column.key == "coverage":
        return Cell(100.0 * min(result.coverage for result in matrix.rows[row]))
    if column in COST_COLUMNS:
        return cost_cell(map(run_of, matrix.rows[row]), column)
    if matrix.is_modelless(row):
        return Cell()
    runs = {run_of(result).seed: run_of(result) for result in matrix.rows[row]}
    if column.key == "seeds":
        return Cell(len(runs), footnote=footnote_number(footnotes, _missing_seeds(matrix, row)))
    raise ValueError(f"no fact of a row is called {column.key!r}")


def _missing_seeds(matrix: _Matrix, row: str) -> str:
    there = {run_of(result).seed for result in matrix.rows[row]}
    absent = [str(seed) for seed in matrix.seeds if seed not in there]
    return (
        f"{matrix.label(row)}: {len(matrix.seeds) - len(absent)} of {len(matrix.seeds)} seeds; no result of seed "
        f"{', '.join(absent)}."
        if absent
        else ""
    )


def _method_notes(matrix: _Matrix, final: Sequence[Result], plan: Plan | None) -> tuple[str, ...]:
    seeds = (
        f"{len(matrix.seeds)} training seeds"
        if len(matrix.seeds) > 1
        else "one training seed, so training noise is not in the intervals"
    )
    judges = ", ".join(sorted({result.judge_id for result in final if result.judge_id}))
    notes = [
        f"In brackets: 95 % bootstrap intervals over questions and seeds; {seeds}; only each run's final checkpoint.",
        _EACH_ALONE,
    ]
    notes += [f"Judge: {judges}."] if judges else []
    notes += plan.notes if plan else ()
    if any(not result.per_question and not result.withheld for result in final):
        notes.append(
            "A figure without brackets: its figures of every question (questions.json beside result.json) are not at "
            "hand, so neither is an interval."
        )
    notes += [CONTROLS_NOTE] if any(map(is_control, final)) else []
    groups, planned = by_group(result for result in final if not is_control(result)), plan.rows if plan else {}
    absent = [
        (label, group)
        for group in groups
        for row, label in planned.items()
        if (f"{group}: {row}" if group else row) not in matrix.rows and not (plan and (group, row) in plan.idle)
    ]
    without = [f"{label} ({group})" if group else label for label, group in absent]
    return (*notes, *([f"No final result yet, so no row: {', '.join(without)}."] if without else []))
