"""A matrix's plan as lines for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from seft_bench.bench.plan import BenchPlan, CellState, Part
from seft_bench.bench.probe import Hours
from seft_bench.config import data_row


def short_names(judges: Sequence[str]) -> dict[str, str]:
    """Judge -> its name for people: a file's without folder and ending, unless two would then be called the same.

    >>> short_names(["rubric", "mine/gpt.yaml"]), short_names(["a/gpt.yaml", "b/gpt.yaml"])
    ({'rubric': 'rubric', 'mine/gpt.yaml': 'gpt'}, {'a/gpt.yaml': 'a/gpt.yaml', 'b/gpt.yaml': 'b/gpt.yaml'})
    """
    short = {judge: PurePath(judge).stem if judge.endswith((".yaml", ".yml")) else judge for judge in judges}
    return {judge: name if list(short.values()).count(name) == 1 else judge for judge, name in short.items()}


def judge_price(plan: BenchPlan) -> list[str]:
    """Say what the judges would be asked, one line a judge, and what that costs."""
    lines, names = [], short_names(list(plan.prices))
    for line in plan.judging().lines:
        price = (
            "price unknown"
            if line.usd is None
            else f"about {line.usd[0]:.2f} to {line.usd[1]:.2f} USD"
            if line.asked_model
            else "runs here, 0 USD"
        )
        lines.append(
            f"judge {names[line.by]}: {line.wanted - line.at_hand:,} verdicts to ask, {line.at_hand:,} at hand; {price}"
        )
    if asked := plan.grading.to_ask("judge"):
        unknown = "; price unknown" if plan.grading.unknown else ""
        low, high = plan.grading.usd
        lines.append(f"grading samples while rows train: {asked:,} to ask; about {low:.2f} to {high:.2f} USD{unknown}")
    return lines


def summary(plan: BenchPlan) -> list[str]:
    """The plan in a few lines."""
    trained = sum(state.is_trained for state in plan.todo)
    answers = sum((state.answers for state in plan.todo), Part(0, 0))
    changed = [state.cell.name for state in plan.todo if state.is_changed]
    counts = {word: sum(state.state == word for state in plan.cells) for word in ("finished", "failed")}
    failed = f" ({counts['failed']} failed before)" if counts["failed"] else ""
    lines = [
        f"{plan.name}: {len(plan.cells)} cells, {counts['finished']} finished already, {len(plan.todo)} to run{failed}"
    ]
    if changed:
        lines.append(
            f"{len(changed)} were trained with other settings, data or base and are trained again: {', '.join(changed)}"
        )
    if plan.todo:
        lines += [
            f"of these {trained} are trained, {answers.at_hand:,} of {answers.wanted:,} answers are at hand",
            *judge_price(plan),
        ]
    return lines


def plan_text(plan: BenchPlan, hours: Hours | None = None) -> str:
    """A row a cell, errors of the failed ones, the budget, then the summary."""
    verdicts = [f"verdicts: {name}" for name in short_names(list(plan.prices)).values()]
    rows = [("cell", "method", "trained", "answers", *verdicts, "state")]
    rows += [_cells(state, list(plan.prices)) for state in plan.cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    errors = [
        f"{state.cell.name} failed: {state.error.splitlines()[-1]}" for state in plan.cells if state.state == "failed"
    ]
    return "\n".join([*table, *errors, *plan.budget, *summary(plan), *(hours.lines() if hours else [])])


def _cells(state: CellState, judges: Sequence[str]) -> tuple[str, ...]:
    verdicts = [str(state.verdicts.get(judge, Part(0, 0))) for judge in judges]
    return (
        state.cell.name,
        state.cell.row.method,
        "yes" if state.is_trained else "otherwise" if state.is_changed else "no",
        str(state.answers),
        *verdicts,
        state.state,
    )


def plan_row(plan: BenchPlan, hours: Hours | None = None) -> dict[str, Any]:
    """The plan, JSON-ready."""
    cells = [
        {
            "cell": state.cell.name,
            "row": state.cell.row.name,
            "method": state.cell.row.method,
            "base": state.cell.base,
            "data": data_row(state.cell.data),
            "seed": state.cell.seed,
            "state": state.state,
            "trained": state.is_trained,
            "trained_otherwise": state.is_changed,
            "answers": vars(state.answers),
            "verdicts": {judge: vars(part) for judge, part in state.verdicts.items()},
            "error": state.error,
        }
        for state in plan.cells
    ]
    judges = {
        line.by: {
            "at_hand": line.at_hand,
            "wanted": line.wanted,
            "asks_a_server": bool(line.asked_model),
            "usd": line.usd,
        }
        for line in plan.judging().lines
    }
    return {
        "matrix": plan.name,
        "cells": cells,
        "budget": list(plan.budget),
        "to_run": [state.cell.name for state in plan.todo],
        "judges": judges,
        "grading": {"to_ask": plan.grading.to_ask("judge"), "usd": plan.grading.usd},
        "hours": hours.as_row() if hours else None,
    }
