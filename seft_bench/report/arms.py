"""Results gathered into what is compared: a row's seeds in one panel, and intervals over questions and seeds.

Pure: no files, no network, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from seft_bench.errors import InputError
from seft_bench.records import Result, RunFacts, run_of
from seft_bench.stats.bootstrap import paired_interval, question_seed_interval
from seft_bench.stats.intervals import Interval
from seft_bench.stats.seeds import any_scored, grid, joint_interval

Arm: TypeAlias = Mapping[int, Result]
"""Training seed -> the result of one row's final checkpoint in one panel; withheld results are not in it."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Figures may be compared within a panel, never across."""

    suite: str
    judge_id: str
    decoding: str

    @property
    def title(self) -> str:
        return f"{self.suite}, {self.decoding}"


@dataclass(frozen=True, slots=True)
class Measure:
    """A suite's main metric.

    Attributes:
        key: name in `Result.metrics`.
        scale: turns `Result.per_question` into the metric's unit.
        decimals: digits shown after the point.
    """

    key: str
    title: str
    unit: str
    scale: float
    decimals: int


MEASURES = (Measure("win_rate", "win rate", "%", 100.0, 1), Measure("score", "score", "1-10", 1.0, 2))
LC = Measure("lc_win_rate", "LC win rate", "%", 1.0, 1)
CONTENT = Measure("content", "content", "0-1", 1.0, 3)
"""The rubric's grade of what an answer says, apart from its form: a part of each verdict."""
STYLE = Measure("style", "style", "0-1", 1.0, 3)
"""Its grade of manners: a courteous opening, and no bad habit."""


def measure_of(result: Result) -> Measure:
    """The main metric of a result's protocol.

    Raises:
        InputError: the result has none of the metrics that we know.
    """
    for measure in MEASURES:
        if measure.key in result.metrics:
            return measure
    known = ", ".join(measure.key for measure in MEASURES)
    raise InputError(
        f"result of {result.model!r} on {result.suite!r} has none of the metrics {known}; it has "
        f"{', '.join(sorted(result.metrics)) or 'none'}"
    )


def is_control(result: Result) -> bool:
    """Return whether it is a control without a model (a constant, a copy of the prompt, filler), not a trained one.

    `generators.controls` has them.
    """
    return result.run is not None and result.run.control != ""


def is_final(result: Result) -> bool:
    """Return whether it is of a run's last checkpoint, or of a control."""
    return result.run is not None and result.run.final


def in_table_order(results: Iterable[Result]) -> list[Result]:
    """By suite, decoding, judge and model: a table must not depend on the order in which files were read."""
    return sorted(results, key=lambda result: (result.suite, result.decoding, result.judge_id, result.model))


def by_suite(results: Iterable[Result]) -> list[list[Result]]:
    """The results of each suite, in the order given; the suites by name."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.suite, []).append(result)
    return [groups[suite] for suite in sorted(groups)]


def by_group(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by base and data, in order of first appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(run_of(result).group, []).append(result)
    return groups


def panels(results: Iterable[Result]) -> list[Panel]:
    """The panels, by suite and decoding in order of first appearance.

    A withheld result opens one only where there is no other of its suite and decoding.
    """
    everything = list(results)
    published = [_panel(result) for result in everything if not result.withheld]
    filled = {(panel.suite, panel.decoding) for panel in published}
    empty = [
        Panel(result.suite, "", result.decoding)
        for result in everything
        if (result.suite, result.decoding) not in filled
    ]
    suites = list(dict.fromkeys(result.suite for result in everything))
    # Greedy decoding comes after sampling, the suites' own way.
    decodings = sorted(dict.fromkeys(result.decoding for result in everything), key=lambda name: name == "greedy")
    return sorted(
        dict.fromkeys([*published, *empty]),
        key=lambda panel: (suites.index(panel.suite), decodings.index(panel.decoding)),
    )


def _panel(result: Result) -> Panel:
    return Panel(result.suite, result.judge_id, result.decoding)


def belongs(result: Result, panel: Panel) -> bool:
    return not result.withheld and _panel(result) == panel


def arm(results: Iterable[Result], panel: Panel) -> dict[int, Result]:
    """Seed -> result of the panel, for the results of one row at one step.

    Raises:
        InputError: one seed twice, as when the results of two runs of a matrix lie in one folder.
    """
    seeds: dict[int, Result] = {}
    for result in results:
        if not belongs(result, panel):
            continue
        seed = run_of(result).seed
        if seed in seeds:
            raise InputError(
                f"row {run_of(result).row!r}, seed {seed}, has two final results on {panel.title}: "
                f"{seeds[seed].model!r} and {result.model!r}. Keep one of them in the results folder and build the "
                "table again."
            )
        seeds[seed] = result
    return seeds


def mean_interval(candidate: Arm, measure: Measure) -> Interval | None:
    """Mean over questions and seeds with its 95 % interval, in the measure's unit; None where nothing is scored."""
    values = grid(_figures(candidate, sorted(candidate), measure), _questions(candidate), measure.scale)
    return question_seed_interval(values) if any_scored(values) else None


def bare_mean(candidate: Arm, measure: Measure) -> Interval | None:
    """Return the mean of the seeds' own figures, without an interval.

    For results whose figures of every question are not at hand.
    """
    figures = [result.metrics.get(measure.key) for result in candidate.values()]
    given = [float(figure) for figure in figures if figure is not None]
    return (
        Interval(math.fsum(given) / len(given), None, None, "no interval: figures of every question are not at hand")
        if given
        else None
    )


def difference(candidate: Arm, baseline: Arm, measure: Measure) -> Interval | None:
    """Return candidate - baseline, paired by question and seed.

    Over the seeds and questions of both; None where they share none.
    """
    seeds = sorted(set(candidate) & set(baseline))
    questions = sorted(set(_questions(candidate)) & set(_questions(baseline)))
    first, second = (grid(_figures(side, seeds, measure), questions, measure.scale) for side in (candidate, baseline))
    return paired_interval(first, second) if any_scored(first - second) else None


def on_fewer_prompts(run: RunFacts, reference: RunFacts) -> bool:
    """Return whether a run is the reference's method on a part of its unannotated prompts (the equal-steps control)."""
    prompts, of_reference = run.unannotated_prompts or 0, reference.unannotated_prompts or 0
    return run.method == reference.method and 0 < prompts < of_reference


def excludes_zero(interval: Interval) -> bool:
    """Return whether the interval shows a difference; without an interval nothing is shown."""
    return interval.low is not None and interval.high is not None and (interval.low > 0.0 or interval.high < 0.0)


def overlap(first: Interval, second: Interval) -> bool:
    """Return whether the gap is within both intervals' joint width.

    For figures that cannot be paired question by question; a paired interval would be narrower.
    """
    if first.high is None or second.high is None:
        return False
    return abs(first.mean - second.mean) <= math.hypot(first.high - first.mean, second.high - second.mean)


def length_controlled(candidate: Arm) -> Interval | None:
    """Mean LC over seeds, in percent, with `joint_interval`; None unless every seed has one."""
    rows = [candidate[seed].metrics for seed in sorted(candidate)]
    if not rows or any(row.get("lc_win_rate") is None for row in rows):
        return None
    return joint_interval([Interval(row["lc_win_rate"], row.get("lc_low"), row.get("lc_high"), "") for row in rows])


def _questions(candidate: Arm) -> list[str]:
    """Sorted, so that a resampling does not depend on the order in a file."""
    return sorted({question for result in candidate.values() for question in result.per_question})


def _figures(candidate: Arm, seeds: Iterable[int], measure: Measure) -> list[Mapping[str, float]]:
    results = [candidate[seed] for seed in seeds]
    is_part = measure in (CONTENT, STYLE)
    return [result.parts.get(measure.key, {}) if is_part else result.per_question for result in results]
