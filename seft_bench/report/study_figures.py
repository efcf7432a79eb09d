"""Pictures of a study: scores against how much is annotated, and against unannotated prompts.

matplotlib is imported when one is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.records import Result
from seft_bench.report.annotation import SEFT
from seft_bench.report.arms import Panel
from seft_bench.report.curves import Points, panel_measure
from seft_bench.report.figures import shown_text
from seft_bench.report.pools import Pool
from seft_bench.report.study import Compared, Study
from seft_bench.report.study_drawing import TITLE, Looks, draw_bars, draw_foot, draw_legend, draw_lines, looks_of, save
from seft_bench.report.study_points import (
    Line,
    all_panels,
    annotation_groups,
    annotation_lines,
    difference_points,
    prompt_groups,
    prompt_lines,
)
from seft_bench.results import slug

WIDTH_INCHES = 14.0


def study_pictures(
    folder: Path, results: Sequence[Result], study: Study, found: Sequence[Compared]
) -> dict[str, list[Path]]:
    """Draw what the study has points for, and return title -> files; several of a kind are named by what differs.

    annotation.png where data sets annotate different numbers of types; prompts.png where rows of one line, or data
    sets, differ in their unannotated prompts.
    """
    by_types, by_prompts = [], []
    groups = annotation_groups(study.pools)
    for base, pools in groups.items():
        path = folder / f"annotation{f'-{slug(base)}' if len(groups) > 1 else ''}.png"
        by_types += [path] if draw_annotation(path, results, study, found, pools) else []
    lines = {name: (pools, prompt_lines(results, study, pools)) for name, pools in prompt_groups(study.pools).items()}
    several = {name: own for name, own in lines.items() if _is_any_joined(own[1])}
    for name, (pools, own) in several.items():
        path = folder / f"prompts{f'-{slug(name)}' if len(several) > 1 else ''}.png"
        draw_prompts(path, results, name, pools, own)
        by_prompts.append(path)
    titles = {
        "Scores against the number of annotated types": by_types,
        "Scores against unannotated prompts": by_prompts,
    }
    return {title: paths for title, paths in titles.items() if paths}


def _is_joined(line: Line) -> bool:
    return any(len(points) > 1 for points in line.points.values())


def _is_any_joined(lines: Mapping[str, Line]) -> bool:
    return any(map(_is_joined, lines.values()))


# Against the number of annotated types


def draw_annotation(
    path: Path, results: Sequence[Result], study: Study, found: Sequence[Compared], pools: Sequence[Pool]
) -> bool:
    """Draw scores (top) and the compared method minus each other (bottom), a column a suite and decoding.

    Returns:
        Whether there was anything to draw.
    """
    everything = annotation_lines(results, study, pools)
    lines = {name: line for name, line in everything.items() if line.role != "start"}  # far below all others
    if not _is_any_joined(lines):
        return False
    row = next(iter(study.compared))
    gaps, looks = difference_points(found, pools, row), looks_of(lines, row)
    compared = shown_text(study.labels[row])

    def compose(figure: Any) -> None:
        title = f"Score against the number of annotated task types (top); {compared} minus each other (bottom)"
        figure.suptitle(title, **TITLE)
        panels = all_panels(lines)
        space = {"left": 0.05, "right": 0.83, "top": 0.9, "bottom": 0.165, "hspace": 0.16, "wspace": 0.27}
        grid = figure.add_gridspec(2, len(panels), **space)
        for column, panel in enumerate(panels):
            scores = {name: line.points.get(panel, []) for name, line in lines.items()}
            differences = {name: points.get(panel, []) for name, points in gaps.items()}
            top, bottom = (figure.add_subplot(grid[place, column]) for place in (0, 1))
            _annotation_column(top, bottom, panel, pools, results, (scores, differences), looks, _opens(panels, column))
        draw_legend(figure, [(lines[name].name, look) for name, look in looks.items()], 0.91)
        said = (
            f"Bottom: above 0 {compared} is better; intervals are paired, and corrected for all methods compared. The "
            "start is not drawn."
        )
        draw_foot(figure, results, pools, said)

    save(path, (WIDTH_INCHES, 9.0), compose)
    return True


def _annotation_column(
    top: Any,
    bottom: Any,
    panel: Panel,
    pools: Sequence[Pool],
    results: Sequence[Result],
    points: tuple[Mapping[str, Points], Mapping[str, Points]],
    looks: Looks,
    is_first: bool,
) -> None:
    measure = panel_measure(results, panel)
    for axes, own in zip((top, bottom), points, strict=True):
        draw_lines(axes, own, looks, spread=0.56)
        _categories(axes, pools)
    bottom.axhline(0.0, color="black", linewidth=1.2, zorder=1)
    top.set_title(shown_text(panel.title), loc="left", fontsize=11)
    bottom.set_xlabel("annotated task types")
    if is_first:
        top.set_ylabel(f"{measure.title} ({measure.unit})")
        bottom.set_ylabel(f"difference in {measure.title}")


def _opens(panels: Sequence[Panel], column: int) -> bool:
    """Return whether a column is the first of its suite, which says what is shown."""
    return column == 0 or panels[column].suite != panels[column - 1].suite


def _categories(axes: Any, pools: Sequence[Pool]) -> None:
    """Name every pool below its position: the number of types, and what else its data sets say where that differs."""
    differ = len({pool.said for pool in pools}) > 1
    axes.set_xticks(range(len(pools)), ["\n".join([str(pool.types), *(pool.said if differ else ())]) for pool in pools])
    axes.set_xlim(-0.5, len(pools) - 0.5)


# Against unannotated prompts


def draw_prompts(
    path: Path, results: Sequence[Result], name: str, pools: Sequence[Pool], lines: Mapping[str, Line]
) -> None:
    """Draw scores by unannotated prompts on a logarithmic axis; rows that use none are level lines."""
    joined = [key for key, line in lines.items() if _is_joined(line)]
    of_seft = [key for key in joined if (lines[key].method, lines[key].role) == (SEFT, "method")]
    looks = looks_of(lines, next(iter(of_seft), None))

    def compose(figure: Any) -> None:
        figure.suptitle(f"Score against unannotated prompts: {shown_text(name)}", **TITLE)
        panels = all_panels(lines)
        grid = figure.add_gridspec(1, len(panels), left=0.05, right=0.83, top=0.85, bottom=0.26, wspace=0.27)
        for column, panel in enumerate(panels):
            axes, measure = figure.add_subplot(grid[0, column]), panel_measure(results, panel)
            _prompt_axes(axes, {key: line.points.get(panel, []) for key, line in lines.items()}, looks)
            axes.set_title(shown_text(panel.title), loc="left", fontsize=11)
            axes.set_xlabel("unannotated prompts")
            axes.set_ylabel(f"{measure.title} ({measure.unit})" if _opens(panels, column) else "")
        draw_legend(figure, [(lines[key].name, look) for key, look in looks.items()], 0.86)
        draw_foot(figure, results, pools, "Level lines: methods that use no unannotated prompts.")

    save(path, (WIDTH_INCHES, 5.6), compose)


def _prompt_axes(axes: Any, points: Mapping[str, Points], looks: Looks) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    amounts = sorted({x for own in points.values() for x, _ in own if x > 0})
    axes.set_xscale("log")
    for place, (key, own) in enumerate(points.items()):
        used = [(x * 1.025 ** (place - (len(points) - 1) / 2), score) for x, score in own if x > 0]
        axes.plot([x for x, _ in used], [score.mean for _, score in used], **looks[key])
        draw_bars(axes, used, looks[key])
        for _, score in [point for point in own if point[0] == 0]:
            level = {key: value for key, value in looks[key].items() if key in ("color", "linestyle", "linewidth")}
            axes.axhline(score.mean, **level)
    axes.set_xticks(_apart(amounts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda amount, _: f"{amount:,.0f}"))


def _apart(amounts: Sequence[float]) -> list[float]:
    """Leave out amounts whose names would overlap those before them."""
    kept: list[float] = []
    for amount in amounts:
        if not kept or amount > 1.45 * kept[-1]:
            kept.append(amount)
    return kept
