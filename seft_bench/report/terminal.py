"""A table on a terminal, as wide as there is room for; plain aligned text anywhere else."""

from __future__ import annotations

from typing import Any, TextIO

from seft_bench.report.render import plain_text, to_markdown
from seft_bench.report.render.text import figure_text, mark_text, notes, title
from seft_bench.report.tables import Column, Table, TableRow, blocks

NARROWED = (
    "This terminal has room for the ranking columns only; the files of the leaderboard, and a pipe, get all of them."
)


def print_table(table: Table, file: TextIO) -> None:
    """Write the table: with rich into a terminal, as Markdown with all columns into a pipe or a file."""
    if not file.isatty():
        file.write(to_markdown(table) + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False)
    fits = console.measure(_rich_table(table), options=console.options.update(width=10_000)).maximum <= console.width
    shown = table if fits else table.only("label", "main")
    console.print(_rich_table(shown))
    for note in [*notes(shown), *([] if fits else [NARROWED])]:
        console.print(Text(note, style="dim"))


def _rich_table(table: Table) -> Any:
    """Built of Text objects, so that a model's name is never taken for rich's own markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=Text(plain_text(table.title)), title_justify="left")
    for column in table.columns:
        shown.add_column(Text(_heading(column)), justify="left" if column.kind == "text" else "right")
    for block, rows in blocks(table.rows):
        if block:
            shown.add_row(*_block_line(block, table.columns))
        for row in rows:
            shown.add_row(*_line(row, table.columns))
        shown.add_section()
    return shown


def _heading(column: Column) -> str:
    return "\n".join(plain_text(line) for line in (column.group, title(column)) if line)


def _block_line(block: str, columns: tuple[Column, ...]) -> list[Any]:
    """The block's name in the first column of text."""
    from rich.text import Text

    first = next((index for index, column in enumerate(columns) if column.kind == "text"), 0)
    return [Text(plain_text(block) if index == first else "", style="italic") for index in range(len(columns))]


def _line(row: TableRow, columns: tuple[Column, ...]) -> list[Any]:
    from rich.text import Text

    cells = zip(row.cells, columns, strict=True)
    return [
        Text(figure_text(cell, column) + mark_text(cell), style="bold" if cell.mark == "best" else "")
        for cell, column in cells
    ]
