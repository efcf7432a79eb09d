"""One method of a matrix against others, over all data sets that annotate equally many task types. Pure.

The runs of a pool are its data sets times its seeds: a seed stands on every data set, so the design crosses both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from seft_bench.records import Result
from seft_bench.report.annotation import PARTS, Annotated
from seft_bench.report.arms import CONTENT, STYLE, Measure, Panel, excludes_zero, measure_of, panels
from seft_bench.report.pools import Arm, Pool, Run, arms_of, members, questions_of, runs_of, seeds_of
from seft_bench.stats.simultaneous import (
    Figures,
    Floats,
    Simultaneous,
    differences,
    grids,
    only,
    simultaneous_intervals,
)

ALL = "all"
PARTS_OF_ALL = (ALL, *PARTS)
"""All questions; those of annotated task types; all others."""

Verdict = Literal["ahead", "ahead alone", "tie", "behind alone", "behind"]


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        pools: data sets that are taken together.
        methods: row -> the method that it is of; rows of one method stand on different data sets.
        labels: method -> its name in tables.
        compared: method -> the methods that it is compared with.
        annotated: what the suites ask and the data sets annotate.
        tests: compared method and other -> what their difference would be owed to ("training the reviser"), where
            the other lacks that one thing.
        lines: row -> the line of `prompts.png` that it is a point of.
    """

    pools: Sequence[Pool]
    methods: Mapping[str, str]
    labels: Mapping[str, str]
    compared: Mapping[str, Sequence[str]]
    annotated: Annotated
    tests: Mapping[tuple[str, str], str] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """The difference of two methods in one pool, panel and part of the questions.

    Attributes:
        found: row - other, paired by question, seed and data set.
        rows: how many rows it is corrected for, itself included.
        ahead: data sets on which the mean difference is above 0.
    """

    pool: Pool
    panel: Panel
    part: str
    row: str
    other: str
    measure: Measure
    found: Simultaneous
    rows: int
    data_sets: int
    seeds: int
    runs: int
    questions: int
    ahead: int

    @property
    def verdict(self) -> Verdict:
        """What holds: with the correction for all rows that are compared, by its own interval alone, or nothing."""
        alone, corrected = self.found.alone, self.found.corrected
        if not excludes_zero(alone):
            return "tie"
        if excludes_zero(corrected):
            return "ahead" if alone.mean > 0 else "behind"
        return "ahead alone" if alone.mean > 0 else "behind alone"


def compare(results: Iterable[Result], study: Study) -> list[Compared]:
    """Every comparison, pool by pool, panel by panel, in the order of the matrix's rows."""
    final = list(results)
    found = []
    for pool in study.pools:
        own = members(final, pool)
        for panel in panels(own):
            arms = arms_of(own, panel, study.methods)
            for row, others in study.compared.items():
                there = [other for other in others if other in arms]
                if row in arms and there:
                    found += _compare(study.annotated, pool, panel, row, {name: arms[name] for name in [row, *there]})
    return found


def _compare(annotated: Annotated, pool: Pool, panel: Panel, row: str, arms: Mapping[str, Arm]) -> list[Compared]:
    runs, questions = runs_of(arms.values()), questions_of(arms.values())
    first = next(iter(arms[row].values()))
    found = []
    for measure in (measure_of(first), CONTENT, STYLE):
        figures = [[_figures(arm.get(run), measure) for run in runs] for arm in arms.values()]
        values = grids(figures, questions, measure.scale)
        for part in PARTS_OF_ALL if panel.suite in annotated.types else (ALL,):
            kept = values if part == ALL else only(values, _kept(annotated, panel.suite, runs, questions, part))
            found += _of_part(pool, panel, part, row, list(arms)[1:], measure, runs, kept)
    return sorted(found, key=lambda item: PARTS_OF_ALL.index(item.part))


def _figures(result: Result | None, measure: Measure) -> Figures | None:
    if result is None:
        return None
    return result.parts.get(measure.key) if measure in (CONTENT, STYLE) else result.per_question


def _kept(
    annotated: Annotated, suite: str, runs: Sequence[Run], questions: Sequence[str], part: str
) -> list[list[bool]]:
    types = [annotated.types[suite].get(question) for question in questions]
    own = {group: set(annotated.groups[group]) for group, _ in runs}
    return [[(name in own[group]) is (part == PARTS[0]) for name in types] for group, _ in runs]


def _of_part(
    pool: Pool,
    panel: Panel,
    part: str,
    row: str,
    others: Sequence[str],
    measure: Measure,
    runs: Sequence[Run],
    values: Floats,
) -> list[Compared]:
    """The differences of a row to all others, corrected together."""
    gaps = differences(values[0], values[1:])
    intervals = simultaneous_intervals(gaps.values)
    kept = [runs[run] for run in gaps.runs]
    places = {group: [place for place in gaps.runs if runs[place][0] == group] for group in dict(kept)}
    return [
        Compared(
            pool,
            panel,
            part,
            row,
            other,
            measure,
            found,
            rows=sum(interval is not None for interval in intervals),
            data_sets=len(places),
            seeds=seeds_of(kept),
            runs=gaps.shape_of(arm)[0],
            questions=gaps.shape_of(arm)[1],
            ahead=sum(gaps.mean_over(arm, own) > 0 for own in places.values()),
        )
        for arm, (other, found) in enumerate(zip(others, intervals, strict=True))
        if found is not None
    ]
