"""LaTeX, with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from seft_bench.report.render.text import column_groups, figure_text, notes, plain_text, title
from seft_bench.report.tables import Cell, Column, Table, blocks

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "Δ": r"$\Delta$",
    "≈": r"$\approx$",
    "×": r"$\times$",  # noqa: RUF001
    "–": "--",  # noqa: RUF001
} | {char: f"\\{char}" for char in "&%$#_{}"}


def to_latex(table: Table) -> str:
    """A booktabs table; the preamble needs `\\usepackage{booktabs}` and `\\usepackage[T1]{fontenc}`."""
    alignment = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    titles = " & ".join(_latex_text(title(column)) for column in table.columns)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex_text(table.title)}}}", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    lines += [*_latex_groups(table.columns), rf"{titles} \\"]
    for name, rows in blocks(table.rows):
        lines.append(r"\midrule")
        if name:
            lines.append(rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\textit{{{_latex_text(name)}}}}} \\")
        lines += [" & ".join(_latex_cell(cell, column) for cell, column in zip(row.cells, table.columns, strict=True)) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_latex_text(note)}" for note in notes(table)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """A line of group names, each over a rule as wide as its columns."""
    groups = column_groups(columns)
    if not any(name for name, _ in groups):
        return []
    names, rules, first = [], [], 1
    for name, span in groups:
        names.append(rf"\multicolumn{{{span}}}{{c}}{{{_latex_text(name)}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + span - 1}}}"] if name else []
        first += span
    return [" & ".join(names) + r" \\", " ".join(rules)]


def _latex_cell(cell: Cell, column: Column) -> str:
    text = _latex_text(figure_text(cell, column))
    if cell.mark == "best":
        figure, separator, interval = text.partition(" [")
        text = rf"\textbf{{{figure}}}{separator}{interval}"
    if text.startswith("["):
        text = "{}" + text  # after a row's end, a bracket would be taken for its optional argument
    return text + (r" $\approx$" if cell.mark == "tied" else "") + (rf"\textsuperscript{{({cell.footnote})}}" if cell.footnote else "")


def _latex_text(text: str) -> str:
    """Escaped; characters that common fonts lack are written as U+XXXX."""
    return "".join(_LATEX.get(char) or (char if ord(char) < 0x180 else f"U+{ord(char):04X}") for char in plain_text(text))
