"""What the rows of a matrix cost to train: columns, and a table of their own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from seft_bench.records import COSTS, RunFacts
from seft_bench.report.tables import Cell, Column, Table, TableRow

COST_NOTE = (
    "Costs: all that training took, mean over seeds; a stage that several methods share (the start) counts in each."
)
_TITLES = {
    "unannotated_prompts": "unannotated prompts",
    "annotated_pairs": "annotated pairs",
    "annotated_labels": "annotated labels",
    "annotated_conversations": "SFT conversations",
    "steps": "steps",
    "tokens_trained": "tokens trained",
    "tokens_generated": "tokens sampled",
    "judge_calls": "judge calls",
    "judge_usd": "judge",
    "cpu_seconds": "CPU",
    "gpu_seconds": "GPU",
}
_UNITS = {"judge_usd": "USD", "cpu_seconds": "s", "gpu_seconds": "s"}
_NARROW = ("steps", "tokens_trained", "tokens_generated", "cpu_seconds")
"""Costs that a terminal of 80 columns has room for."""
_ONLY_WHERE_SPENT = ("annotated_labels", "annotated_conversations", "judge_usd", "gpu_seconds")
"""Columns that the table for readers lacks where every row's figure is 0 or unknown."""

COST_COLUMNS = tuple(
    Column(
        key,
        _TITLES[key],
        unit=_UNITS.get(key, ""),
        kind="number",
        decimals=4 if key == "judge_usd" else None,
        note=COST_NOTE,
    )
    for key in COSTS
)


def cost_cell(runs: Iterable[RunFacts], column: Column) -> Cell:
    """Mean over a row's runs; a dash where one of them does not know it, and for what took no training."""
    found = [getattr(run, column.key) for run in {run.seed: run for run in runs}.values()]
    return Cell(fmean(found)) if found and None not in found else Cell()


def cost_table(rows: Sequence[tuple[str, str, Sequence[RunFacts]]], notes: Sequence[str] = ()) -> Table:
    """Build the table of what rows cost.

    Args:
        rows: one a row of the matrix: its label, its block, and the facts of its runs.
        notes: sentences of the matrix, put before the table's own.
    """
    cells = {column: [cost_cell(runs, column) for _, _, runs in rows] for column in COST_COLUMNS}
    shown = [
        column
        for column, own in cells.items()
        if column.key not in _ONLY_WHERE_SPENT or any(cell.value for cell in own)
    ]
    columns = [Column("label", "method", role="label"), *map(_in_table, shown)]
    built = [
        TableRow((Cell(label), *(cells[column][index] for column in shown)), block)
        for index, (label, block, _) in enumerate(rows)
    ]
    return Table("What the methods cost", tuple(columns), tuple(built), (*notes, *_notes(cells, shown)))


def _in_table(column: Column) -> Column:
    if column.key not in _NARROW:
        return column
    return Column(column.key, column.title, unit=column.unit, kind="number", role="main", note=column.note)


_WHAT_COUNTS = (
    "Annotated: distinct rows of the data sets that the method's stages read. Tokens trained: both sides of pairs. "
    "Tokens sampled: drafts, samples and revisions, for calibration too. Judge calls: for the training, not the "
    "evaluation."
)


def _notes(cells: dict[Column, list[Cell]], shown: Sequence[Column]) -> tuple[str, ...]:
    unknown = [column.title for column in shown if any(cell.value is None for cell in cells[column])]
    dash = f"A dash: the run was recorded before this was counted: {', '.join(unknown)}." if unknown else ""
    return (_WHAT_COUNTS, *([dash] if dash else []))
