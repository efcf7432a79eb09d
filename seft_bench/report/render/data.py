"""CSV and JSON: unrounded figures for programs."""

from __future__ import annotations

import csv
import io
import json

from seft_bench.report.render.text import given, plain_text
from seft_bench.report.tables import Cell, Column, Table, TableRow


def to_csv(table: Table) -> str:
    """One line a row; an interval's ends in columns of their own; missing values empty. Notes are left out."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["block", *[_csv_text(key) for column in table.columns for key in _keys(column)]])
    for row in table.rows:
        cells = [row.block, *_row_values(row, table).values()]
        writer.writerow([_csv_text(value) if isinstance(value, str) else value for value in cells])
    return buffer.getvalue()


def to_json(table: Table) -> str:
    """Title, columns, rows (column key -> figure; ends and mark beside it), notes."""
    columns = [
        {"key": column.key, "title": column.title, "group": column.group, "unit": column.unit}
        for column in table.columns
    ]
    rows = [_json_row(row, table) for row in table.rows]
    content = {
        "title": plain_text(table.title),
        "columns": columns,
        "rows": rows,
        "notes": [plain_text(note) for note in table.all_notes],
    }
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _json_row(row: TableRow, table: Table) -> dict[str, object]:
    content: dict[str, object] = {"block": plain_text(row.block), **_row_values(row, table)}
    for cell, column in zip(row.cells, table.columns, strict=True):
        content |= {f"{column.key}_mark": cell.mark} if cell.mark else {}
        content |= {f"{column.key}_note": plain_text(table.footnotes[cell.footnote - 1])} if cell.footnote else {}
    return content


def _row_values(row: TableRow, table: Table) -> dict[str, str | float | int | None]:
    """Key -> value of all columns."""
    values: dict[str, str | float | int | None] = {}
    for cell, column in zip(row.cells, table.columns, strict=True):
        values |= zip(_keys(column), _values(cell, column), strict=True)
    return values


def _keys(column: Column) -> list[str]:
    ends = ("_low", "_high") if column.kind in ("interval", "difference") else ()
    return [column.key, *[column.key + end for end in ends]]


def _values(cell: Cell, column: Column) -> list[str | float | int | None]:
    values = (cell.value, cell.low, cell.high) if column.kind in ("interval", "difference") else (cell.value,)
    return [_value(value) for value in values]


def _value(value: str | float | int | None) -> str | float | int | None:
    """Ten significant digits: more than a figure has, fewer than where machines differ."""
    if isinstance(value, str):
        return plain_text(value)
    if not given(value):
        return None
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _csv_text(text: str) -> str:
    """Spreadsheets run a cell that starts like a formula; an apostrophe makes it text."""
    clean = plain_text(text)
    return f"'{clean}" if clean.lstrip().startswith(("=", "+", "-", "@")) else clean
