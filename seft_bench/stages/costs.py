"""What stages cost, recorded by each and added up for a run.

A stage's `run` function returns a row; what it names in it of `REPORTED` is a cost. The rest is measured here for every
stage: the annotated rows that it read, and its seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seft_bench.files import read_jsonl, read_once
from seft_bench.records import Data, Row

if TYPE_CHECKING:
    from seft_bench.stages.door import stages as kinds

REPORTED = {
    "steps": "optimizer steps",
    "tokens_trained": "tokens trained on, both sides of pairs, padding not counted",
    "tokens_generated": "tokens sampled by any model of the method, stop tokens included; not a judge's own words",
    "unannotated_prompts": "prompts without an annotated answer that were sampled for",
    "judge_calls": "answers, or pairs of them, that a judge graded for the training; diagnostics are none",
    "judge_usd": "what those cost; None where a price is unknown",
}
"""Cost that a stage reports by naming it in the row that it returns -> what it counts; unnamed is none."""

LATER = ("judge_calls", "judge_usd", "gpu_seconds")
"""Costs that old records do not know: there they are unknown, not 0."""

Annotated = Literal["pairs", "labels", "conversations"]
ANNOTATED: tuple[Annotated, ...] = ("pairs", "labels", "conversations")
"""Kinds of annotated rows: two answers compared, one answer called good or bad, and an answer to be learnt."""


def stage_costs(stage: kinds.Stage, path_of: Callable[[Data], Path], outcome: Mapping[str, Any], seconds: Row) -> Row:
    """Return what a finished stage's record says of its costs.

    Args:
        outcome: the row that its run returned.
        seconds: cpu_seconds, wall_seconds, and the number of GPUs of its processes.
    """
    gpus = max(seconds["gpus"], outcome.get("engine_gpus", 0))
    return {
        **{name: outcome.get(name, 0) for name in LATER if name in REPORTED},
        "gpu_seconds": gpus * seconds["wall_seconds"],
        "annotated": {
            source.name: _annotated_in(source, path_of(source))
            for source in stage.inputs.values()
            if isinstance(source, Data)
        },
    }


def _annotated_in(source: Data, path: Path) -> dict[Annotated, int]:
    """Count a data set's annotated rows; of prompts nobody reads an answer that stands beside them."""
    ignored = "conversations" if source.name == "prompts" else None
    return {kind: count for kind, count in annotated_rows(path).items() if kind != ignored}


@read_once
def annotated_rows(path: Path) -> dict[Annotated, int]:
    """Count the distinct annotated rows of a data set, by kind; kinds that it lacks are left out."""
    seen: dict[Annotated, set[int]] = {kind: set() for kind in ANNOTATED}
    for row in read_jsonl(path, "data set"):
        if kind := _kind_of(row):
            keys = ("prompt", "messages", "answer", "chosen", "rejected", "label")
            seen[kind].add(hash(json.dumps([row.get(key) for key in keys], sort_keys=True)))
    return {kind: len(rows) for kind, rows in seen.items() if rows}


def _kind_of(row: Mapping[str, Any]) -> Annotated | None:
    if "chosen" in row:
        return "pairs"
    if "label" in row:
        return "labels"
    return "conversations" if "answer" in row or "messages" in row else None


def gpus_in_use() -> int:
    """Return 1 where this process holds a GPU, else 0."""
    torch = sys.modules.get("torch")
    return int(torch is not None and torch.cuda.is_initialized())


def total_costs(records: Sequence[Mapping[str, Any]]) -> Row:
    """Add up the records of a run's stages, shared ones included; None is what one of them does not know.

    Annotated rows of one data set count once, however many stages read it.
    """
    summed = ("steps", "tokens_trained", "tokens_generated", "unannotated_prompts")
    totals: Row = {name: sum(record.get(name, 0) for record in records) for name in summed}
    totals |= {name: _sum_known([record.get(name) for record in records]) for name in LATER}
    return totals | _annotated_costs(records)


def _sum_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 6) if len(known) == len(values) else None


def _annotated_costs(records: Sequence[Mapping[str, Any]]) -> Row:
    if any("annotated" not in record for record in records):
        return {f"annotated_{kind}": None for kind in ANNOTATED}
    read = {name: rows for record in records for name, rows in record["annotated"].items()}
    return {f"annotated_{kind}": sum(rows.get(kind, 0) for rows in read.values()) for kind in ANNOTATED}
