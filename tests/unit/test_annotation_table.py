"""Task types that a row's data annotate, and all others, apart: figures by hand."""

from __future__ import annotations

import math

import pytest

from seft_bench.records import Result, RunFacts
from seft_bench.report.annotation import Annotated, annotation_table
from seft_bench.report.render import RENDERERS

TYPES = {"q1": "note", "q2": "note", "q3": "kind", "q4": "add"}


def result(row: str, seed: int, data: str, scores: list[float], style: float = 1.0, role: str = "method") -> Result:
    run = RunFacts(row, row.upper(), role, row, seed, step=9, final=True, data=data)
    questions = list(TYPES)
    return Result(
        "tiny-mtbench",
        f"{data}-{row}-seed{seed}",
        {"score": sum(scores) / 4},
        4, 4, 0, 1.0, False, "rubric", "greedy",
        per_question=dict(zip(questions, scores, strict=True)),
        parts={"content": dict.fromkeys(questions, 0.5), "style": dict.fromkeys(questions, style)},
        run=run,
    )  # fmt: skip


def figures(results: list[Result], groups: dict[str, list[str]]) -> dict[tuple[str, str, str], list[float | None]]:
    """(data, method, task types) -> questions, mean, content, style, differences to start and SEFT."""
    table = annotation_table(results, Annotated({"tiny-mtbench": TYPES}, groups))
    return {
        (str(row.cells[2].value), str(row.cells[3].value), str(row.cells[4].value)): [
            None if cell.value is None else float(cell.value) for cell in (row.cells[5], *row.cells[7:])
        ]
        for row in table.rows
    }


def test_each_data_set_parts_the_questions_by_its_own_types() -> None:
    found = figures(
        [
            result("start", 0, "note", [2, 4, 6, 9], 0.25, "start"),
            result("seft", 0, "note", [3, 6, 6, 10]),
            result("start", 0, "all", [1, 1, 1, 1], role="start"),
        ],
        {"note": ["note"], "all": ["note", "kind", "add"]},
    )
    # (2 + 4) / 2, (6 + 9) / 2; SEFT (3 + 6) / 2 and (6 + 10) / 2.
    assert found == {
        ("note", "START", "annotated"): [2, 3.0, 0.5, 0.25, None, -1.5],
        ("note", "SEFT", "annotated"): [2, 4.5, 0.5, 1.0, 1.5, None],
        ("note", "START", "never annotated"): [2, 7.5, 0.5, 0.25, None, -0.5],
        ("note", "SEFT", "never annotated"): [2, 8.0, 0.5, 1.0, 0.5, None],
        ("all", "START", "annotated"): [4, 1.0, 0.5, 1.0, None, None],
    }


def test_seeds_are_paired_and_have_an_interval() -> None:
    results = [
        result(row, seed, "", [4 + seed + gain, 5 + gain, 6, 7], role=role)
        for seed in (0, 1, 2)
        for row, gain, role in (("start", 0.0, "start"), ("seft", 1.0, "method"))
    ]
    table = annotation_table(results, Annotated({"tiny-mtbench": TYPES}, {"": ["note"]}))
    cell = table.rows[1].cells[-2]
    assert (cell.value, cell.low, cell.high) == (1.0, 1.0, 1.0)  # every seed and question gains exactly one
    mean = table.rows[0].cells[7]
    assert mean.value == pytest.approx((4 + 5 + 5 + 5 + 6 + 5) / 6)
    assert mean.low is not None
    assert mean.high is not None
    assert mean.low < float(mean.value or math.nan) < mean.high
    assert "never annotated" in RENDERERS["md"](table)


def test_runs_on_other_data_and_checkpoints_before_the_last_are_left_out() -> None:
    early = RunFacts("seft", "", "method", "seft", 0, step=1, final=False)
    other = result("seft", 0, "mine", [1, 1, 1, 1])
    results = [other, Result("tiny-mtbench", "m", {"score": 1.0}, 4, 4, 0, 1.0, False, run=early)]
    assert not annotation_table(results, Annotated({"tiny-mtbench": TYPES}, {"": ["note"]})).rows
