"""What a recipe's stages would take: rows, tokens, steps, parameters, memory and hours, without training anything.

The stages are walked in their order. Those between trainings leave stand-ins of their rows (`stand_ins`), and a policy
that is not trained yet has the shape of the model that it starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.checkpoints import is_adapter
from seft_bench.data.training import open_ready_model
from seft_bench.records import Base, Data, Model, Output, Source
from seft_bench.stages import door
from seft_bench.stages.stand_ins import stand_in
from seft_bench.stages.train import write_training_rows

if TYPE_CHECKING:
    from seft_bench.stages.door import data, probe, stages


@dataclass(frozen=True)
class StagePlan:
    """What one stage would take.

    Attributes:
        rows: that are trained on, or answers that are drafted.
        tokens: of all steps, or generated at most.
        steps, parameters, tokens_per_second: None of stages that do not train, the last also without a probe.
        is_estimate: rows or tokens are those of stand-ins.
        notes: what a figure stands on, or why there is none.
    """

    name: str
    kind: str
    rows: int
    tokens: int
    is_estimate: bool = False
    steps: int | None = None
    parameters: probe.Parameters | None = None
    tokens_per_second: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def hours(self) -> float | None:
        return self.tokens / self.tokens_per_second / 3600 if self.tokens_per_second else None


@dataclass
class Walk:
    """The stages walked so far: where their rows and the shapes of their models lie.

    Attributes:
        scratch: a folder that is removed afterwards.
        may_probe: time a few steps of each training whose model has weights.
        rows: stage -> file of its stand-in rows.
        models: stage -> folder of a model of the shape that it trains.
    """

    base: Path
    data: Path
    seed: int
    scratch: Path
    may_probe: bool
    rows: dict[str, Path] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)

    def model(self, source: Source) -> Path:
        """Find a folder with the shape of a stage's model."""
        match source:
            case Base():
                return self.base
            case Model(name):
                return open_ready_model(name)
            case Output(name):
                return self.models[name]
            case Data(_):
                raise TypeError("a data set is no model")

    def inputs(self, stage: stages.Stage) -> dict[str, Path]:
        """Find the files of rows that a stage reads, by their roles."""
        found: dict[str, Path] = {}
        for role, source in stage.inputs.items():
            if isinstance(source, Data):
                found[role] = self.data / f"{source.name}.jsonl"
            elif isinstance(source, Output) and source.stage in self.rows:
                found[role] = self.rows[source.stage]
        return found


def plan_stages(plan: Sequence[stages.Stage], walk: Walk) -> list[StagePlan]:
    """Walk a method's stages.

    Raises:
        InputError: data, settings or models that a training would refuse.
    """
    return [_plan_training(stage, walk) if stage.kind == "train" else _plan_between(stage, walk) for stage in plan]


def _plan_between(stage: stages.Sample | stages.Score | stages.Revise, walk: Walk) -> StagePlan:
    """Plan a stage between trainings, and leave a stand-in of its rows."""
    inputs = walk.inputs(stage)
    tokenizer = _tokenizer(walk.base)
    walk.rows[stage.name] = stand_in(stage, inputs, tokenizer, walk.scratch / f"{stage.name}.jsonl")
    rows = len(door.rows.read_rows(walk.rows[stage.name], "rows", []))
    if stage.kind == "sample":
        answers = rows * stage.samples
        note = f"answers count as max_new_tokens ({stage.settings.max_new_tokens}) each; their time is not probed"
        return StagePlan(stage.name, stage.kind, answers, answers * stage.settings.max_new_tokens, True, notes=(note,))
    generated = rows * stage.settings.max_new_tokens if stage.kind == "revise" and stage.decision != "never" else 0
    return StagePlan(stage.name, stage.kind, rows, generated, bool(generated))


def _plan_training(stage: stages.Train, walk: Walk) -> StagePlan:
    """Plan a training from the very examples that it would learn, or from stand-ins of them."""
    folder = walk.model(stage.model)
    walk.models[stage.name] = folder
    shape = door.probe.shape_of(folder)
    parameters = door.probe.count_parameters(shape, stage.settings.lora)
    inputs = walk.inputs(stage)
    path = walk.scratch / f"{stage.name}-rows.jsonl"
    count = write_training_rows(stage, inputs["data"], inputs.get("preferences"), walk.seed, path)
    if stage.settings.validation:
        path, _ = door.validation.split_file(path, stage.settings.validation, walk.scratch / f"{stage.name}-sides")
    estimated = any(isinstance(source, Output) for source in (stage.data, stage.preferences))
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        steps = door.settings.total_steps(stage.settings, count)
        sides = 2 if stage.job(0).loss_entry.needs_pairs else 1
        tokens = steps * stage.settings.global_batch_size * stage.settings.max_length * sides
        note = f"{stage.name}: {folder} has no tokenizer, so each sequence counts as max_length tokens"
        return StagePlan(stage.name, "train", count, tokens, True, steps, parameters, notes=(note,))
    job = stage.job(walk.seed)
    examples, counts = door.data.load_examples(path, tokenizer, door.data.data_rules(job, shape.config))
    steps = door.settings.total_steps(stage.settings, len(examples))
    door.settings.course_of(stage.settings, steps)
    planned = StagePlan(stage.name, "train", counts.used, _tokens(counts, stage, steps), estimated, steps, parameters)
    return _probed(planned, folder, examples, job, walk)


def _tokens(counts: data.DataCounts, stage: stages.Train, steps: int) -> int:
    """Return the tokens of all steps, from those of one epoch."""
    in_epoch = door.settings.steps_in_epoch(counts.used, stage.settings.global_batch_size)
    return round(counts.tokens * steps / in_epoch)


def _probed(planned: StagePlan, folder: Path, examples: Any, job: Any, walk: Walk) -> StagePlan:
    """Add the speed that a few steps show, where the model has weights."""
    if not walk.may_probe:
        return planned
    if not job.fresh and not is_adapter(folder) and not any(folder.glob("*.safetensors")):
        return replace(
            planned, notes=(*planned.notes, f"{planned.name}: {folder} has no weights, so no time is probed")
        )
    scratch = walk.scratch / planned.name
    speed = door.probe.probed_tokens_per_second(folder, examples, job, scratch)
    return replace(planned, tokens_per_second=speed)


def _tokenizer(folder: Path) -> Any | None:
    """Load a checkpoint's tokenizer; None where its folder holds none."""
    from seft_bench.chat import load_tokenizer

    if not any(folder.glob("tokenizer*")):
        return None
    return load_tokenizer(folder)
