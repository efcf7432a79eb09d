"""What a recipe would take, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from seft_bench.records import Row
from seft_bench.stages.dry_run import StagePlan
from seft_bench.stages.fitting import GIGABYTE

COLUMNS = ("stage", "rows", "tokens", "steps", "parameters", "trained", "peak GB", "tokens/s", "hours")


def plans_row(plans: Sequence[StagePlan]) -> Row:
    """Render the plans JSON-ready."""
    stages = [{**asdict(plan), "hours": plan.hours, "peak_bytes": plan.memory and plan.memory.peak} for plan in plans]
    return {"stages": stages, "hours": _hours(plans)}


def plans_text(plans: Sequence[StagePlan]) -> str:
    """Render the plans in columns, with what they stand on below."""
    rows = [COLUMNS, *map(_cells, plans)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    fits = [f"{plan.name}: {plan.fit}" for plan in plans if plan.fit]
    notes = fits + list(dict.fromkeys(note for plan in plans for note in plan.notes))
    if any(plan.is_estimate for plan in plans):
        notes.append("~ an upper bound: drafts as long as they may become, each of them revised")
    hours = _hours(plans)
    total = "no time was probed" if hours is None else f"about {hours:.3g} hours of training, of the stages probed"
    return "\n".join([*table, *notes, total])


def _hours(plans: Sequence[StagePlan]) -> float | None:
    known = [plan.hours for plan in plans if plan.hours is not None]
    return sum(known) if known else None


def _cells(plan: StagePlan) -> tuple[str, ...]:
    about = "~" if plan.is_estimate else ""
    parameters = plan.parameters
    return (
        plan.name,
        f"{about}{plan.rows:,}",
        f"{about}{plan.tokens:,}" if plan.tokens else "",
        "" if plan.steps is None else f"{plan.steps:,}",
        "" if parameters is None else _millions(parameters.total),
        "" if parameters is None else _millions(parameters.trained),
        "" if plan.memory is None else f"{plan.memory.peak / GIGABYTE:.3g}",
        "" if plan.tokens_per_second is None else f"{plan.tokens_per_second:,.0f}",
        "" if plan.hours is None else f"{plan.hours:.3g}",
    )


def _millions(count: int) -> str:
    """Write a number of parameters.

    >>> _millions(7_241_732_096), _millions(135_000_000), _millions(421_376)
    ('7.24B', '135M', '0.421M')
    """
    return f"{count / 1e9:.3g}B" if count >= 1e9 else f"{count / 1e6:.3g}M"
