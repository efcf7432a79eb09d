"""The things that all kinds of stages share: their workshop, their inputs, and what a finished one leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.console import Progress, Watch
from seft_bench.records import Source
from seft_bench.stages import door
from seft_bench.stages.engines import Engine, OwnEngine
from seft_bench.stages.graders import Graders

if TYPE_CHECKING:
    from seft_bench.stages.door import distributed, settings, stages

OUTPUTS = {"sample": "drafts.jsonl", "score": "scores.jsonl", "revise": "revised.jsonl"}
"""Kind of a stage -> the file of rows that it makes; a train stage makes checkpoints."""

Find = Callable[[Source | None], Path]
"""Finds an input of the stage that runs: the folder of a model, or a file of rows.

None raises TypeError: the stage was built without an input that its settings need.
"""


@dataclass(frozen=True)
class Workshop:
    """The place where stages are run, and what they start from.

    Attributes:
        folder: holds one folder a stage.
        base: checkpoint folder.
        data: folder of JSONL data sets.
        diagnostics_judge: name of a judge that grades revisions, for the diagnostics only.
        progress: called as stages advance.
        watch: called after each step of a training in place of `progress`, with its figures.
        report_to: trackers that are told what stages say of themselves, as in `TrainSettings`.
        engine: draws texts and measures likelihoods between trainings.
        processes: that run every stage together; by default this one alone.
        ready: folders of the ready models that stages start from, by their names.
        graders: the judges that grade samples.
    """

    folder: Path
    base: Path
    data: Path
    seed: int
    diagnostics_judge: str | None = None
    progress: Progress = field(default=lambda stage, done, total: None)
    watch: Watch | None = None
    report_to: Sequence[settings.TrackerName] | None = None
    engine: Engine = field(default_factory=OwnEngine)
    processes: distributed.Processes = field(default_factory=lambda: door.distributed.ALONE)
    ready: Mapping[str, Path] = field(default_factory=dict)
    graders: Graders = field(default_factory=Graders)


@dataclass(frozen=True)
class StageRun:
    """A finished stage: its folder and what it cost."""

    stage: stages.Stage
    folder: Path
    record: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The last checkpoint of a train stage, or an aligner."""
        return self.folder / "checkpoints" / str(self.record["checkpoints"][-1])

    @property
    def output(self) -> Path:
        """The checkpoint or the file of rows that later stages read."""
        return self.model if self.stage.kind in ("train", "pair") else self.folder / OUTPUTS[self.stage.kind]
