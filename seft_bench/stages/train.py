"""Train stages: make the training rows, which anyone can open, and train on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.console import note
from seft_bench.errors import InputError
from seft_bench.files import write_jsonl
from seft_bench.records import Row
from seft_bench.stages import door
from seft_bench.stages.common import Find, Workshop
from seft_bench.stages.held_out import held_out_accuracy
from seft_bench.stages.online import open_helpers

if TYPE_CHECKING:
    from seft_bench.stages.door import data, loop, stages

TRAINING_ROWS = "training_rows.jsonl"

WARNED_SHARE = 0.1
"""Rows dropped above this share are more than the odd one."""


def run_train(stage: stages.Train, find: Find, folder: Path, shop: Workshop) -> Row:
    """Make the training rows, which anyone can open, and train on them."""
    preferences, target = find(stage.preferences) if stage.preferences else None, folder / TRAINING_ROWS
    rows = shop.processes.from_main(
        lambda: write_training_rows(stage, find(stage.data), preferences, shop.seed, target)
    )
    with open_helpers(stage, find, shop) as helpers:
        summary = door.loop.train(
            find(stage.model),
            folder / TRAINING_ROWS,
            folder,
            stage.job(shop.seed),
            reference_folder=find(stage.reference) if stage.reference else None,
            on_step=_shown(stage.name, shop),
            on_data=lambda counts: note_dropped(stage.name, counts),
            helpers=helpers,
            processes=shop.processes,
        )
    return {
        "steps": summary.steps,
        "tokens_trained": summary.tokens,
        "final_loss": summary.final_loss,
        "rows": rows,
        "data": asdict(summary.data),
        "processes": summary.processes,
        "sharding": summary.sharding,
        "checkpoints": [path.name for path in summary.checkpoints],
        **(_drawn(stage, summary.online, find(stage.data)) if summary.online else {}),
        **({"validation": summary.validation} if summary.validation else {}),
        **(_accuracy(folder, summary) if summary.validation and stage.job(0).loss_entry.is_of_rewards else {}),
        **({"stopped_early_at": summary.stopped_early_at} if summary.stopped_early_at else {}),
    }


def _drawn(stage: stages.Train, drawn: Row, data: Path) -> Row:
    """Say what answers were drawn for a stage, as the record of a stage that samples does."""
    unannotated = sum("chosen" not in row for row in door.rows.read_rows(data, "prompts")[: stage.shape.first])
    calls = {"judge_calls": drawn["answers"]} if stage.online and stage.online.judge else {}
    return {
        "prompts": drawn["prompts"],
        "unannotated_prompts": min(drawn["prompts"], unannotated),
        "samples_graded": drawn["answers"],
        "tokens_generated": drawn["tokens"],
        **calls,
    }


def _accuracy(folder: Path, summary: loop.TrainSummary) -> Row:
    examples = (summary.validation or {}).get("examples", 0)
    return {"held_out_accuracy": held_out_accuracy(folder, examples, summary.checkpoints[-1].name)}


def write_training_rows(stage: stages.Train, data: Path, preferences: Path | None, seed: int, target: Path) -> int:
    """Make the training rows of a stage from its data, and return how many there are.

    Raises:
        InputError: there are none.
    """
    rows = door.shapes.shape_rows(stage.shape, door.shapes.Files(data, preferences), seed)
    if not rows:
        raise InputError(f"stage {stage.name!r} has nothing to train on: its data set is empty")
    write_jsonl(target, rows)
    return len(rows)


def _shown(stage: str, shop: Workshop) -> Callable[[int, int, Row], None]:
    """Show each step: with its figures to those who watch, else as mere progress."""
    watch = shop.watch
    if watch is None:
        return lambda step, steps, figures: shop.progress(stage, step, steps)
    return lambda step, steps, figures: watch(stage, step, steps, door.watch.describe(figures))


def note_dropped(stage: str, counts: data.DataCounts) -> None:
    """Tell the user which rows are not trained on, and which answers are cut."""
    if counts.dropped:
        begin = "WARNING: " if counts.dropped_share > WARNED_SHARE else ""
        note(f"{begin}{stage}: not trained on: {counts.dropped_in_words()}")
    if counts.truncated_answers:
        note(f"{stage}: {counts.truncated_answers:,} answers are cut at max_length")
