"""What a recipe's stages would take: rows, tokens, steps, parameters, memory and hours, without training anything.

The stages are walked in their order. Those between trainings leave stand-ins of their rows (`stand_ins`), and a policy
that is not trained yet has the shape of the model that it starts from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.checkpoints import is_adapter
from seft_bench.records import Base, Data, Model, Output, Source
from seft_bench.stages import door
from seft_bench.stages.fitting import Batch, present_gpu_bytes, verdict
from seft_bench.stages.stand_ins import stand_in
from seft_bench.stages.train import write_training_rows

if TYPE_CHECKING:
    from seft_bench.stages.door import memory, probe, stages


@dataclass(frozen=True)
class StagePlan:
    """What one stage would take.

    Attributes:
        rows: that are trained on, or answers that are drafted.
        tokens: of all steps, or generated at most.
        steps, parameters, memory, tokens_per_second: None of stages that do not train, the last also without a probe.
        is_estimate: rows or tokens are those of stand-ins.
        fit: whether it fits the GPU, or what would; "" where no GPU is in question.
        notes: what a figure stands on, or why there is none.
    """

    name: str
    kind: str
    rows: int
    tokens: int
    is_estimate: bool = False
    steps: int | None = None
    parameters: probe.Parameters | None = None
    memory: memory.Memory | None = None
    fit: str = ""
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
        gpu_bytes: memory of the GPU in question; None where none is.
        may_probe: time a few steps of each training whose model has weights.
        rows: stage -> file of its stand-in rows.
        models: stage -> folder of a model of the shape that it trains.
        ready: folders of the ready models that stages start from, by their names.
    """

    base: Path
    data: Path
    seed: int
    scratch: Path
    gpu_bytes: int | None
    may_probe: bool
    rows: dict[str, Path] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)
    ready: Mapping[str, Path] = field(default_factory=dict)

    def model(self, source: Source) -> Path:
        """Find a folder with the shape of a stage's model."""
        match source:
            case Base():
                return self.base
            case Model(name):
                return self.ready[name]
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
    return [_plan(stage, walk) for stage in plan]


def _plan(stage: stages.Stage, walk: Walk) -> StagePlan:
    if stage.kind == "pair":
        return StagePlan(stage.name, stage.kind, 0, 0)  # links two models
    return _plan_training(stage, walk) if stage.kind == "train" else _plan_between(stage, walk)


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
    generated = _revised(stage, walk) * stage.settings.max_new_tokens if stage.kind == "revise" else 0
    return StagePlan(stage.name, stage.kind, rows, generated, bool(generated))


def _revised(stage: stages.Revise, walk: Walk) -> int:
    """Count the revisions that a stage writes at most."""
    rows = door.rows.read_rows(walk.rows[stage.name], "rows", [])
    if stage.decision in ("never", "best_sample"):
        return 0
    return sum(len(row["samples"]) for row in rows) if stage.decision == "candidates" else len(rows)


def _plan_training(stage: stages.Train, walk: Walk) -> StagePlan:
    """Plan a training from the very examples that it would learn, or from stand-ins of them."""
    folder = walk.model(stage.model)
    walk.models[stage.name] = folder
    shape = door.probe.shape_of(folder, stage.job(walk.seed).loss_entry.is_of_rewards)
    if stage.settings.padding_free:
        door.packing.check_stateless(shape.config)
    inputs = walk.inputs(stage)
    path = walk.scratch / f"{stage.name}-rows.jsonl"
    count = write_training_rows(stage, inputs["data"], inputs.get("preferences"), walk.seed, path)
    if stage.settings.validation:
        path, _ = door.validation.split_file(path, stage.settings.validation, walk.scratch / f"{stage.name}-sides")
    estimated = any(isinstance(source, Output) for source in (stage.data, stage.preferences))
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        return _by_max_length(_Training(stage, shape, walk.gpu_bytes), count, folder)
    job = stage.job(walk.seed)
    examples, counts = door.data.load_examples(path, tokenizer, door.data.data_rules(job, shape.config))
    steps, in_epoch = door.data.planned_steps(job, examples), job.batches_in_epoch(len(examples))
    door.settings.course_of(stage.settings, steps)
    notes: tuple[str, ...] = ()
    if stage.online:
        examples, estimated, notes = door.online.longest_answers(examples, stage.online), True, (_DRAWN,)
        job = replace(job, loss="sft", loss_settings={}, online=None)  # the same forwards and gradients, for a probe
    work = _Training(stage, shape, walk.gpu_bytes)
    tokens = sum(len(sequence.ids) for example in examples for sequence in example.sequences)
    planned = work.plan(counts.used, round(tokens * steps / in_epoch), steps, work.batch(examples), estimated)
    return _probed(replace(planned, notes=(*planned.notes, *notes)), folder, examples, job, walk)


_DRAWN = (
    "answers that are drawn count as max_new_tokens each; neither the time to draw and grade them is in this, nor the "
    "memory of the reference and the grader"
)


@dataclass(frozen=True)
class _Training:
    """A training stage, and a model of its shape without weights."""

    stage: stages.Train
    shape: Any
    gpu_bytes: int | None

    @property
    def sides(self) -> int:
        """Sequences of one example."""
        return self.stage.job(0).loss_entry.sides

    def batch(self, examples: Sequence[Any]) -> Batch:
        """Return the largest micro-batch that may come: all as long, and with as much to learn, as any example."""
        labelled = max(sequence.labelled for example in examples for sequence in example.sequences)
        return Batch(self.sequences, max(example.length for example in examples), labelled)

    @property
    def sequences(self) -> int:
        """Sequences of a micro-batch."""
        given = self.stage.settings
        return min(given.micro_batch_size, given.global_batch_size) * self.sides

    def plan(self, rows: int, tokens: int, steps: int, batch: Batch, is_estimate: bool) -> StagePlan:
        """Plan it with the memory that its largest micro-batch needs."""
        given = self.stage.settings
        parameters = door.probe.count_parameters(self.shape, given.lora)
        planned = StagePlan(self.stage.name, "train", rows, tokens, is_estimate, steps, parameters)
        try:
            found = door.memory.estimate_memory(self.shape, given, batch.sequences, batch.tokens, batch.labelled)
            fit = verdict(self.shape, given, batch, self.gpu_bytes) if self.gpu_bytes else ""
        except RuntimeError as error:  # a model whose code looks into tensors, which have no contents here
            why = (str(error).splitlines() or ["?"])[0]
            note = f"{self.stage.name}: memory cannot be estimated for {type(self.shape).__name__} ({why})"
            return replace(planned, notes=(note,))
        return replace(planned, memory=found, fit=fit)


def _by_max_length(planned: _Training, rows: int, folder: Path) -> StagePlan:
    """Plan a training without a tokenizer."""
    stage = planned.stage
    steps = stage.job(0).steps(rows)
    tokens = steps * stage.settings.global_batch_size * stage.settings.max_length * planned.sides
    note = f"{stage.name}: {folder} has no tokenizer, so each sequence counts as max_length tokens"
    batch = Batch(planned.sequences, stage.settings.max_length)
    made = planned.plan(rows, tokens, steps, batch, True)
    return replace(made, notes=(*made.notes, note))


def _probed(planned: StagePlan, folder: Path, examples: Any, job: Any, walk: Walk) -> StagePlan:
    """Add the speed that a few steps show, where the model has weights."""
    if not walk.may_probe:
        return planned
    if not job.fresh and not is_adapter(folder) and not any(folder.glob("*.safetensors")):
        return replace(
            planned, notes=(*planned.notes, f"{planned.name}: {folder} has no weights, so no time is probed")
        )
    scratch = walk.scratch / planned.name
    if planned.memory and planned.memory.peak > _free_bytes():
        note = f"{planned.name}: not probed, because this machine has not the memory"
        return replace(planned, notes=(*planned.notes, note))
    speed = door.probe.probed_tokens_per_second(folder, examples, job, scratch)
    return replace(planned, tokens_per_second=speed)


def _tokenizer(folder: Path) -> Any | None:
    """Load a checkpoint's tokenizer; None where its folder holds none."""
    from seft_bench.chat import load_tokenizer

    if not any(folder.glob("tokenizer*")):
        return None
    return load_tokenizer(folder)


def _free_bytes() -> int:
    """Return the memory that a probe may take: the GPU's, without one the machine's."""
    return present_gpu_bytes() or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
