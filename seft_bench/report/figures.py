"""Static figures for papers and the README. matplotlib is imported when a figure is drawn."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import write_atomic
from seft_bench.records import Result, RunFacts, run_of
from seft_bench.report.arms import Panel, is_control, on_fewer_prompts, panels
from seft_bench.report.curves import Points, panel_measure, prompt_point, start_point, step_points
from seft_bench.report.render import plain_text
from seft_bench.stats.intervals import Interval

SIZE_INCHES, DOTS_PER_INCH = (14.0, 9.0), 100
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#7A5C00", "#882255", "#555555")
"""Okabe and Ito's colour-blind-safe palette, its yellow (too pale for lines) replaced; markers differ as well."""
SEFT_COLOUR = "#D55E00"
LEGEND_WIDTH = 22
"""Characters of a line of the legend; longer labels are wrapped."""
MARKERS = "sD^vPXph"
STYLE = {
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "axes.axisbelow": True,
}
METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
"""No dates and versions: the same results give the same bytes."""


@dataclass(frozen=True, slots=True)
class _Series:
    """One row of the matrix as a line: its label, how it is drawn, and the facts of one of its runs."""

    row: str
    label: str
    run: RunFacts
    colour: str
    marker: str

    @property
    def is_control(self) -> bool:
        return self.run.role == "control"

    @property
    def legend_label(self) -> str:
        return "\n".join(textwrap.wrap(self.label, LEGEND_WIDTH, max_lines=3, placeholder=" …"))

    @property
    def drawn(self) -> dict[str, Any]:
        """Controls are dashed with hollow markers; SEFT stands out."""
        look: dict[str, Any] = {"color": self.colour, "marker": self.marker, "markersize": 6, "linewidth": 1.6}
        look |= {"linestyle": (0, (4, 2)), "markerfacecolor": "white"} if self.is_control else {}
        return look | ({"linewidth": 2.8, "markersize": 8, "zorder": 5} if self.row == "seft" else {})


def score_curves(results: Iterable[Result], path: Path) -> None:
    """Draw score against training step, and against the amount of unannotated prompts, into a PNG or PDF.

    A PNG has 1400 x 900 pixels.

    Top: every suite and decoding a panel, every row of the matrix a line from the start. Bottom: SEFT on parts of its
    prompts, with the controls that use unannotated prompts otherwise. Bars are 95 % intervals over questions and seeds.

    Raises:
        InputError: no published result of a matrix, or a file type that is neither png nor pdf.
    """
    own = [result for result in results if result.run is not None and not is_control(result)]
    published = [result for result in own if not result.withheld]
    kind = path.suffix.lstrip(".").lower()
    if kind not in METADATA:
        raise InputError(f"cannot draw a figure as {path.name!r}: the name must end in .png or .pdf")
    if not published:
        raise InputError(
            f"no figure to draw: of {len(own)} results of a matrix, none is published. Run `seft-bench bench MATRIX` "
            "first."
        )
    write_atomic(path, _draw(published, _foot(published, len(own) - len(published)), kind))


def _draw(results: Sequence[Result], foot: str, kind: str) -> bytes:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        _compose(figure, results, foot)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=METADATA[kind])
    return buffer.getvalue()


def _compose(figure: Any, results: Sequence[Result], foot: str) -> None:
    """Two rows of panels, the legend at their right, the foot line below."""
    shown = panels(results)
    suites = list(dict.fromkeys(panel.suite for panel in shown))
    series = _series(results)
    figure.suptitle(
        "Score against training step (top) and against the amount of unannotated prompts (bottom)",
        x=0.05,
        y=0.965,
        ha="left",
        fontsize=15,
        fontweight="bold",
    )
    grid = figure.add_gridspec(2, 1, left=0.05, right=0.84, top=0.885, bottom=0.145, hspace=0.36)
    for column, suite in enumerate(suites):
        own = [panel for panel in shown if panel.suite == suite]
        top, bottom = (grid[row].subgridspec(1, len(suites), wspace=0.14)[column] for row in (0, 1))
        shared = None
        for cell, panel in zip(top.subgridspec(1, len(own), wspace=0.08), own, strict=True):
            axes = figure.add_subplot(cell, sharey=shared)
            _step_panel(axes, panel, results, series, is_first=shared is None)
            shared = shared or axes
        _prompt_panel(figure.add_subplot(bottom), own, results, series)
    _legend(figure, series)
    figure.text(0.05, 0.018, foot, fontsize=9, color="#444444", va="bottom", linespacing=1.4)


def _series(results: Sequence[Result]) -> list[_Series]:
    """Every row but the start, in order of first appearance; SEFT has its own colour."""
    runs = {run_of(result).row: run_of(result) for result in reversed(results)}
    others = iter(zip(COLOURS * len(runs), MARKERS * len(runs), strict=True))
    looks = {
        row: (SEFT_COLOUR, "o") if row == "seft" else next(others)
        for row in _in_order(results)
        if runs[row].role != "start"
    }
    return [_Series(row, shown_text(runs[row].label or row), runs[row], *look) for row, look in looks.items()]


def _in_order(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(run_of(result).row for result in results))


def shown_text(text: object) -> str:
    """Text that matplotlib takes for neither a formula nor a hidden legend entry."""
    return plain_text(str(text)).replace("$", r"\$").lstrip("_") or "?"


def _start(results: Sequence[Result], panel: Panel) -> tuple[str, Interval] | None:
    found = start_point(results, panel)
    return None if found is None else (shown_text(found[0]), found[1])


# Score against training step


def _step_panel(axes: Any, panel: Panel, results: Sequence[Result], series: Sequence[_Series], is_first: bool) -> None:
    measure, start = panel_measure(results, panel), _start(results, panel)
    curves = {line.row: step_points(results, panel, line.row, measure) for line in series}
    last = max((step for points in curves.values() for step, _ in points), default=1.0)
    for position, line in enumerate(series):
        shift = (position - (len(series) - 1) / 2) * last * 0.018  # bars at one step would hide each other
        points = [(step + shift, estimate) for step, estimate in curves[line.row]]
        origin = [(0.0, start[1])] if start and points else []
        axes.plot(*_xy([*origin, *points]), markevery=range(len(origin), len(origin) + len(points)), **line.drawn)
        _bars(axes, points, line.colour)
    if start:
        axes.axhline(start[1].mean, color="black", linewidth=1.2, linestyle=":", zorder=1)
        axes.plot([0.0], [start[1].mean], color="black", marker="o", markersize=7, clip_on=False)
        _bars(axes, [(0.0, start[1])], "black")
    axes.set(
        xlabel="training step of the policy",
        xlim=(-0.06 * last, 1.12 * last),
        xticks=sorted({0.0, *(step for points in curves.values() for step, _ in points)}),
    )
    axes.set_title(shown_text(panel.title), loc="left", fontsize=11)
    axes.set_ylabel(f"{measure.title} ({measure.unit})" if is_first else "")
    axes.tick_params(labelleft=is_first)  # the panels of a suite share their scale


def _xy(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [estimate.mean for _, estimate in points]


def _bars(axes: Any, points: Points, colour: str) -> None:
    for x, estimate in points:
        if estimate.low is not None:
            axes.plot(
                [x, x], [estimate.low, estimate.high], color=colour, linewidth=1.1, alpha=0.7, solid_capstyle="butt"
            )


# Score against the amount of unannotated prompts


def _prompt_panel(axes: Any, shown: Sequence[Panel], results: Sequence[Result], series: Sequence[_Series]) -> None:
    """Draw one suite: SEFT's line for each decoding, and other controls as points.

    The line goes from the start (no prompts) over SEFT's parts to all prompts.
    """
    seft = next((line for line in series if line.row == "seft"), None)
    measure = panel_measure(results, shown[0])
    axes.set_title(f"{shown_text(shown[0].suite)}: SEFT on more unannotated prompts", loc="left", fontsize=11)
    axes.set(xlabel="unannotated prompts", ylabel=f"{measure.title} ({measure.unit})")
    if seft is None:
        axes.text(0.5, 0.5, "no SEFT row in these results", transform=axes.transAxes, ha="center", color="#444444")
        return
    looks = zip(("-", "--", ":", "-.") * len(shown), (SEFT_COLOUR, "white") * 2 * len(shown), strict=True)
    width = float(seft.run.unannotated_prompts or 1)
    for position, (panel, (linestyle, fill)) in enumerate(zip(shown, looks, strict=False)):
        shift = 0.006 * width * position  # bars at one x would hide each other
        _prompt_line(axes, panel, results, series, seft, shift, {"linestyle": linestyle, "markerfacecolor": fill})
        _other_uses(axes, panel, results, series, seft, 0.03 * width, shift, fill != "white")
    axes.set_xlim(left=-0.03 * axes.get_xlim()[1])
    axes.legend(loc="lower center", frameon=False, fontsize=9)


def _prompt_line(
    axes: Any,
    panel: Panel,
    results: Sequence[Result],
    series: Sequence[_Series],
    seft: _Series,
    shift: float,
    look: Mapping[str, Any],
) -> None:
    start = _start(results, panel)
    family = [line for line in series if line.row == "seft" or on_fewer_prompts(line.run, seft.run)]
    points = [(0.0, start[1])] if start else []
    points += [point for line in family if (point := _prompt_point(results, panel, line))]
    points = sorted([(x + shift, estimate) for x, estimate in points], key=lambda point: point[0])
    axes.plot(
        *_xy(points),
        color=SEFT_COLOUR,
        marker="o",
        markersize=7,
        linewidth=2.0,
        label=f"SEFT, {shown_text(panel.decoding)}",
        **look,
    )
    _bars(axes, points, SEFT_COLOUR)


def _other_uses(
    axes: Any,
    panel: Panel,
    results: Sequence[Result],
    series: Sequence[_Series],
    seft: _Series,
    gap: float,
    shift: float,
    is_filled: bool,
) -> None:
    """Controls that spend the unannotated prompts otherwise, beside SEFT's points."""
    controls = [
        line
        for line in series
        if line.is_control and line.run.unannotated_prompts and not on_fewer_prompts(line.run, seft.run)
    ]
    for position, line in enumerate(controls, start=1):
        point = _prompt_point(results, panel, line)
        points = [(point[0] + position * gap + shift, point[1])] if point else []
        fill = line.colour if is_filled else "white"
        axes.plot(
            *_xy(points), color=line.colour, marker=line.marker, markersize=7, linestyle="none", markerfacecolor=fill
        )
        _bars(axes, points, line.colour)


def _prompt_point(results: Sequence[Result], panel: Panel, line: _Series) -> tuple[float, Interval] | None:
    return prompt_point(
        results, panel, line.row, float(line.run.unannotated_prompts or 0), panel_measure(results, panel)
    )


# Around the panels


def _legend(figure: Any, series: Sequence[_Series]) -> None:
    """One legend for all panels; controls apart from methods."""
    from matplotlib.lines import Line2D

    blank = Line2D([], [], linestyle="none")
    methods = [(Line2D([], [], **line.drawn), line.legend_label) for line in series if not line.is_control]
    controls = [(Line2D([], [], **line.drawn), line.legend_label) for line in series if line.is_control]
    start = (Line2D([], [], color="black", linestyle=":", marker="o", markersize=7), "start (step 0)")
    entries = [start, *methods, *([(blank, ""), (blank, "controls"), *controls] if controls else [])]
    figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        loc="upper left",
        bbox_to_anchor=(0.85, 0.88),
        frameon=False,
        labelspacing=0.8,
        fontsize=9,
    )


def _foot(results: Sequence[Result], withheld: int) -> str:
    """Say what the figures rest on: questions, seeds, judge, interval."""
    questions = {
        suite: max(len(result.per_question) for result in results if result.suite == suite)
        for suite in dict.fromkeys(result.suite for result in results)
    }
    counted = ", ".join(f"{suite} {count} questions" for suite, count in questions.items())
    seeds = sorted({run_of(result).seed for result in results})
    judges = ", ".join(sorted({result.judge_id for result in results if result.judge_id})) or "unknown"
    noise = (
        f"questions and {len(seeds)} training seeds"
        if len(seeds) > 1
        else "questions; one training seed, so training noise is not in them"
    )
    left_out = f" {withheld} withheld results are left out." if withheld else ""
    bars = (
        f"Bars: 95 % bootstrap intervals over {noise}. Points of one x stand side by side. Bars hold the questions' "
        "difficulty, which all rows\n"
        "share, so rows whose bars overlap may still differ: see the table's paired differences. Bottom: controls are "
        "filled and hollow like SEFT."
    )
    return shown_text(f"{counted}; judge: {judges}.{left_out}") + "\n" + bars
