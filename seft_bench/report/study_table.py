"""The tables of a study: one row a comparison for programs, and for readers what holds at a glance. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seft_bench.report.arms import CONTENT, STYLE, Measure, Panel
from seft_bench.report.pools import counted
from seft_bench.report.study import ALL, PARTS_OF_ALL, Compared, Verdict
from seft_bench.report.tables import Cell, Column, Table, TableRow, interval_cell
from seft_bench.stats.intervals import Interval

SIGNS: Mapping[Verdict, str] = {"ahead": "▲", "ahead alone": "△", "tie": "·", "behind alone": "▽", "behind": "▼"}
PARTS_SAID = {
    ALL: "all questions",
    "annotated": "annotated task types",
    "never annotated": "never annotated task types",
}

Labels = Mapping[str, str]
"""Method -> its name in tables."""


def wide_table(found: Sequence[Compared], labels: Labels) -> Table:
    """Make a row of each pool, suite, decoding, part of the questions and pair of rows: all measures side by side."""
    grouped: dict[tuple[str, Panel, str, str, str], list[Compared]] = {}
    for item in found:
        grouped.setdefault((item.pool.label, item.panel, item.part, item.row, item.other), []).append(item)
    rows = [_wide_row(items, labels) for items in grouped.values()]
    return Table("Rows compared over data sets", WIDE_COLUMNS, tuple(rows))


def _wide_row(items: Sequence[Compared], labels: Labels) -> TableRow:
    first = items[0]
    main = next((item for item in items if item.measure not in (CONTENT, STYLE)), None)
    shown = [main, *(next((item for item in items if item.measure == measure), None) for measure in (CONTENT, STYLE))]
    texts = (first.panel.suite, first.panel.decoding, first.pool.label, labels[first.row], labels[first.other])
    counts = (first.questions, first.data_sets, first.seeds, first.runs, first.rows)
    cells = [
        *(Cell(text) for text in (*texts, PARTS_SAID[first.part])),
        *(Cell(count) for count in (first.pool.types, *counts)),
        Cell(main.measure.title if main else None),
    ]
    return TableRow((*cells, *(cell for item in shown for cell in _wide_cells(item))))


def _wide_cells(item: Compared | None) -> list[Cell]:
    if item is None:
        return [Cell()] * 4
    return [interval_cell(item.found.alone), interval_cell(item.found.corrected), Cell(item.verdict), Cell(item.ahead)]


def _wide_columns(key: str, title: str, decimals: int) -> tuple[Column, ...]:
    return (
        Column(key, title, kind="difference", role="main", decimals=decimals),
        Column(f"{key}_corrected", f"{title}, corrected", kind="difference", decimals=decimals),
        Column(f"{key}_verdict", f"{title}: what holds"),
        Column(f"{key}_ahead", f"{title}: data sets ahead", kind="number"),
    )


WIDE_COLUMNS = (
    Column("suite", "suite", role="label"),
    Column("decoding", "decoding", role="label"),
    Column("pool", "data", role="label"),
    Column("method", "method", role="label"),
    Column("against", "against", role="label"),
    Column("part", "questions of", role="label"),
    Column("types", "annotated types", kind="number"),
    Column("questions", "questions", kind="number"),
    Column("data_sets", "data sets", kind="number"),
    Column("seeds", "seeds", kind="number"),
    Column("runs", "runs", kind="number"),
    Column("compared", "rows compared", kind="number"),
    Column("measure", "figure", role="label"),
    *_wide_columns("main", "difference", 2),
    *_wide_columns("content", "content", 3),
    *_wide_columns("style", "style", 3),
)


def reader_tables(found: Sequence[Compared], labels: Labels) -> list[Table]:
    """Two tables a pool and compared row, a column a suite and decoding: the figure itself, then content and style."""
    pairs = dict.fromkeys((item.pool, item.row) for item in found)
    tables = []
    for pool, row in pairs:
        own = [item for item in found if (item.pool, item.row) == (pool, row)]
        title = f"{labels[row]} minus others: {pool.label}"
        mains = [item for item in own if item.measure not in (CONTENT, STYLE)]
        others = [item for item in own if item.measure in (CONTENT, STYLE)]
        tables += [_reader_table(title, mains, labels)] if mains else []
        tables += [_reader_table(f"{title}, content and style", others, labels)] if others else []
    return tables


def _block(item: Compared) -> str:
    measure = f"{item.measure.title}, " if item.measure in (CONTENT, STYLE) else ""
    return measure + PARTS_SAID[item.part]


def _reader_table(title: str, items: Sequence[Compared], labels: Labels) -> Table:
    panels = list(dict.fromkeys(item.panel for item in items))
    measures = {item.panel: item.measure for item in items}
    rows: dict[tuple[str, str], dict[Panel, Compared]] = {}
    for item in sorted(items, key=lambda item: (item.measure == STYLE, PARTS_OF_ALL.index(item.part))):
        rows.setdefault((_block(item), item.other), {})[item.panel] = item
    lines = [
        TableRow((Cell(labels[other]), *(cell for panel in panels for cell in _reader_cells(own.get(panel)))), block)
        for (block, other), own in rows.items()
    ]
    columns = [Column("against", "minus", role="label")]
    columns += [column for panel in panels for column in _reader_columns(panel, measures[panel])]
    return Table(title, tuple(columns), tuple(lines), notes_of(items))


def _reader_columns(panel: Panel, measure: Measure) -> tuple[Column, Column]:
    key, group = f"{panel.suite}_{panel.decoding}", panel.title
    title = "difference" if measure in (CONTENT, STYLE) else measure.title
    return (
        Column(key, title, group, measure.unit, "difference", "main", measure.decimals),
        Column(f"{key}_corrected", "corrected", group),
    )


def _reader_cells(item: Compared | None) -> tuple[Cell, Cell]:
    if item is None:
        return Cell(), Cell()
    ends = signed(item.found.corrected, item.measure.decimals).partition(" ")[2]
    return interval_cell(item.found.alone), Cell(f"{SIGNS[item.verdict]} {ends}".strip())


def signed(interval: Interval, decimals: int) -> str:
    """
    >>> signed(Interval(1.25, -0.04, 2.5, ""), 1), signed(Interval(1.25, None, None, ""), 2)
    ('+1.2 [+0.0, +2.5]', '+1.25')
    """
    mean, low, high = (
        None if value is None else f"{round(value, decimals) + 0.0:+.{decimals}f}"
        for value in (interval.mean, interval.low, interval.high)
    )
    return f"{mean}" if low is None else f"{mean} [{low}, {high}]"


KEY = (
    "▲ ahead and ▼ behind with the correction for all rows that are compared; △ and ▽ by the row's own interval only; "
    "· not told apart."
)


def notes_of(items: Sequence[Compared]) -> tuple[str, ...]:
    """Say how to read the signs, and what the intervals hold."""
    return (
        KEY,
        f"Differences are paired by question, seed and data set. In brackets: 95 % intervals, bootstrap over questions "
        f"and {design(items)}. The first stands alone; the second is corrected: all rows of one suite, decoding, part "
        "and figure at once, by the largest |t| of the same bootstrap.",
    )


def design(items: Sequence[Compared]) -> str:
    """Say how many seeds, data sets and comparisons there are, and that each seed stands on each data set."""
    seeds, data_sets, runs, rows = (
        max(values, default=0)
        for values in zip(*((item.seeds, item.data_sets, item.runs, item.rows) for item in items), strict=True)
    )
    crossed = f" crossed with {counted(data_sets, 'data set')}" if data_sets > 1 else " on one data set"
    return f"the {counted(runs, 'run')} of {counted(seeds, 'seed')}{crossed}, {counted(rows, 'row')} compared"
