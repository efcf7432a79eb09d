"""The LaTeX tables: layout by text, and compiled where pdflatex is installed, hostile names included."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from seft_bench.generators.controls import CONTROLS
from seft_bench.records import Result, run_of
from seft_bench.report.leaderboard import method_tables, plain_table, published_tables
from seft_bench.report.published_files import load_published
from seft_bench.report.render import to_latex
from seft_bench.report.render.latex import LINES_A_PAGE
from seft_bench.report.tables import Cell, Column, Table, TableRow
from seft_bench.subjects import control_subject
from tests.unit.leaderboard_data import ROWS, matrix, relabelled, result

HOSTILE = (
    "a_b 50%&",
    r"\input{/etc/passwd}",
    "#1 $x$ {y}",
    "t~u^v",
    "--verbose---x",
    "<b>|pipe|\"q\" 'r' `s`",
    "[opt] *star*",
    r"\end{tabular}",
    "\x1b[2Jesc\u202e",
    "模型-ŧ",
    r"\write18{touch pwned}",
    r"\\ \hline & %",
)
PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage{booktabs,graphicx}
\begin{document}
"""


def plain(names: tuple[str, ...]) -> Table:
    """One model a name, in their order, none tied."""
    results = [
        dataclasses.replace(result("dpo", [9.0 - index / 20] * 6), model=name, run=None)
        for index, name in enumerate(names)
    ]
    return plain_table(results)


def hostile_matrix() -> list[Result]:
    """A matrix whose rows have hostile labels, with its controls."""
    rows = list(ROWS)
    results = matrix({row: 5.0 + index / 3 for index, row in enumerate(rows)}, questions=12)
    beside = [item for item in results if run_of(item).row == "start" and run_of(item).seed == 1 and run_of(item).final]
    controls = [dataclasses.replace(item, run=control_subject(name).run) for name in CONTROLS for item in beside]
    return [
        *(relabelled(item, HOSTILE[rows.index(run_of(item).row)]) for item in results),
        *controls,
    ]


def compiled(text: str, folder: Path) -> str:
    """The PDF's text without white space; skipped where there is no pdflatex.

    Raises:
        AssertionError: LaTeX found an error.
    """
    if not shutil.which("pdflatex"):
        pytest.skip("NO LATEX: install texlive-latex-recommended and lmodern to compile the tables")
    (folder / "table.tex").write_text(f"{PREAMBLE}{text}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull \\hbox" not in log
    assert "Float too large" not in log
    if not shutil.which("pdftotext"):
        pytest.skip("NO PDFTOTEXT: the tables compile; install poppler-utils to read them back")
    subprocess.run(["pdftotext", "-layout", "table.pdf"], cwd=folder, check=True, timeout=60)
    return "".join((folder / "table.txt").read_text(encoding="utf-8").split())


def test_the_plain_table_compiles_and_holds_every_name_as_it_was(tmp_path: Path) -> None:
    text = compiled(to_latex(plain(HOSTILE)), tmp_path)
    for name in HOSTILE[:-4]:
        assert "".join(name.split()) in text, name
    assert r"\x1b[2Jesc\u202e" in text  # control characters are written out
    assert "U+6A21U+578B-U+0167" in text
    assert r"\write18{touchpwned}" in text
    assert r"\\\hline&%" in text
    assert not (tmp_path / "pwned").exists()


def test_the_papers_tables_compile_with_published_figures_below(tmp_path: Path) -> None:
    """As many rows and controls as the tinyworld's matrix has: what does not fit a page goes on in the next float."""
    tables = [
        *method_tables(hostile_matrix()),
        *(table.only("label", "main") for table in published_tables(load_published("alignment-papers"))),
    ]
    text = compiled("\n".join(to_latex(table) for table in tables), tmp_path)
    for name in (*HOSTILE[: len(ROWS) - 1], *CONTROLS.values()):
        assert "".join(name.split()) in text, name
    assert "conditionsdifferfromours" in text
    assert "SimPO" in text


def test_a_long_table_goes_on_in_the_next_float(tmp_path: Path) -> None:
    latex = to_latex(plain(tuple(f"model-{index:03}" for index in range(LINES_A_PAGE + 9))))
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 2
    assert "(1 of 2)" in latex
    assert latex.count("Bold: best of its column") == 1
    assert "model-056" in compiled(latex, tmp_path)


def test_figures_and_intervals_have_columns_of_their_own() -> None:
    column = Column("d", "gain", kind="difference", decimals=1)
    table = Table(
        "t",
        (Column("m", "m", role="label"), column),
        (TableRow((Cell("x"), Cell(-0.34, -1.2, 0.5, "tied"))), TableRow((Cell("y"), Cell(12.0)))),
    )
    text = to_latex(table)
    assert r"\begin{tabular}{@{}lr@{\,}l@{}}" in text
    assert r"x & $-$0.3 & [$-$1.2, +0.5] $\approx$ \\" in text
    assert r"y & +12.0 &  \\" in text
    assert r"m & \multicolumn{2}{c}{gain} \\" in text


def test_every_group_of_columns_has_a_tabular_below_the_last() -> None:
    text = to_latex(method_tables(matrix({"start": 5.0, "dpo": 6.0}, questions=6))[1])
    assert text.count(r"\begin{tabular}") == 3  # sampled, greedy, costs
    assert text.count("DPO &") == 3
    assert text.count(r"\begin{table}") == 1


def test_a_label_that_never_changes_is_said_once() -> None:
    text = to_latex(plain(("a", "b")))
    assert "In all rows: suite tiny-mtbench, decoding sampled, judge rubric-1." in text
    assert text.count("rubric-1") == 2  # the block's title, and that note
