"""Text that every format shares: figures as text, notes, and control characters made visible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from seft_bench.report.tables import Cell, Column, Table

MISSING = "–"  # noqa: RUF001 - an en dash, as tables have it
MARKS = {
    "best": "Bold: best of its column.",
    "tied": "≈: not told apart from the best by the 95 % interval of the difference.",
}


def plain_text(text: str) -> str:
    r"""The text with every character that is not printable written out.

    >>> plain_text("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def figure_text(cell: Cell, column: Column) -> str:
    """A cell without markup: `7.12 [7.01, 7.22]`, a dash where the value is missing."""
    if isinstance(cell.value, str):
        return plain_text(cell.value)
    if not given(cell.value):
        return MISSING
    text = _number(cell.value, column)
    if column.kind in ("interval", "difference") and given(cell.low) and given(cell.high):
        text += f" [{_number(cell.low, column)}, {_number(cell.high, column)}]"
    return text


def mark_text(cell: Cell) -> str:
    """Return what follows a figure: the sign of a tie, the number of its footnote."""
    return (" ≈" if cell.mark == "tied" else "") + (f" ({cell.footnote})" if cell.footnote else "")


def given(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _number(value: float, column: Column) -> str:
    if column.decimals is None:
        return f"{value:,.0f}"
    rounded = round(value, column.decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:{'+' if column.kind == 'difference' else ''}.{column.decimals}f}"


def title(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def notes(table: Table) -> list[str]:
    """Footnotes with their numbers, the key to the marks where there are any, and the notes."""
    marks = {cell.mark for row in table.rows for cell in row.cells}
    key = [text for mark, text in MARKS.items() if mark in marks]
    used = {cell.footnote for row in table.rows for cell in row.cells}
    footnotes = [f"({number}) {text}" for number, text in enumerate(table.footnotes, start=1) if number in used]
    return [plain_text(note) for note in (*footnotes, *key, *table.all_notes)]


def column_groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Neighbouring columns of one group: name and how many."""
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return groups
