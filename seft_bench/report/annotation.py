"""Questions of the task types that a row's data annotate, and of all others, apart: grade, content, style. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from seft_bench.records import Result, run_of
from seft_bench.report.arms import (
    CONTENT,
    STYLE,
    Arm,
    Measure,
    Panel,
    arm,
    by_group,
    difference,
    is_control,
    is_final,
    mean_interval,
    measure_of,
    panels,
)
from seft_bench.report.tables import Cell, Column, Table, TableRow, interval_cell

SEFT = "seft"
PARTS = ("annotated", "never annotated")


@dataclass(frozen=True)
class Annotated:
    """What a matrix's suites ask, and what its data sets annotate.

    Attributes:
        types: suite -> question id -> task type.
        groups: base and data of a run, as `RunFacts.group` -> annotated task types.
    """

    types: Mapping[str, Mapping[str, str]]
    groups: Mapping[str, Collection[str]]

    def part_of(self, result: Result, part: str) -> Result:
        """Return the result with the figures of one part of its questions only."""
        own, types = self.groups[run_of(result).group], self.types[result.suite]
        kept = {question for question, name in types.items() if (name in own) is (part == PARTS[0])}
        return dataclasses.replace(
            result,
            per_question=_only(result.per_question, kept),
            parts={name: _only(figures, kept) for name, figures in result.parts.items()},
        )


def _only(figures: Mapping[str, float], kept: Collection[str]) -> dict[str, float]:
    return {question: figure for question, figure in figures.items() if question in kept}


def annotation_table(results: Iterable[Result], annotated: Annotated) -> Table:
    """Make a row of each suite, decoding, data set, method and part of the questions.

    Differences are paired by question and seed, on the same base and data.
    """
    known = [
        result
        for result in results
        if is_final(result)
        and not is_control(result)
        and run_of(result).group in annotated.groups
        and result.suite in annotated.types
    ]
    rows = [
        row
        for group, members in by_group(known).items()
        for panel in panels(members)
        for part in PARTS
        for row in _rows(group, panel, part, [annotated.part_of(result, part) for result in _asked(members, panel)])
    ]
    notes = (
        "Annotated: of questions whose task type the row's own data annotate; never annotated: of all others.",
        "Differences are paired by question and seed. Intervals: 95 %, bootstrap over questions and seeds; each stands "
        "alone, nothing is corrected for the number of comparisons.",
    )
    return Table("Annotated and never annotated task types", COLUMNS, tuple(rows), notes)


def _asked(results: Sequence[Result], panel: Panel) -> list[Result]:
    """Those of a panel's suite and decoding, also where they are withheld."""
    return [result for result in results if (result.suite, result.decoding) == (panel.suite, panel.decoding)]


def _rows(group: str, panel: Panel, part: str, members: Sequence[Result]) -> list[TableRow]:
    by_row: dict[str, list[Result]] = {}
    for result in members:
        by_row.setdefault(run_of(result).row, []).append(result)
    arms = {name: found for name, own in by_row.items() if (found := arm(own, panel))}
    measure = measure_of(members[0])
    starts = [name for name, own in by_row.items() if run_of(own[0]).role == "start"]
    references = [starts[0] if starts else "", SEFT]
    return [
        TableRow(
            (
                *(Cell(text) for text in (panel.suite, panel.decoding, group, _label(own), part)),
                Cell(len({question for result in own.values() for question in result.per_question})),
                Cell(measure.title),
                *(interval_cell(mean_interval(own, each)) for each in (measure, CONTENT, STYLE)),
                *(_difference_cell(own, arms.get(name), measure) for name in references),
            )
        )
        for own in arms.values()
        if any(result.per_question for result in own.values())
    ]


def _label(own: Arm) -> str:
    run = run_of(next(iter(own.values())))
    return run.label or run.row


def _difference_cell(own: Arm, reference: Arm | None, measure: Measure) -> Cell:
    if reference is None or reference is own:
        return Cell(None)
    return interval_cell(difference(own, reference, measure))


COLUMNS = (
    Column("suite", "suite", role="label"),
    Column("decoding", "decoding", role="label"),
    Column("group", "data", role="label"),
    Column("label", "method", role="label"),
    Column("part", "task types", role="label"),
    Column("questions", "questions", kind="number"),
    Column("measure", "figure", role="label"),
    Column("main", "mean", kind="interval", role="main", decimals=2),
    Column("content", "content", unit="0-1", kind="interval", decimals=3),
    Column("style", "style", unit="0-1", kind="interval", decimals=3),
    Column("to_start", "difference to the start", kind="difference", decimals=2),
    Column("to_seft", "difference to SEFT", kind="difference", decimals=2),
)
