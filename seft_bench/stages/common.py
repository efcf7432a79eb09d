"""What all kinds of stages share: where they run, what a finished one leaves, and which file holds its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seft_bench.console import Progress
from seft_bench.records import Stage

OUTPUTS = {"sample": "drafts.jsonl", "score": "scores.jsonl", "revise": "revised.jsonl"}
"""The file of rows that a stage of each kind makes; a train stage makes checkpoints."""


@dataclass(frozen=True)
class Workshop:
    """Where stages are run and what they start from.

    Attributes:
        folder: holds one folder a stage.
        base: checkpoint folder.
        data: folder of JSONL data sets.
        diagnostics_judge: name of a judge that grades revisions, for the diagnostics only.
    """

    folder: Path
    base: Path
    data: Path
    seed: int
    diagnostics_judge: str | None = None
    progress: Progress = field(default=lambda stage, done, total: None)


@dataclass(frozen=True)
class StageRun:
    """A finished stage: its folder and what it cost."""

    stage: Stage
    folder: Path
    record: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The last checkpoint of a train stage."""
        return self.folder / "checkpoints" / str(self.record["checkpoints"][-1])
