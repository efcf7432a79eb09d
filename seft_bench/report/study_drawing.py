"""What a study's pictures share: how lines look, bars that do not hide each other, legend, foot and file."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from seft_bench.files import write_atomic
from seft_bench.records import Result, run_of
from seft_bench.report.curves import Points
from seft_bench.report.figures import COLOURS, DOTS_PER_INCH, MARKERS, METADATA, SEFT_COLOUR, STYLE, shown_text
from seft_bench.report.pools import Pool, counted, members, runs_of, seeds_of
from seft_bench.report.study_points import Line

LEGEND_WIDTH = 26
DASHED: Any = (0, (4, 2))
LINESTYLES: tuple[Any, ...] = ("-", DASHED, ":", "-.")
TITLE: dict[str, Any] = {"x": 0.05, "y": 0.975, "ha": "left", "fontsize": 14, "fontweight": "bold"}

Looks = Mapping[str, dict[str, Any]]
"""Key of a line -> how it is drawn."""


def looks_of(lines: Mapping[str, Line], emphasised: str | None) -> dict[str, dict[str, Any]]:
    """Choose colour, marker and stroke of each line.

    Lines whose names differ after the last comma only ("SEFT, equal steps", "SEFT, growing steps") share colour and
    marker; their strokes differ. Controls are hollow, and dashed where they are one line. The emphasised line's family
    is thick and orange; the start is black and dotted.
    """
    families: dict[str, list[str]] = {}
    for key, line in lines.items():
        families.setdefault(_family(line), []).append(key)
    others = iter(zip(COLOURS * len(lines), cycle(f"{MARKERS}<"), strict=False))  # 8 and 9: 72 pairs that differ
    looks = {}
    for keys in families.values():
        is_own = emphasised in keys
        is_start = all(lines[key].role == "start" for key in keys)
        colour, marker = (SEFT_COLOUR, "o") if is_own else ("black", "o") if is_start else next(others)
        for position, key in enumerate(keys):
            stroke = LINESTYLES[position % len(LINESTYLES)]
            look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": ":" if is_start else stroke}
            look |= {
                "linewidth": 2.6 if is_own else 1.5,
                "markersize": 8 if key == emphasised else 6,
                "zorder": 5 if is_own else 2,
            }
            if lines[key].role == "control":
                look |= {"markerfacecolor": "white"} | ({"linestyle": DASHED} if len(keys) == 1 else {})
            looks[key] = look
    return looks


def _family(line: Line) -> str:
    return line.name.rpartition(", ")[0] or line.name


def draw_lines(axes: Any, points: Mapping[str, Points], looks: Looks, spread: float) -> None:
    """Draw lines over categories, side by side within `spread`, so that their bars do not hide each other."""
    shown = [key for key in looks if points.get(key)]
    for place, key in enumerate(shown):
        shift = spread * (place / max(len(shown) - 1, 1) - 0.5)
        moved = [(x + shift, score) for x, score in points[key]]
        axes.plot([x for x, _ in moved], [score.mean for _, score in moved], **looks[key])
        draw_bars(axes, moved, looks[key])


def draw_bars(axes: Any, points: Points, look: Mapping[str, Any]) -> None:
    """Draw each point's interval."""
    for x, score in points:
        if score.low is not None:
            axes.plot([x, x], [score.low, score.high], color=look["color"], linewidth=1.1, alpha=0.75)


def draw_legend(figure: Any, names: Sequence[tuple[str, dict[str, Any]]], top: float) -> None:
    """Write every line's name at the right."""
    from matplotlib.lines import Line2D

    figure.legend(
        [Line2D([], [], **look) for _, look in names],
        ["\n".join(textwrap.wrap(shown_text(name), LEGEND_WIDTH, max_lines=3, placeholder=" …")) for name, _ in names],
        loc="upper left",
        bbox_to_anchor=(0.845, top),
        frameon=False,
        labelspacing=0.9,
        handlelength=3.2,
        fontsize=9,
    )


def draw_foot(figure: Any, results: Sequence[Result], pools: Sequence[Pool], said: str) -> None:
    """Say below what the bars hold: questions, seeds, data sets and judges."""
    own = [result for pool in pools for result in members(results, pool)]
    counts = ", ".join(f"{pool.name}: {counted(len(pool.groups), 'data set')}" for pool in pools)
    seeds = seeds_of(runs_of([{(run_of(result).group, run_of(result).seed): result for result in own}]))
    judges = ", ".join(sorted({result.judge_id for result in own if result.judge_id})) or "unknown"
    lines = (
        *textwrap.wrap(f"{counts}; each with {counted(seeds, 'seed')}. Judge: {judges}.", 190),
        "Bars of scores: 95 % bootstrap intervals over questions and runs. They hold the questions' difficulty, which "
        "all methods share: what differs is said by paired differences.",
        said,
    )
    figure.text(
        0.05, 0.02, "\n".join(map(shown_text, lines)), fontsize=9, color="#444444", va="bottom", linespacing=1.35
    )


def save(path: Path, size_inches: tuple[float, float], compose: Callable[[Any], None]) -> None:
    """Draw a PNG; the same results give the same bytes."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=size_inches, dpi=DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        compose(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata=METADATA["png"])
    write_atomic(path, buffer.getvalue())
