"""Figures for papers, as PDF and PNG: curves of a matrix, its scores against cost, and a bar a model with its interval.

matplotlib is imported when one is drawn.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import write_atomic
from seft_bench.ownership import Kind, is_file
from seft_bench.records import Result
from seft_bench.report.arms import belongs, is_control, panels
from seft_bench.report.cost_figure import cost_pictures
from seft_bench.report.figures import COLOURS, score_curves
from seft_bench.report.leaderboard import plain_tables
from seft_bench.report.methods import CONTROLS
from seft_bench.report.radar import draw_radar
from seft_bench.report.render import plain_text
from seft_bench.report.tables import Table, TableRow
from seft_bench.results import read_results, slug

KINDS = ("pdf", "png")
MOST_BARS = 60
CONTROL_COLOUR = "#8A9099"
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
"""No dates and versions: the same results give the same bytes."""


_STEMS = r"(curves|cost|cost-.+|bars-.+|radar-.+)"


def _drew(folder: Path) -> bool:
    """Tell a folder of our figures, each of which is there in both formats."""
    stems = [{path.stem for path in folder.glob(f"*.{kind}") if re.fullmatch(_STEMS, path.stem)} for kind in KINDS]
    return bool(stems[0]) and stems[0] == stems[1]


FIGURES = Kind("figures", {rf"{_STEMS}\.({'|'.join(KINDS)})": is_file}, _drew)
"""A folder of figures for papers."""


def write_figures(folder: Path, results: Path) -> list[Path]:
    """Draw every figure that the results have enough for.

    Bars; curves, and score against cost, where a matrix was run; radars where answers have categories.

    Raises:
        InputError: no results, or the folder holds figures that are not ours.
    """
    found = read_results(results)
    if not found:
        raise InputError(f"no results in {results}/ to draw. Run `seft-bench eval` or `seft-bench demo` first.")
    FIGURES.check(folder, "--figures")
    FIGURES.mark(folder)
    written = _bars(folder, found)
    if any(result.run is not None and not result.withheld and not is_control(result) for result in found):
        written += [_drawn(folder / f"curves.{kind}", functools.partial(score_curves, found)) for kind in KINDS]
    return written + cost_pictures(folder, found, KINDS) + _radars(folder, found)


def _radars(folder: Path, found: Sequence[Result]) -> list[Path]:
    """A radar for each suite, decoding and judge with three categories or more."""
    able = [result for result in found if len(result.metrics.get("by_category") or {}) >= 3]
    written = []
    for panel in [panel for panel in panels(able) if any(belongs(result, panel) for result in able)] if able else []:
        own = [result for result in able if belongs(result, panel)]
        stem = slug(f"radar-{panel.suite}-{panel.decoding}-{panel.judge_id}")
        written += [_drawn(folder / f"{stem}.{kind}", functools.partial(draw_radar, own)) for kind in KINDS]
    return written


def _drawn(path: Path, draw: Callable[[Path], None]) -> Path:
    draw(path)
    return path


def _bars(folder: Path, found: Sequence[Result]) -> list[Path]:
    """Draw a picture for each suite, decoding and judge.

    Its ranked models stand with the best at the top, the controls without a model at the foot.
    """
    judges = {(panel.suite, panel.decoding): 0 for panel in panels(found)}
    written = []
    for table in plain_tables(found):
        for (suite, decoding, judge), (title, rows, controls) in _pictures(table).items():
            judges[(suite, decoding)] += 1
            stem = slug(f"bars-{suite}-{decoding}" + (f"-{judge}" if judges[(suite, decoding)] > 1 else ""))
            for kind in KINDS:
                write_atomic(folder / f"{stem}.{kind}", _draw_bars(table, title, rows, controls, kind))
                written.append(folder / f"{stem}.{kind}")
    return written


def _pictures(table: Table) -> dict[tuple[str, str, str], tuple[str, list[TableRow], list[TableRow]]]:
    """Suite, decoding and judge -> title, ranked rows, controls."""
    found: dict[tuple[str, str, str], tuple[str, list[TableRow], list[TableRow]]] = {}
    for row in table.rows:
        panel = _panel_of(table, row)
        title, ranked, controls = found.get(panel, (f"{panel[0]}, {panel[1]}, judge {panel[2] or 'unknown'}", [], []))
        if row.block != "withheld":
            (controls if row.block == CONTROLS else ranked).append(row)
            found[panel] = (title, ranked, controls)
    return found


def _panel_of(table: Table, row: TableRow) -> tuple[str, str, str]:
    suite, decoding, judge = (str(_cell(table, row, key).value) for key in ("suite", "decoding", "judge"))
    return suite, decoding, judge


def _cell(table: Table, row: TableRow, key: str) -> Any:
    return next(cell for cell, column in zip(row.cells, table.columns, strict=True) if column.key == key)


def _draw_bars(table: Table, title: str, rows: Sequence[TableRow], controls: Sequence[TableRow], kind: str) -> bytes:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(rows[:MOST_BARS])
    main = _ranking_column(table, [*shown, *controls])
    with matplotlib.style.context(
        ["default", {"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}]
    ):
        figure = Figure(figsize=(6.5, 1.1 + 0.24 * (len(shown) + len(controls))), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw_rows(axes, table, shown, controls, main)
        left_out = f" (the first {len(shown)} of {len(rows)})" if len(shown) < len(rows) else ""
        axes.set_title(_shown(title) + left_out, loc="left", fontsize=10)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    return buffer.getvalue()


def _ranking_column(table: Table, rows: Sequence[TableRow]) -> int:
    """The main column that ranks: the one whose best cell is marked, else the first with a figure."""
    main = [index for index, column in enumerate(table.columns) if column.role == "main"]
    marked = [index for index in main if any(row.cells[index].mark == "best" for row in rows)]
    return next(iter([*marked, *(index for index in main if rows[0].cells[index].value is not None)]), main[0])


def _draw_rows(axes: Any, table: Table, ranked: Sequence[TableRow], controls: Sequence[TableRow], main: int) -> None:
    column, rows = table.columns[main], [*ranked, *controls]
    left = 1.0 if column.unit == "1-10" else 0.0  # bars begin where the scale does
    for position, row in enumerate(rows):
        cell = row.cells[main]
        if not isinstance(cell.value, int | float):
            continue
        axes.barh(
            position,
            cell.value - left,
            left=left,
            height=0.7,
            color=COLOURS[0] if position < len(ranked) else CONTROL_COLOUR,
            alpha=0.85,
        )
        if cell.low is not None and cell.high is not None:
            axes.plot([cell.low, cell.high], [position, position], color="black", linewidth=1.0)
    axes.set_yticks(range(len(rows)), [_shown(str(_cell(table, row, "model").value)) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the best at the top; matplotlib's own margin grows with the number of bars
    axes.set_xlim(left=left)
    grey = "; grey: controls without a model" if controls else ""
    axes.set_xlabel(
        (f"{column.title} ({column.unit}), with 95 % intervals over questions" if column.unit else column.title) + grey
    )


def _shown(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return plain_text(text).replace("$", r"\$")
