"""The stages that methods are made of: one class a kind, with typed inputs and settings.

A method is a list of stages; they meet at files. Each class says its inputs by role and renders its settings as a row:
the two name the stage's folder, so they stay as they are, or old folders are no longer found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Literal

from seft_bench.errors import InputError
from seft_bench.records import Base, Data, Model, Row, Source

from .loss_table import LossSettings, find_loss
from .reviser import LabelRule, PoorAnswers
from .settings import DraftSettings, Online, TrainJob, TrainSettings

Decision = Literal["likelihood", "margin", "token", "candidates", "always", "never"]
"""The decision to revise: by a calibrated threshold, by a fixed one, by an emitted label, by the likelihood of drafts
and revisions under policy and base, or none (always rewrite; never, keep own drafts)."""

Statistic = Literal["keep", "mode"]
"""The statistic of a draft that decides, see `training.reviser`."""

Learnt = Literal["all", "kept", "revised"]
"""The drafts of a round that the policy learns."""


@dataclass(frozen=True)
class Shape:
    """The training rows of a stage: a name in `SHAPES`, and what its function needs beyond rows.

    Attributes:
        instruction: to revise; "" where nothing is revised.
        copies_share: share of good answers that the reviser learns to copy; None where none are.
        min_grade: samples graded lower are left out; None leaves none out.
        first: only so many rows, the first ones; None takes all.
        learn: of revised drafts all, or those that were kept, or those that were revised.
        weighted: rows are weighted by the confidence with which they were decided on.
        poor: the answers that a reviser learns to revise.
    """

    name: str
    instruction: str = ""
    copies_share: float | None = None
    min_grade: float | None = None
    first: int | None = None
    learn: Learnt = "all"
    weighted: bool = False
    poor: PoorAnswers = "annotated"

    def as_row(self) -> Row:
        instruction = {"instruction": self.instruction} if self.instruction else {}
        copies = {} if self.copies_share is None else {"copies_share": self.copies_share}
        grade = {} if self.min_grade is None else {"min_grade": self.min_grade}
        first = {} if self.first is None else {"first": self.first}
        learn = {} if self.learn == "all" else {"learn": self.learn}
        weighted = {"weighted": True} if self.weighted else {}
        poor = _poor_row(self.poor)
        return {"shape": self.name, **instruction, **copies, **grade, **first, **learn, **weighted, **poor}


def _poor_row(poor: PoorAnswers) -> Row:
    return {} if poor == "annotated" else {"poor": poor}


@dataclass(frozen=True)
class Train:
    """Makes checkpoints.

    Attributes:
        model: where training starts.
        data: the rows that `shape` makes into training rows.
        checkpoints: how many are saved.
        reference: the frozen model of losses that need one.
        preferences: preference pairs, or graded samples, where the shape mixes them in.
        fresh: the model may be a configuration without weights.
        online: how the policy draws answers to learn from, where the rows are prompts.
        grader: the model whose likelihood grades those; None where a judge or a reward model does.
        reward_model: grades them; None where something else does.
    """

    kind: ClassVar[Literal["train"]] = "train"
    name: str
    model: Source
    data: Source
    shape: Shape
    settings: TrainSettings
    loss: str = "sft"
    loss_settings: LossSettings = field(default_factory=dict)
    checkpoints: int = 1
    reference: Source | None = None
    preferences: Source | None = None
    fresh: bool = False
    online: Online | None = None
    grader: Source | None = None
    reward_model: Source | None = None

    @property
    def inputs(self) -> dict[str, Source]:
        """Role -> source."""
        graders = _given(grader=self.grader, reward_model=self.reward_model)
        models = _given(model=self.model, reference=self.reference) | graders
        return models | _given(data=self.data, preferences=self.preferences)

    def job(self, seed: int) -> TrainJob:
        return TrainJob(self.settings, self.loss, self.loss_settings, self.checkpoints, seed, self.fresh, self.online)

    def settings_row(self) -> Row:
        train = {
            **{key: value for key, value in self.settings.identity_row().items() if value is not None},
            "loss": self.loss,
            "checkpoints": self.checkpoints,
            "loss_settings": find_loss(self.loss, self.loss_settings).identity_row(self.loss_settings),
        }
        online = {"online": asdict(self.online)} if self.online else {}
        return {**self.shape.as_row(), "train": train, **online}


@dataclass(frozen=True)
class First:
    """The first `count` prompts; None: all."""

    count: int | None


@dataclass(frozen=True)
class Part:
    """Every `parts`-th prompt, beginning with number `part`, counted from 0."""

    part: int
    parts: int


@dataclass(frozen=True)
class Sample:
    """Drafts answers to prompts.

    Attributes:
        samples: drafts of each prompt.
        first, part: which of the prompts are answered; without both, all.
        beside: the answers stand beside the drafts that the rows have, as evidence for a reviser.
    """

    kind: ClassVar[Literal["sample"]] = "sample"
    name: str
    model: Source
    prompts: Source
    settings: DraftSettings
    samples: int = 1
    first: First | None = None
    part: Part | None = None
    beside: bool = False

    def __post_init__(self) -> None:
        count, parts = self.first.count if self.first else None, self.part.parts if self.part else 1
        if count is not None and count < parts:
            raise InputError(f"prompts: {count} cannot be shared by {parts} rounds, of which each has at least one")

    @property
    def inputs(self) -> dict[str, Source]:
        """Role -> source."""
        return {"model": self.model, "prompts": self.prompts}

    def settings_row(self) -> Row:
        first = asdict(self.first) if self.first else {}
        part = asdict(self.part) if self.part else {}
        beside = {"beside": True} if self.beside else {}
        return {**self.settings.model_dump(), "samples": self.samples, **first, **part, **beside}


@dataclass(frozen=True)
class LabelPairs:
    """Labels annotated pairs by the preliminary reviser's likelihoods, with 2 or 3 levels.

    Attributes:
        rule: says which poor answers are to be revised.
        poor: the answers that are labelled.
    """

    kind: ClassVar[Literal["score"]] = "score"
    what: ClassVar[Literal["labels"]] = "labels"
    name: str
    reviser: Source
    data: Source
    levels: int
    instruction: str
    rule: LabelRule = "likelihood"
    poor: PoorAnswers = "annotated"

    @property
    def inputs(self) -> dict[str, Source]:
        """Role -> source."""
        return {"reviser": self.reviser, "data": self.data}

    def settings_row(self) -> Row:
        rule = {} if self.rule == "likelihood" else {"rule": self.rule}
        made = {"what": self.what, "levels": self.levels, "instruction": self.instruction}
        return {**made, **rule, **_poor_row(self.poor)}


@dataclass(frozen=True)
class Revising:
    """Settings with which drafts are scored and revised; revisions are greedy."""

    statistic: Statistic
    instruction: str
    max_new_tokens: int
    batch_size: int


@dataclass(frozen=True)
class Calibrate:
    """Sets the threshold that keeps few of the poor drafts.

    Attributes:
        data: drafts of annotated prompts.
        max_poor_kept: share of the poor drafts that the threshold may keep.
        decider: the model that emits labels, where the decision is "token".
    """

    kind: ClassVar[Literal["score"]] = "score"
    what: ClassVar[Literal["calibration"]] = "calibration"
    name: str
    reviser: Source
    data: Source
    decision: Decision
    max_poor_kept: float
    settings: Revising
    decider: Source | None = None

    @property
    def inputs(self) -> dict[str, Source]:
        """Role -> source."""
        return _given(reviser=self.reviser, decider=self.decider, data=self.data)

    def settings_row(self) -> Row:
        return {
            "what": self.what,
            "max_poor_kept": self.max_poor_kept,
            "decision": self.decision,
            **asdict(self.settings),
        }


@dataclass(frozen=True)
class Asking:
    """How a model is asked for grades: the draws of each verdict, whose mean counts, and their settings."""

    draws: int
    settings: DraftSettings


@dataclass(frozen=True)
class Grade:
    """Grades samples: by a judge, a reward model, or a model's mean log-probability per token or words when asked.

    Attributes:
        data: samples of prompts.
        judge: name of a judge, or its file; None where a model grades.
        model: None where a judge or a reward model grades.
        reward_model: None where something else grades.
        asking: how the model is asked for grades in words; None where its likelihood grades.
        least_share: of the samples that must get a grade; what is made does not depend on it.
    """

    kind: ClassVar[Literal["score"]] = "score"
    what: ClassVar[Literal["grades"]] = "grades"
    name: str
    data: Source
    judge: str | None = None
    model: Source | None = None
    asking: Asking | None = None
    reward_model: Source | None = None
    least_share: float = 0.0

    @property
    def inputs(self) -> dict[str, Source]:
        """Role -> source."""
        return _given(model=self.model, reward_model=self.reward_model, data=self.data)

    def settings_row(self) -> Row:
        judge = {"judge": self.judge} if self.judge else {}
        asking = {"asked": {"draws": self.asking.draws, **self.asking.settings.model_dump()}} if self.asking else {}
        return {"what": self.what, **judge, **asking}


@dataclass(frozen=True)
class Revise:
    """Decides on every draft, and revises the ones that are not kept.

    Attributes:
        data: drafts.
        decision: "best_sample" is internal evolution: of the policy's own samples the best.
        reviser: None where nothing is revised (decision "never").
        decider: the model that emits labels, where the decision is "token".
        calibration: the stage with the threshold, where there is one.
        margin: the threshold itself, where the decision is "margin".
        likelihoods: policy and base, where the decision is "candidates".
        confident: rows also say with what confidence their drafts were decided on.
        round: its number, from 1; for people, what is made does not depend on it.
    """

    kind: ClassVar[Literal["revise"]] = "revise"
    name: str
    data: Source
    decision: Decision | Literal["best_sample"]
    settings: Revising
    reviser: Source | None = None
    decider: Source | None = None
    calibration: Source | None = None
    margin: float | None = None
    likelihoods: tuple[Source, Source] | None = None
    confident: bool = False
    round: int = 1

    @property
    def inputs(self) -> dict[str, Source]:
        """Role -> source."""
        policy, base = self.likelihoods or (None, None)
        given = {"data": self.data, "reviser": self.reviser, "decider": self.decider, "calibration": self.calibration}
        return _given(**given, policy=policy, base=base)

    def settings_row(self) -> Row:
        margin = {} if self.margin is None else {"margin": self.margin}
        confident = {"confident": True} if self.confident else {}
        return {"decision": self.decision, **margin, **asdict(self.settings), **confident}


@dataclass(frozen=True)
class Pair:
    """Puts a policy and the reviser that corrects its answers into one folder, which is evaluated as one model.

    Attributes:
        policy: drafts.
        decision, settings, decider, calibration, margin: as of `Revise`.
    """

    kind: ClassVar[Literal["pair"]] = "pair"
    name: str
    policy: Source
    reviser: Source
    decision: Decision
    settings: Revising
    decider: Source | None = None
    calibration: Source | None = None
    margin: float | None = None

    @property
    def inputs(self) -> dict[str, Source]:
        """Role -> source."""
        return _given(policy=self.policy, reviser=self.reviser, decider=self.decider, calibration=self.calibration)

    def settings_row(self) -> Row:
        margin = {} if self.margin is None else {"margin": self.margin}
        return {"decision": self.decision, **margin, **asdict(self.settings)}


Score = LabelPairs | Calibrate | Grade

Stage = Train | Sample | Score | Revise | Pair
"""One step of a method; its name is unique within the method."""


def grader_of(stage: Stage) -> str | None:
    """Name the judge that does a stage's work, or grades for it; None where none does."""
    if stage.kind == "train":
        return stage.online.judge if stage.online else None
    return stage.judge if stage.kind == "score" and stage.what == "grades" else None


def row_sources(stage: Stage) -> list[Source]:
    """Return the inputs of a stage that are rows, not models or thresholds."""
    return [source for role, source in stage.inputs.items() if role in ("data", "prompts", "preferences")]


def data_sets(stages: Iterable[Stage]) -> list[str]:
    """Name the data sets that stages read, each once, in the order in which they are first read."""
    sources = [source for stage in stages for source in stage.inputs.values()]
    return list(dict.fromkeys(source.name for source in sources if isinstance(source, Data)))


def reads_base(stages: Iterable[Stage]) -> bool:
    return any(isinstance(source, Base) for stage in stages for source in stage.inputs.values())


def makes_policy(stages: Sequence[Stage]) -> bool:
    """Return whether the last of a method's stages makes what writes answers, and no reward model."""
    last = stages[-1]
    return last.kind != "train" or not find_loss(last.loss, last.loss_settings).is_of_rewards


def ready_models(stages: Iterable[Stage]) -> list[str]:
    """Name the ready models that stages start from or ask, each once; the base is none of them."""
    sources = [source for stage in stages for source in stage.inputs.values()]
    return list(dict.fromkeys(source.name for source in sources if isinstance(source, Model)))


def _given(**sources: Source | None) -> dict[str, Source]:
    return {role: source for role, source in sources.items() if source is not None}
