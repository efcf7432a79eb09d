r"""LaTeX, with booktabs. The preamble needs `\usepackage[T1]{fontenc}` and `\usepackage{booktabs,graphicx}`.

Figures are right-aligned with their intervals in a column of their own, so that decimal points stand below each other
whatever follows. A table with several groups of columns becomes one tabular a group, below each other; one that is
still too wide is scaled down, and one with too many rows for a page goes on in the next float.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from seft_bench.report.render.text import column_groups, figure_text, notes, plain_text, title
from seft_bench.report.tables import Cell, Column, Table, TableRow, blocks

LINES_A_PAGE = 48
"""Lines that a float may hold: rows, headings and notes of an article at 10 points."""
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",  # after a row's end, a bracket would be taken for its optional argument
    "]": "{]}",
    "*": "{*}",
    "Δ": r"$\Delta$",
    "≈": r"$\approx$",
    "×": r"$\times$",  # noqa: RUF001
    "–": r"\textendash{}",  # noqa: RUF001
    "\xa0": "U+00A0",
    "\xad": "U+00AD",
} | {char: f"\\{char}" for char in "&%$#_{}"}
_LIGATURES = "-,"
"""T1 fonts draw two of these as one other character; a name must stay what it is."""
_LACKING = set("ĦħĸĿŀŉŦŧſ")
"""Characters below U+0180 that T1 fonts lack: LaTeX stops at them."""


Piece = tuple[list[int], Sequence[TableRow]]
"""The columns (by number) and the rows of one tabular."""


def to_latex(table: Table) -> str:
    """One float, or several where the table does not fit a page."""
    narrow, same = _without_constants(table)
    remarks = [*notes(table), *([same] if same else [])]
    pages = _pages(_pieces(narrow), sum(1 + len(note) // 85 for note in remarks))
    return "\n".join(
        _float(narrow, pieces, page, len(pages), remarks if page == len(pages) else [])
        for page, pieces in enumerate(pages, start=1)
    )


def _pieces(table: Table) -> list[Piece]:
    """Every part of the columns, in pieces that a page can hold."""
    room = LINES_A_PAGE - 12
    chunks = [table.rows[start : start + room] for start in range(0, len(table.rows), room)] or [table.rows]
    return [(part, rows) for part in _parts(table.columns) for rows in chunks]


def _pages(pieces: Sequence[Piece], note_lines: int) -> list[list[Piece]]:
    """Pieces that share a float, filled from the end so that the notes stand below the last ones."""
    pages: list[list[Piece]] = [[]]
    filled = note_lines
    for piece in reversed(pieces):
        lines = len(piece[1]) + 2 * len(blocks(piece[1])) + 3
        if pages[0] and filled + lines > LINES_A_PAGE:
            pages.insert(0, [])
            filled = 0
        pages[0].insert(0, piece)
        filled += lines
    return pages


def _without_constants(table: Table) -> tuple[Table, str]:
    """Label columns of text that say the same in every row are left out, and said once."""
    texts = [index for index, column in enumerate(table.columns) if column.kind == "text" and column.role == "label"]
    same = [index for index in texts[1:] if table.rows and len({row.cells[index] for row in table.rows}) == 1]
    if not same:
        return table, ""
    kept = [index for index in range(len(table.columns)) if index not in same]
    rows = tuple(TableRow(tuple(row.cells[index] for index in kept), row.block) for row in table.rows)
    said = ", ".join(
        f"{table.columns[index].title} {figure_text(table.rows[0].cells[index], table.columns[index]) or 'unknown'}"
        for index in same
    )
    return dataclasses.replace(
        table, columns=tuple(table.columns[index] for index in kept), rows=rows
    ), f"In all rows: {said}."


def _float(table: Table, pieces: Sequence[Piece], page: int, pages: int, remarks: Sequence[str]) -> str:
    caption = _latex_text(table.title) + (f" ({page} of {pages})" if pages > 1 else "")
    tabulars = [_fitted(_tabular(table, rows, part)) for part, rows in pieces]
    lines = [
        r"\begin{table}[tp]",
        r"\centering",
        r"\small",
        rf"\caption{{{caption}}}",
        r"\par\medskip",
        "\n\\par\\medskip\n".join(tabulars),
    ]
    if remarks:
        lines += [
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}",
            r"\footnotesize\raggedright",
            *(rf"{_latex_text(note)}\par" for note in remarks),
        ]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _parts(columns: Sequence[Column]) -> list[list[int]]:
    """Return the columns of each tabular: all in one, or for every group the first column and the group's.

    What belongs to no group comes last.
    """
    named = [name for name, _ in column_groups(columns) if name]
    if len(named) < 2:
        return [list(range(len(columns)))]
    groups = [*named, *([""] if any(not column.group for column in columns[1:]) else [])]
    return [[0, *(index for index, column in enumerate(columns) if index and column.group == name)] for name in groups]


def _fitted(tabular: str) -> str:
    """Scaled down where it is wider than the text."""
    return "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n" + tabular + "}"


def _tabular(table: Table, rows: Sequence[TableRow], part: Sequence[int]) -> str:
    columns = [table.columns[index] for index in part]
    spans = [_span(table.columns[index], [row.cells[index] for row in table.rows]) for index in part]
    alignment = "".join(
        "l" if column.kind == "text" else "r@{\\,}l" if span == 2 else "r"
        for column, span in zip(columns, spans, strict=True)
    )
    lines = [rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", r"\toprule", *_latex_groups(columns, spans)]
    lines.append(" & ".join(_heading(column, span) for column, span in zip(columns, spans, strict=True)) + r" \\")
    for name, group in blocks(rows):
        lines.append(r"\midrule")
        if name:
            lines.append(rf"\multicolumn{{{sum(spans)}}}{{@{{}}l}}{{\textit{{{_latex_text(name)}}}}} \\")
        for row in group:
            cells = [
                _latex_cell(row.cells[index], table.columns[index], span)
                for index, span in zip(part, spans, strict=True)
            ]
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _span(column: Column, cells: Sequence[Cell]) -> int:
    """2 for figures with something behind them: an interval, a mark, a footnote."""
    return (
        2
        if column.kind != "text" and any(cell.low is not None or cell.mark == "tied" or cell.footnote for cell in cells)
        else 1
    )


def _heading(column: Column, span: int) -> str:
    text = _latex_text(title(column))
    return rf"\multicolumn{{{span}}}{{c}}{{{text}}}" if span > 1 else text


def _latex_groups(columns: Sequence[Column], spans: Sequence[int]) -> list[str]:
    """A line of group names, each over a rule as wide as its columns."""
    groups = column_groups(columns)
    if not any(name for name, _ in groups):
        return []
    names, rules, first, index = [], [], 1, 0
    for name, count in groups:
        span = sum(spans[index : index + count])
        names.append(rf"\multicolumn{{{span}}}{{c}}{{{_latex_text(name)}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + span - 1}}}"] if name else []
        first, index = first + span, index + count
    return [" & ".join(names) + r" \\", " ".join(rules)]


def _latex_cell(cell: Cell, column: Column, span: int) -> str:
    text = figure_text(cell, column)
    figure, separator, interval = (text, "", "") if isinstance(cell.value, str) else text.partition(" [")
    shown = _latex_text(figure) if isinstance(cell.value, str) else _number(figure)
    shown = rf"\textbf{{{shown}}}" if cell.mark == "best" else shown
    behind = (f"[{_number(interval)}" if separator else "") + (r" $\approx$" if cell.mark == "tied" else "")
    behind += rf"\textsuperscript{{({cell.footnote})}}" if cell.footnote else ""
    return f"{shown} & {behind}" if span == 2 else shown + behind


def _number(text: str) -> str:
    """A minus is a minus and no hyphen."""
    return text.replace("-", "$-$").replace("–", _LATEX["–"])  # noqa: RUF001


def _latex_text(text: str) -> str:
    """Escaped; characters that common fonts lack are written as U+XXXX."""
    shown: list[str] = []
    clean = plain_text(text)
    for index, char in enumerate(clean):
        if char in _LIGATURES and clean[index - 1 : index] == char:
            shown.append("{}")
        shown.append(_LATEX.get(char) or (char if ord(char) < 0x180 and char not in _LACKING else f"U+{ord(char):04X}"))
    return "".join(shown)
