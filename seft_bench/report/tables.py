"""A table as data: columns, rows of cells, notes. How it is written down is in `render`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seft_bench.stats.intervals import Interval

Mark = Literal["", "best", "tied"]
Kind = Literal["text", "number", "interval", "difference"]
Role = Literal["label", "main", "detail"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: name in CSV and JSON; an interval's ends are `KEY_low` and `KEY_high`.
        title: name for readers.
        group: what several neighbours share ("tiny-mtbench, sampled"), shown above them.
        unit: "" where the title says it.
        kind: "text" is aligned left, "number" right; "interval" is a number with its two ends, "difference" one with
            its sign.
        role: "label" says which row it is, "main" is the figure that ranks, "detail" all others.
        decimals: digits after the point; None for whole numbers.
        note: a sentence for the notes of every table that has the column.
    """

    key: str
    title: str
    group: str = ""
    unit: str = ""
    kind: Kind = "text"
    role: Role = "detail"
    decimals: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value; None is a missing one, shown as a dash and never as 0.

    Attributes:
        mark: "best" of its column, or "tied" with the best within the paired interval.
        footnote: number of the table's footnote, from 1; 0 for none.
    """

    value: str | float | int | None = None
    low: float | None = None
    high: float | None = None
    mark: Mark = ""
    footnote: int = 0


@dataclass(frozen=True, slots=True)
class TableRow:
    """Cells, one a column. Neighbouring rows of one `block` stand together, apart from the next block."""

    cells: tuple[Cell, ...]
    block: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that every format is written from; the same table gives the same bytes.

    Attributes:
        notes: how figures were made, one sentence each.
        footnotes: the texts that `Cell.footnote` counts from 1.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The columns' notes, then the table's, each once."""
        return tuple(dict.fromkeys([*(column.note for column in self.columns if column.note), *self.notes]))

    def only(self, *roles: str) -> Table:
        """The table with the columns of these roles: `table.only("label", "main")` fits a terminal."""
        kept = [index for index, column in enumerate(self.columns) if column.role in roles]
        rows = [TableRow(tuple(row.cells[index] for index in kept), row.block) for row in self.rows]
        return dataclasses.replace(self, columns=tuple(self.columns[index] for index in kept), rows=tuple(rows))


def stacked(tables: Sequence[Table]) -> Table:
    """Tables one below the other as one, with every column that any of them has: for programs that read one file."""
    columns = list({column.key: column for table in reversed(tables) for column in table.columns}.values())
    order = {
        key: place
        for place, key in enumerate(dict.fromkeys(column.key for table in tables for column in table.columns))
    }
    columns.sort(key=lambda column: order[column.key])
    footnotes = list(dict.fromkeys(text for table in tables for text in table.footnotes))
    rows = []
    for table in tables:
        numbers = [0, *(footnotes.index(text) + 1 for text in table.footnotes)]
        for row in table.rows:
            cells = {
                column.key: dataclasses.replace(cell, footnote=numbers[cell.footnote])
                for cell, column in zip(row.cells, table.columns, strict=True)
            }
            rows.append(TableRow(tuple(cells.get(column.key, Cell()) for column in columns), row.block))
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    return Table(tables[0].title, tuple(columns), tuple(rows), notes, tuple(footnotes))


def interval_cell(interval: Interval | None, footnote: int = 0) -> Cell:
    """The cell of an estimate; a missing one is None."""
    return (
        Cell(footnote=footnote)
        if interval is None
        else Cell(interval.mean, interval.low, interval.high, footnote=footnote)
    )


def footnote_number(footnotes: list[str], text: str) -> int:
    """The number of a footnote, added when new; 0 for no text."""
    if not text:
        return 0
    if text not in footnotes:
        footnotes.append(text)
    return footnotes.index(text) + 1


def blocks(rows: Sequence[TableRow]) -> list[tuple[str, list[TableRow]]]:
    """Neighbouring rows of one block together, in order."""
    grouped: list[tuple[str, list[TableRow]]] = []
    for row in rows:
        if not grouped or grouped[-1][0] != row.block:
            grouped.append((row.block, []))
        grouped[-1][1].append(row)
    return grouped
