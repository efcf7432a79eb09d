"""The radar picture of MT-Bench's categories: one axis a category, one line a model.

matplotlib is imported when it is drawn.
"""

from __future__ import annotations

import io
import math
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import write_atomic
from seft_bench.records import Result
from seft_bench.report.arms import Measure, Panel, belongs, measure_of, panels
from seft_bench.report.render import plain_text

MOST_MODELS, MOST_PANELS = 8, 3
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#7A5C00", "#882255", "#555555")
"""Okabe and Ito's colour-blind-safe palette, its pale and orange tones replaced; markers and dashes differ as well."""
ORDER = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""MT-Bench's categories clockwise, as in the paper's figure (Zheng et al. 2023); others follow."""
MARKERS = "osD^vPXp"
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)))
PANEL_INCHES, DOTS_PER_INCH = (8.2, 10.2), 110
_STYLE = {"font.size": 11.0, "svg.hashsalt": "seft-bench", "svg.fonttype": "path"}
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None},
}
"""No dates and versions: the same results give the same bytes."""


def draw_radar(results: Iterable[Result], path: Path) -> None:
    """Draw the mean by category, a line a model, into a PNG, SVG or PDF.

    Suites, decodings and judges stand in panels of their own.

    Each panel shows its best eight models. A category's interval is not drawn, as eight bands would hide each other:
    the caption says how wide they are, and the legend gives each model's score with its 95 % interval.

    Raises:
        InputError: another type of file, no published result with at least three categories, or more than three panels.
    """
    kind = path.suffix.lstrip(".").lower()
    if kind not in _METADATA:
        raise InputError(
            f"cannot draw a radar as {path.name!r}: the name must end in "
            f"{', '.join('.' + known for known in _METADATA)}"
        )
    graded = [result for result in results if len(_by_category(result)) >= 3]
    shown = [panel for panel in panels(graded) if any(belongs(result, panel) for result in graded)]
    if not shown:
        raise InputError(
            f"no radar to draw: no published result has figures of three categories or more ({len(graded)} withheld). "
            "MT-Bench's suites have them."
        )
    if len(shown) > MOST_PANELS:
        listed = "; ".join(f"{panel.title}, judge {panel.judge_id}" for panel in shown)
        raise InputError(
            f"a radar holds {MOST_PANELS} panels, these results make {len(shown)}: {listed}. Name a folder with fewer "
            "of them (--results)."
        )
    write_atomic(path, _draw(graded, shown, kind))


def _by_category(result: Result) -> dict[str, float]:
    return dict(result.metrics.get("by_category") or {})


def _draw(results: Sequence[Result], shown: Sequence[Panel], kind: str) -> bytes:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(PANEL_INCHES[0] * len(shown), PANEL_INCHES[1]), dpi=DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        for position, panel in enumerate(shown):
            _panel(
                figure,
                panel,
                [result for result in results if result.suite == panel.suite],
                position / len(shown),
                1 / len(shown),
            )
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    return buffer.getvalue()


def _panel(figure: Any, panel: Panel, of_suite: Sequence[Result], left: float, width: float) -> None:
    """One panel: title, radar, legend, caption, from top to bottom."""
    own = [result for result in of_suite if belongs(result, panel)]
    measure = measure_of(own[0])
    ranked = sorted(own, key=lambda result: (-(result.metrics[measure.key] or 0.0), result.model))[:MOST_MODELS]
    named = {name for result in ranked for name in _by_category(result)}
    categories = [*(name for name in ORDER if name in named), *sorted(named.difference(ORDER))]
    axes = figure.add_axes((left + 0.16 * width, 0.36, 0.68 * width, 0.54), projection="polar")
    _axes(axes, categories, measure, _clearest_angle(ranked, categories))
    for index, result in enumerate(ranked):
        _line(axes, result, categories, index, _legend_label(result, measure))
    figure.text(
        left + 0.5 * width,
        0.975,
        plain_text(f"{panel.title}, judge {panel.judge_id or 'unknown'}"),
        ha="center",
        va="top",
        fontsize=13,
    )
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="upper center",
        bbox_to_anchor=(left + 0.5 * width, 0.305),
        frameon=False,
        fontsize=11,
        handlelength=3,
    )
    figure.text(
        left + 0.06 * width,
        0.015,
        _caption(own, ranked, measure, sum(result.withheld for result in of_suite)),
        va="bottom",
        fontsize=9.5,
        color="#333333",
    )


def _clearest_angle(results: Sequence[Result], categories: Sequence[str]) -> float:
    """Return the angle between the two neighbouring axes with the lowest figures.

    The scale's numbers stand there, where most of the circle is empty.
    """
    means = [statistics.fmean(_by_category(result).get(name, 0.0) for result in results) for name in categories]
    lowest = min(range(len(categories)), key=lambda index: means[index] + means[(index + 1) % len(categories)])
    return 2 * math.pi * (lowest + 0.5) / len(categories)


def _axes(axes: Any, categories: Sequence[str], measure: Measure, label_angle: float) -> None:
    """Set the first category on top, the others clockwise.

    The whole scale is shown, so that small differences do not look large.
    """
    low, high, ticks = (0.0, 10.0, (2, 4, 6, 8, 10)) if measure.key == "score" else (0.0, 100.0, (25, 50, 75, 100))
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_xticks(_angles(len(categories)), [plain_text(name) for name in categories], fontsize=13)
    axes.tick_params(axis="x", pad=10)
    for angle, label in zip(
        _angles(len(categories)), axes.get_xticklabels(), strict=True
    ):  # outside the circle: nothing drawn may cover a name
        label.set_horizontalalignment(
            "center" if abs(math.sin(angle)) < 0.1 else "left" if math.sin(angle) > 0 else "right"
        )
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [str(tick) for tick in ticks], fontsize=10, color="#444444")
    axes.set_rlabel_position(math.degrees(label_angle))
    axes.grid(color="#D8D8D8")
    axes.spines["polar"].set_color("#B0B0B0")


def _angles(count: int) -> list[float]:
    return [2 * math.pi * index / count for index in range(count)]


def _line(axes: Any, result: Result, categories: Sequence[str], index: int, label: str) -> None:
    """A closed line; a category without a scored question leaves a gap."""
    values = [_by_category(result).get(name, math.nan) for name in categories]
    angles = _angles(len(categories))
    look = {"color": COLOURS[index], "marker": MARKERS[index], "linestyle": DASHES[index % len(DASHES)]}
    axes.plot(
        [*angles, angles[0]], [*values, values[0]], label=label, linewidth=1.9, markersize=6.5, clip_on=False, **look
    )


def _legend_label(result: Result, measure: Measure) -> str:
    metrics = result.metrics
    prefix = "" if measure.key == "score" else f"{measure.key}_"
    low, high = metrics.get(f"{prefix}low"), metrics.get(f"{prefix}high")
    ends = f" [{low:.{measure.decimals}f}, {high:.{measure.decimals}f}]" if low is not None and high is not None else ""
    name = textwrap.shorten(plain_text(result.model), 48, placeholder=" …")
    return f"{name}  {metrics[measure.key]:.{measure.decimals}f}{ends}"


def _caption(own: Sequence[Result], ranked: Sequence[Result], measure: Measure, withheld: int) -> str:
    """Say what the lines are, how wide their intervals, and what is left out."""
    sentences = [
        f"Mean {measure.title} ({measure.unit}) by category. In brackets: 95 % intervals over questions, clustered by "
        "question."
    ]
    widths = _half_widths(ranked, measure)
    if widths:
        span = f"{min(widths):.{measure.decimals}f} to {max(widths):.{measure.decimals}f}"
        middle = f"{statistics.median(widths):.{measure.decimals}f}"
        sentences.append(
            f"A category's own interval is +/- {middle} at the median ({span}); it holds the questions' difficulty, "
            "which all models share, so compare two models by their paired difference."
        )
    sentences += [f"The best {len(ranked)} of {len(own)} models."] if len(ranked) < len(own) else []
    sentences += [f"{withheld} withheld results of the suite are left out."] if withheld else []
    return "\n".join(line for sentence in sentences for line in textwrap.wrap(sentence, 98))


def _half_widths(results: Sequence[Result], measure: Measure) -> list[float]:
    """Half the width of each category's interval; none where a category has one question."""
    prefix = "" if measure.key == "score" else f"{measure.key}_"
    figures = [category for result in results for category in (result.metrics.get("categories") or {}).values()]
    ends = [(figure.get(f"{prefix}low"), figure.get(f"{prefix}high")) for figure in figures]
    return [(high - low) / 2 for low, high in ends if low is not None and high is not None]
