"""The work of a matrix's revisers on drafts, by a judge's grades: gain, harm to good drafts, keep rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seft_bench.report.tables import Cell, Column, Table, TableRow, interval_cell
from seft_bench.stats.bootstrap import paired_interval, question_seed_interval
from seft_bench.stats.intervals import Interval
from seft_bench.stats.seeds import any_scored, grid

Graded = Mapping[str, Any]
"""One draft: `{"annotated", "kept", "statistic", "before", "after"}`, grades 1-10."""


@dataclass(frozen=True)
class Revisions:
    """One revise stage of one matrix row, over seeds.

    Attributes:
        row, label: the matrix row's.
        stage: "revised-1" is the first round's.
        seeds: graded drafts of each seed.
        summaries: what the stage said of itself, one a seed (keep rate, copy rate, ...).
    """

    row: str
    label: str
    stage: str
    seeds: Sequence[Sequence[Graded]]
    summaries: Sequence[Mapping[str, Any]]


DRAFT_COLUMNS = (
    Column("drafts", "drafts", kind="number"),
    Column("keep_rate", "kept", unit="%", kind="number", decimals=1),
    Column("copy_rate", "copies among the revised", unit="%", kind="number", decimals=1),
    Column("edit_distance", "edit distance of the revised", kind="number", decimals=2),
)
"""Columns of what a stage says of its drafts without grades; tables over seeds and of single runs have them alike."""
GAIN_COLUMNS = (
    Column("gain", "gain", kind="interval", role="main", decimals=2),
    Column("gain_annotated", "gain, annotated types", kind="interval", decimals=2),
    Column("gain_unannotated", "gain, unannotated types", kind="interval", decimals=2),
)
HARM_COLUMNS = (
    Column("good_drafts", "good drafts", kind="number"),
    Column("harmed_share", "good drafts harmed", unit="%", kind="interval", role="main", decimals=1),
)
AUC_COLUMN = Column("decision_auc", "AUC of the decision", kind="number", decimals=2)
COLUMNS = (
    Column("label", "method", role="label"),
    Column("stage", "stage", role="label"),
    *DRAFT_COLUMNS,
    Column("before", "grade before", kind="number", decimals=2),
    *GAIN_COLUMNS,
    *HARM_COLUMNS,
    Column("harm", "mean loss of good drafts", kind="interval", role="main", decimals=3),
    AUC_COLUMN,
)


def revision_table(stages: Sequence[Revisions], good_grade: float) -> Table:
    """One row a revise stage; every mean with its interval over drafts and seeds."""
    notes = (
        f"A good draft has a grade of at least {good_grade:g} before; harm is what revising takes from it.",
        "Internal evolution (best of the policy's own samples) is shown as a revision of the first sample.",
        "Intervals: 95 %, bootstrap over drafts and seeds.",
    )
    return Table(
        "What revising did to the drafts",
        COLUMNS,
        tuple(TableRow(tuple(_cells(stage, good_grade))) for stage in stages),
        notes,
    )


def _cells(stage: Revisions, good_grade: float) -> list[Cell]:
    rows = [row for seed in stage.seeds for row in seed]
    good = [row for row in rows if row["before"] >= good_grade]
    return [
        Cell(stage.label),
        Cell(stage.stage),
        Cell(len(rows)),
        Cell(_mean_of(stage, "keep_rate", 100.0)),
        Cell(_mean_of(stage, "copy_rate", 100.0)),
        Cell(_mean_of(stage, "edit_distance")),
        Cell(math.fsum(row["before"] for row in rows) / len(rows) if rows else None),
        interval_cell(_interval(stage, _gain)),
        interval_cell(_interval(stage, _gain, lambda row: row["annotated"] is True)),
        interval_cell(_interval(stage, _gain, lambda row: row["annotated"] is False)),
        Cell(len(good)),
        interval_cell(_interval(stage, lambda row: 100.0 * (_loss(row) > 0), lambda row: row["before"] >= good_grade)),
        interval_cell(_interval(stage, _loss, lambda row: row["before"] >= good_grade)),
        Cell(_mean_of(stage, "decision_auc")),
    ]


def _gain(row: Graded) -> float:
    return float(row["after"] - row["before"])


def _loss(row: Graded) -> float:
    return max(0.0, float(row["before"] - row["after"]))


def _mean_of(stage: Revisions, key: str, scale: float = 1.0) -> float | None:
    values = [summary[key] for summary in stage.summaries if summary.get(key) is not None]
    return scale * math.fsum(values) / len(values) if values else None


def _values(
    seeds: Sequence[Sequence[Graded]], value: Callable[[Graded], float], counts: Callable[[Graded], bool]
) -> Any:
    """(seeds, drafts); NaN for drafts that do not count."""
    longest = max((len(seed) for seed in seeds), default=0)
    figures = [{str(index): value(row) for index, row in enumerate(seed) if counts(row)} for seed in seeds]
    return grid(figures, [str(index) for index in range(longest)])


def _interval(
    stage: Revisions, value: Callable[[Graded], float], counts: Callable[[Graded], bool] = lambda row: True
) -> Interval | None:
    values = _values(stage.seeds, value, counts)
    return question_seed_interval(values) if any_scored(values) else None


def revision_findings(stages: Sequence[Revisions], good_grade: float) -> list[str]:
    """In words, from the same drafts: does SEFT harm good drafts less than always rewriting?"""
    found = {(stage.row, stage.stage): stage for stage in stages}
    sentences = []
    for (row, name), stage in found.items():
        other = found.get(("always-rewrite", name))
        if (
            row == "seft"
            and other
            and _same_drafts(stage, other)
            and any(not draft["kept"] for draft in _all(other))
            and name != _internal(stage)
        ):
            sentences.append(_harm_sentence(stage, other, good_grade))
    return sentences


def _internal(stage: Revisions) -> str:
    """The stage's name where nothing was revised by writing: internal evolution has no statistic and no threshold."""
    return stage.stage if all(draft["statistic"] is None for draft in _all(stage)) else ""


def _all(stage: Revisions) -> list[Graded]:
    return [draft for seed in stage.seeds for draft in seed]


def _same_drafts(first: Revisions, second: Revisions) -> bool:
    return [[draft["before"] for draft in seed] for seed in first.seeds] == [
        [draft["before"] for draft in seed] for seed in second.seeds
    ]


def _harm_sentence(seft: Revisions, always: Revisions, good_grade: float) -> str:
    def is_good(row: Graded) -> bool:
        return bool(row["before"] >= good_grade)

    ours, theirs = (_values(stage.seeds, _loss, is_good) for stage in (seft, always))
    if not any_scored(ours):
        return f"{seft.label}, {seft.stage}: no draft was good before, so harm says nothing."
    gap = paired_interval(ours, theirs)
    verdict = "no interval" if gap.low is None or gap.high is None else f"[{gap.low:+.3f}, {gap.high:+.3f}]"
    excludes = gap.high is not None and gap.high < 0
    claim = "does less harm to good drafts than" if excludes else "is not shown to do less harm to good drafts than"
    return (
        f"{seft.label} {claim} {always.label} on the same drafts ({seft.stage}): mean loss {gap.mean:+.3f} grade "
        f"points apart, 95 % interval {verdict}."
    )
