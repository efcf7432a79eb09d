"""Markdown, aligned so that it reads well on a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from seft_bench.report.render.text import figure_text, mark_text, notes, plain_text, title
from seft_bench.report.tables import Cell, Column, Table, TableRow, blocks


def to_markdown(table: Table) -> str:
    """A heading, the table with aligned columns, and the notes as a list."""
    header = [
        _markdown_text(f"{column.group}: {title(column)}" if column.group else title(column))
        for column in table.columns
    ]
    named = next((index for index, column in enumerate(table.columns) if column.kind == "text"), 0)
    lines: list[list[str]] = []
    for block, rows in blocks(table.rows):
        if block:
            lines.append([f"*{_markdown_text(block)}*" if index == named else "" for index in range(len(header))])
        lines += [_markdown_cells(row, table.columns) for row in rows]
    widths = [max(3, *(_width(line[index]) for line in [header, *lines])) for index in range(len(header))]
    rule = [
        ("-" * width if column.kind == "text" else "-" * (width - 1) + ":")
        for width, column in zip(widths, table.columns, strict=True)
    ]
    body = "\n".join(_markdown_line(line, widths, table.columns) for line in [header, rule, *lines])
    remarks = "".join(f"- {_markdown_text(note)}\n" for note in notes(table))
    return f"### {_markdown_text(table.title)}\n\n{body}\n" + (f"\n{remarks}" if remarks else "")


def _markdown_cells(row: TableRow, columns: Sequence[Column]) -> list[str]:
    return [_markdown_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True)]


def _markdown_cell(cell: Cell, column: Column) -> str:
    text = figure_text(cell, column)
    if isinstance(cell.value, str):
        text = _markdown_text(text)
    if cell.mark == "best":
        figure, separator, interval = text.partition(" [")
        text = f"**{figure}**{separator}{interval}"
    return text + mark_text(cell)


def _markdown_text(text: str) -> str:
    """Markup escaped; an underscore within a word is left, since it marks nothing there."""
    escaped = re.sub(r"([\\`*\[\]<>|~&])", r"\\\1", plain_text(text))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)


def _markdown_line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    padded = []
    for text, width, column in zip(cells, widths, columns, strict=True):
        space = " " * (width - _width(text))
        padded.append(text + space if column.kind == "text" else space + text)
    return f"| {' | '.join(padded)} |"


def _width(text: str) -> int:
    """Columns of a terminal: East Asian wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
