"""Gain and harm of revising, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from seft_bench.report.render import to_markdown
from seft_bench.report.revisions import Revisions, revision_findings, revision_table
from seft_bench.stages.diagnostics import describe, gain_and_harm
from training.reviser import auc


def draft(
    before: float, after: float, kept: bool = False, statistic: float | None = None, annotated: bool = True
) -> dict[str, Any]:
    return {"before": before, "after": after, "kept": kept, "statistic": statistic, "annotated": annotated}


ROWS = [
    draft(9.5, 9.5, kept=True, statistic=-0.1),
    draft(9.0, 7.0, statistic=-0.6),
    draft(5.0, 8.0, statistic=-0.9),
    draft(4.0, 4.0, statistic=-0.5, annotated=False),
]


def test_harm_counts_good_drafts_only_and_gain_all() -> None:
    found = gain_and_harm(ROWS, auc)
    assert found["gain"] == pytest.approx((0 - 2 + 3 + 0) / 4)
    assert (found["good_drafts"], found["harmed_share"], found["harm"], found["kept_good_share"]) == (2, 0.5, 1.0, 0.5)
    # Good -0.1 beats both others, -0.6 beats -0.9 only: 3 of 4 pairs.
    assert found["decision_auc"] == 0.75


def test_nothing_is_claimed_of_no_drafts() -> None:
    found = gain_and_harm([], auc)
    assert found["gain"] is None
    assert found["harmed_share"] is None
    assert found["decision_auc"] is None


def stage(row: str, seeds: list[list[dict[str, Any]]], label: str = "") -> Revisions:
    return Revisions(
        row,
        label or row,
        "revised-2",
        seeds,
        [{"keep_rate": 0.25, "copy_rate": None, "edit_distance": 0.5, "decision_auc": 0.75}] * len(seeds),
    )


def test_the_table_has_a_row_a_stage_with_its_figures() -> None:
    table = revision_table([stage("seft", [ROWS, ROWS])], 9.0)
    values = {column.key: cell for column, cell in zip(table.columns, table.rows[0].cells, strict=True)}
    assert values["drafts"].value == 8
    assert values["good_drafts"].value == 4
    assert values["gain"].value == pytest.approx(0.25)
    assert values["harmed_share"].value == pytest.approx(50.0)
    assert values["harm"].value == pytest.approx(1.0)
    assert values["keep_rate"].value == pytest.approx(25.0)
    assert values["copy_rate"].value is None
    assert "seft" in to_markdown(table)


def many(after_good: float, kept: bool) -> list[list[dict[str, Any]]]:
    return [
        [draft(9.5, after_good, kept=kept, statistic=0.0) for _ in range(40)]
        + [draft(5.0, 8.0, statistic=-1.0) for _ in range(40)]
        for _ in range(3)
    ]


def test_less_harm_is_said_only_where_the_interval_excludes_zero() -> None:
    (sentence,) = revision_findings([stage("seft", many(9.5, True)), stage("always-rewrite", many(8.0, False))], 9.0)
    assert sentence.startswith("seft does less harm to good drafts than always-rewrite")
    assert "-1.500" in sentence
    (sentence,) = revision_findings([stage("seft", many(8.0, True)), stage("always-rewrite", many(8.0, False))], 9.0)
    assert "is not shown to do less harm" in sentence


def test_harm_is_compared_on_the_same_drafts_only() -> None:
    other = [[draft(9.9, 8.0) for _ in range(80)] for _ in range(3)]
    assert revision_findings([stage("seft", many(9.5, True)), stage("always-rewrite", other)], 9.0) == []


def test_diagnostics_read_as_lines() -> None:
    revised = {
        "drafts": 4,
        "keep_rate": 0.25,
        "copy_rate": None,
        "edit_distance": 0.5,
        "judge": "rubric",
        "grades": {"all": gain_and_harm(ROWS, auc)},
    }
    said = {
        "labels": {"label_counts": {"no_revise": 1, "major_revise": 3}},
        "calibration-1": {"calibration": {"poor_kept": 0.1, "good_kept": None}},
        "revised-1": {"diagnostics": revised},
    }
    lines = describe(said)
    assert lines[0] == "labels: 1 no_revise, 3 major_revise"
    assert lines[1] == "calibration-1: keeps 10 % of the poor and - of the good drafts"
    assert "gain by rubric: all +0.25; 50 % of 2 good drafts harmed" in lines[2]
