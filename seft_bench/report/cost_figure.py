"""The picture of score against cost: a panel a suite, a numbered point a row.

matplotlib is imported when it is drawn.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import write_atomic
from seft_bench.records import Result, run_of
from seft_bench.report.arms import Panel, by_group, is_control, panels
from seft_bench.report.cost_points import CostPoint, cost_points, pareto_front
from seft_bench.report.curves import panel_measure
from seft_bench.report.figures import DOTS_PER_INCH, METADATA, STYLE, shown_text
from seft_bench.report.places import NEAREST, places
from seft_bench.results import slug

PANELS_A_LINE = 2
LINES_OF_LEGEND = 40
COLOUR, CONTROL_COLOUR, FRONT_COLOUR = "#0072B2", "#7A7A7A", "#D55E00"
LOG_FROM = 8.0
"""Costs further apart than this stand on a logarithmic axis."""


def draw_cost(results: Iterable[Result], path: Path) -> None:
    """Draw every row's score against the tokens that it trained on and sampled, into a PNG or PDF.

    Raises:
        InputError: no result whose score and cost are both known, or a file type that is neither png nor pdf.
    """
    kind = path.suffix.lstrip(".").lower()
    if kind not in METADATA:
        raise InputError(f"cannot draw a figure as {path.name!r}: the name must end in .png or .pdf")
    found = points_by_panel(results)
    if not found:
        raise InputError(
            "no figure to draw: of no result are score and cost known. Run `seft-bench bench MATRIX` first."
        )
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        buffer = io.BytesIO()
        _figure(found, _foot(results_of_matrix(results))).savefig(buffer, format=kind, metadata=METADATA[kind])
    write_atomic(path, buffer.getvalue())


def cost_pictures(folder: Path, results: Iterable[Result], kinds: Sequence[str] = ("png",)) -> list[Path]:
    """Draw cost.png, for each base and data of a matrix that has several; none where no cost is known."""
    groups = by_group(results_of_matrix(results))
    known = {group: own for group, own in groups.items() if points_by_panel(own)}
    paths = {
        folder / f"{slug(f'cost-{group}') if group else 'cost'}.{kind}": own
        for group, own in known.items()
        for kind in kinds
    }
    for path, own in paths.items():
        draw_cost(own, path)
    return list(paths)


def results_of_matrix(results: Iterable[Result]) -> list[Result]:
    """Return the published results of trained rows."""
    return [result for result in results if result.run is not None and not is_control(result) and not result.withheld]


def points_by_panel(results: Iterable[Result]) -> dict[Panel, tuple[str, list[CostPoint]]]:
    """Map the first panel of each suite (its first decoding) to its axis' label and its points."""
    own = results_of_matrix(results)
    firsts = {panel.suite: panel for panel in reversed(panels(own) if own else [])}
    found: dict[Panel, tuple[str, list[CostPoint]]] = {}
    for panel in sorted(firsts.values(), key=lambda panel: panel.suite):
        measure = panel_measure(own, panel)
        if points := cost_points(own, panel, measure):
            found[panel] = f"{measure.title} ({measure.unit})", points
    return found


def _figure(found: Mapping[Panel, tuple[str, list[CostPoint]]], foot: str) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = math.ceil(len(found) / PANELS_A_LINE)
    numbers = _numbers(found)
    figure = Figure(figsize=(14.0, max(2.2 + 5.6 * lines, 2.2 + 0.19 * min(len(numbers), LINES_OF_LEGEND))))
    figure.set_dpi(DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    inches = figure.get_figheight()
    title = "Score against cost: tokens trained on and sampled"
    figure.suptitle(title, x=0.05, y=1 - 0.3 / inches, ha="left", fontsize=15, fontweight="bold")
    right = 0.76 if len(numbers) <= LINES_OF_LEGEND else 0.64
    space = {"left": 0.06, "right": right, "top": 1 - 1.0 / inches, "bottom": 1.2 / inches}
    grid = figure.add_gridspec(lines, min(len(found), PANELS_A_LINE), **space, wspace=0.16, hspace=0.3)
    for place, (panel, (label, points)) in enumerate(found.items()):
        _panel(figure.add_subplot(grid[place]), panel, label, points, numbers)
    _legend(figure, found, numbers, right + 0.02)
    figure.text(0.05, 0.2 / inches, foot, fontsize=9, color="#444444", va="bottom", linespacing=1.4)
    return figure


def _numbers(found: Mapping[Panel, tuple[str, list[CostPoint]]]) -> dict[str, int]:
    """Number the rows of all panels, in the order of the table."""
    rows = dict.fromkeys(point.row for _, points in found.values() for point in points)
    return {row: number for number, row in enumerate(rows, start=1)}


def _panel(axes: Any, panel: Panel, label: str, points: Sequence[CostPoint], numbers: Mapping[str, int]) -> None:
    axes.set_title(shown_text(panel.title), loc="left", fontsize=11)
    axes.set(xlabel="tokens trained on and sampled", ylabel=shown_text(label))
    _scale(axes, points)
    front = pareto_front(points)
    axes.plot(
        [point.tokens for point in front],
        [point.score.mean for point in front],
        color=FRONT_COLOUR,
        linewidth=1.4,
        drawstyle="steps-post",
        zorder=1,
    )
    for point in points:
        if point.score.low is not None:
            ends = [point.score.low, point.score.high]
            axes.plot([point.tokens] * 2, ends, color=look(point, front)["color"], linewidth=1.0, alpha=0.3)
        axes.plot([point.tokens], [point.score.mean], **look(point, front))
    _write_numbers(axes, points, numbers, front)


def _scale(axes: Any, points: Sequence[CostPoint]) -> None:
    """Fix the limits, so that numbers find their places."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    costs = [point.tokens for point in points]
    figures = [
        end for point in points for end in (point.score.mean, point.score.low, point.score.high) if end is not None
    ]
    if min(costs) > 0 and max(costs) > LOG_FROM * min(costs):
        axes.set_xscale("log")
        room = (max(costs) / min(costs)) ** 0.07
        axes.set_xlim(min(costs) / room, max(costs) * room)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        room = 0.07 * (max(costs) - min(costs) or max(costs) or 1.0)
        axes.set_xlim(min(costs) - room, max(costs) + room)
    margin = 0.05 * (max(figures) - min(figures) or 1.0)
    axes.set_ylim(min(figures) - margin, max(figures) + margin)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: short(tokens)))


def short(tokens: float) -> str:
    """Write a count with its unit.

    >>> short(1_250_000), short(800_000), short(20)
    ('1.25M', '800k', '20')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.4g}{unit}"
    return f"{tokens:.4g}"


def look(point: CostPoint, front: Sequence[CostPoint]) -> dict[str, Any]:
    """Return how a point is drawn: controls are hollow squares, the start is a black circle, the front stands out."""
    drawn: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 6, "color": COLOUR}
    if point.role == "control":
        drawn |= {"marker": "s", "markerfacecolor": "white", "color": CONTROL_COLOUR}
    elif point.role == "start":
        drawn |= {"color": "black"}
    if point in front:
        drawn |= {"markeredgecolor": FRONT_COLOUR, "markeredgewidth": 2.0, "markersize": 8}
    return drawn | {"zorder": 4}


def _write_numbers(
    axes: Any, points: Sequence[CostPoint], numbers: Mapping[str, int], front: Sequence[CostPoint]
) -> None:
    """Write each point's number where no other point or number stands, with a thin line where that is further away."""
    at = [tuple(axes.transData.transform((point.tokens, point.score.mean))) for point in points]
    corners = axes.transAxes.transform([(0, 0), (1, 1)])
    inside = (*corners[0], *corners[1])
    for point, (x, y), (dx, dy) in zip(points, at, places(at, inside), strict=True):
        bold = "bold" if point in front else "normal"
        moved = axes.transData.inverted().transform((x + dx, y + dy))
        if math.hypot(dx, dy) > NEAREST:
            axes.plot([point.tokens, moved[0]], [point.score.mean, moved[1]], color="#999999", linewidth=0.5, zorder=2)
        text = {"ha": "center", "va": "center", "fontsize": 8, "fontweight": bold, "zorder": 5}
        axes.text(*moved, str(numbers[point.row]), **text)


def _legend(
    figure: Any, found: Mapping[Panel, tuple[str, list[CostPoint]]], numbers: Mapping[str, int], left: float
) -> None:
    """Write which number is which row; rows on a panel's front in its colour."""
    on_front = {point.row for _, points in found.values() for point in pareto_front(points)}
    points = {point.row: point for _, own in found.values() for point in own}
    inches = figure.get_figheight()
    columns = math.ceil(len(numbers) / LINES_OF_LEGEND)
    for index, (row, number) in enumerate(numbers.items()):
        column, line = divmod(index, LINES_OF_LEGEND)
        x, y = left + column * 0.12, 1 - (1.0 + 0.19 * line) / inches
        control = ", control" if points[row].role == "control" else ""
        width = 38 if columns == 1 else 24
        name = textwrap.shorten(f"{points[row].label}{control}", width, placeholder=" …")
        colour = FRONT_COLOUR if row in on_front else CONTROL_COLOUR if control else "black"
        figure.text(x, y, f"{number}", fontsize=8, ha="right", va="top", color=colour)
        figure.text(x + 0.006, y, shown_text(name), fontsize=8, va="top", color=colour)


def _foot(results: Sequence[Result]) -> str:
    seeds = len({run_of(result).seed for result in results})
    noise = (
        f"questions and {seeds} training seeds"
        if seeds > 1
        else "questions; one training seed, whose noise is not in them"
    )
    judges = ", ".join(sorted({result.judge_id for result in results if result.judge_id})) or "unknown"
    return (
        f"{shown_text(f'Judge: {judges}.')} Bars: 95 % bootstrap intervals over {noise}. "
        "Tokens: all that training took, the start included, mean over seeds.\n"
        "Orange line and rims: no other row is as cheap and better (of the estimates; intervals may overlap). "
        "Squares: controls. Black: the start."
    )
