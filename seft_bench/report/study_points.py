"""Points of a study's pictures: scores against how much is annotated, and against unannotated prompts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from seft_bench.records import Result, run_of
from seft_bench.report.arms import CONTENT, STYLE, Panel, measure_of, panels
from seft_bench.report.curves import Points
from seft_bench.report.pools import Arm, Pool, arms_of, members, questions_of, runs_of
from seft_bench.report.study import ALL, Compared, Study
from seft_bench.stats.bootstrap import question_seed_interval
from seft_bench.stats.intervals import Interval
from seft_bench.stats.seeds import any_scored
from seft_bench.stats.simultaneous import grids


@dataclass
class Line:
    """One line of a picture.

    Attributes:
        role, method: of its first row, as in the matrix.
        points: panel -> x and score.
    """

    name: str
    role: str
    method: str
    points: dict[Panel, Points] = field(default_factory=dict)


def mean_score(own: Arm) -> Interval | None:
    """Mean over a pool's questions and runs in the measure's unit; None where nothing is scored."""
    measure = measure_of(next(iter(own.values())))
    figures = [[own[run].per_question for run in runs_of([own])]]
    values = grids(figures, questions_of([own]), measure.scale)[0]
    return question_seed_interval(values) if any_scored(values) else None


def annotation_lines(results: Sequence[Result], study: Study, pools: Sequence[Pool]) -> dict[str, Line]:
    """Method -> its scores by the pools' positions."""
    lines: dict[str, Line] = {}
    for position, pool in enumerate(pools):
        own = members(results, pool)
        for panel in panels(own):
            for method, arm in arms_of(own, panel, study.methods).items():
                line = lines.setdefault(method, _line(study.labels[method], arm))
                _add(line, panel, float(position), mean_score(arm))
    return {method: lines[method] for method in study.labels if method in lines}


def difference_points(found: Iterable[Compared], pools: Sequence[Pool], row: str) -> dict[str, dict[Panel, Points]]:
    """Method -> the compared row minus it over all questions, by the pools' positions, with corrected intervals."""
    points: dict[str, dict[Panel, Points]] = {}
    for item in found:
        is_main = item.measure not in (CONTENT, STYLE)
        if item.row == row and item.part == ALL and is_main and item.pool in pools:
            own = points.setdefault(item.other, {}).setdefault(item.panel, [])
            own.append((float(pools.index(item.pool)), item.found.corrected))
    return points


def prompt_lines(results: Sequence[Result], study: Study, pools: Sequence[Pool]) -> dict[str, Line]:
    """Name -> scores by unannotated prompts: lines of two amounts or more, and rows that use none, at 0."""
    lines: dict[str, Line] = {}
    rows = {row: row for row in study.lines}
    for pool in pools:
        own = members(results, pool)
        for panel in panels(own):
            for row, arm in arms_of(own, panel, rows).items():
                line = lines.setdefault(study.lines[row], _line(study.lines[row], arm))
                prompts = fmean(run_of(result).unannotated_prompts or 0 for result in arm.values())
                _add(line, panel, prompts, mean_score(arm))
    return {name: line for name, line in lines.items() if len(_xs(line)) > 1 or not any(_xs(line))}


def _line(name: str, arm: Arm) -> Line:
    run = run_of(next(iter(arm.values())))
    return Line(name, run.role, run.method)


def _add(line: Line, panel: Panel, x: float, score: Interval | None) -> None:
    if score is not None:
        line.points.setdefault(panel, []).append((x, score))
        line.points[panel].sort(key=lambda point: point[0])


def _xs(line: Line) -> set[float]:
    return {x for points in line.points.values() for x, _ in points}


def annotation_groups(pools: Sequence[Pool]) -> dict[str, list[Pool]]:
    """Base -> its pools, where these annotate different numbers of types."""
    by_base: dict[str, list[Pool]] = {}
    for pool in pools:
        by_base.setdefault(pool.base, []).append(pool)
    return {base: own for base, own in by_base.items() if len({pool.types for pool in own}) > 1}


def prompt_groups(pools: Sequence[Pool]) -> dict[str, list[Pool]]:
    """Name -> pools that differ in nothing but their unannotated prompts."""
    groups: dict[str, list[Pool]] = {}
    for pool in pools:
        groups.setdefault(Pool(pool.base, pool.types, pool.amounts, ()).name, []).append(pool)
    return groups


def all_panels(lines: Mapping[str, Line]) -> list[Panel]:
    """The panels of some lines, suite by suite, in order of first appearance."""
    found = list(dict.fromkeys(panel for line in lines.values() for panel in line.points))
    suites = list(dict.fromkeys(panel.suite for panel in found))
    return sorted(found, key=lambda panel: (suites.index(panel.suite), panel.decoding == "greedy"))
