"""HTML: one page without scripts and without anything to load."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from seft_bench.report.render.text import column_groups, figure_text, notes, plain_text, title
from seft_bench.report.tables import Cell, Column, Table, TableRow, blocks

_STYLE = """\
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .5em 0; }
th, td { padding: .25em .7em; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; }
th[scope=colgroup] { text-align: center; }
thead tr:last-child th { border-bottom: 1px solid; }
tbody + tbody { border-top: 1px solid; }
thead { border-top: 2px solid; }
tbody:last-child { border-bottom: 2px solid; }
small { opacity: .75; }
"""


def to_html(table: Table) -> str:
    """The table as a whole page that needs nothing else."""
    return html_page(table.title, [table])


def html_page(heading: str, tables: Sequence[Table]) -> str:
    """Several tables on one page, without scripts and without anything to load."""
    body = "\n".join(_html_table(table) for table in tables)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta '
        f'http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{_html_text(heading)}</title>\n'
        f"<style>\n{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html_table(table: Table) -> str:
    groups = "".join(
        f'<th colspan="{span}" scope="colgroup">{_html_text(name)}</th>' for name, span in column_groups(table.columns)
    )
    titles = "".join(
        f'<th scope="col"{_html_class(column)}>{_html_text(title(column))}</th>' for column in table.columns
    )
    head = (f"<tr>{groups}</tr>\n" if any(column.group for column in table.columns) else "") + f"<tr>{titles}</tr>"
    bodies = "\n".join(_html_block(name, rows, table.columns) for name, rows in blocks(table.rows))
    remarks = "".join(f"<li><small>{_html_text(note)}</small></li>\n" for note in notes(table))
    return (
        f"<table>\n<caption>{_html_text(table.title)}</caption>\n<thead>\n{head}\n</thead>\n{bodies}\n</table>\n"
        + (f"<ul>\n{remarks}</ul>" if remarks else "")
    ).rstrip()


def _html_block(name: str, rows: Sequence[TableRow], columns: Sequence[Column]) -> str:
    lines = (
        [f'<tr><th class="text" colspan="{len(columns)}" scope="rowgroup"><em>{_html_text(name)}</em></th></tr>']
        if name
        else []
    )
    for row in rows:
        lines.append(
            "<tr>"
            + "".join(_html_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True))
            + "</tr>"
        )
    return "<tbody>\n" + "\n".join(lines) + "\n</tbody>"


def _html_cell(cell: Cell, column: Column) -> str:
    figure, separator, interval = figure_text(cell, column), "", ""
    if not isinstance(cell.value, str):
        figure, separator, interval = figure.partition(" [")
    text = _html_text(figure)
    text = f"<strong>{text}</strong>" if cell.mark == "best" else text
    text += f" <small>[{_html_text(interval)}</small>" if separator else ""
    text += " ≈" if cell.mark == "tied" else ""
    return f"<td{_html_class(column)}>{text}{f'<sup>({cell.footnote})</sup>' if cell.footnote else ''}</td>"


def _html_class(column: Column) -> str:
    return ' class="text"' if column.kind == "text" else ""


def _html_text(text: str) -> str:
    return escape(plain_text(text), quote=True)
