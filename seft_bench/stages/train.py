"""Train stages: make the training rows, which anyone can open, and train on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seft_bench.errors import InputError
from seft_bench.files import write_jsonl
from seft_bench.records import Row, Stage
from seft_bench.stages.common import Workshop
from seft_bench.stages.door import training


def run_train(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    """Make the training rows, which anyone can open, and train on them."""
    rows = training("shapes").shape_rows(
        stage.settings, {role: path for role, path in inputs.items() if path.suffix == ".jsonl"}, shop.seed
    )
    if not rows:
        raise InputError(f"stage {stage.name!r} has nothing to train on: its data set is empty")
    write_jsonl(folder / "training_rows.jsonl", rows)
    settings = training("settings").TrainSettings(**stage.settings["train"], seed=shop.seed)
    summary = training("loop").train(
        inputs["model"],
        folder / "training_rows.jsonl",
        folder,
        settings,
        reference_folder=inputs.get("reference"),
        progress=lambda step, steps, loss: shop.progress(stage.name, step, steps),
    )
    return {
        "steps": summary.steps,
        "tokens_trained": summary.tokens,
        "final_loss": summary.final_loss,
        "rows": len(rows),
        "checkpoints": [path.name for path in summary.checkpoints],
    }
