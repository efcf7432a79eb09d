"""SEFT as stages: a reviser learns from annotated pairs, then improves the policy's own drafts, round after round.

After arXiv 2406.10813, in our reading (docs/seft.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from seft_bench.records import Base, Data, Output, Source

from .graders import (
    BASE_LIKELIHOOD,
    GRADED_BY,
    GRADED_ENOUGH,
    LEAST_GRADED,
    GraderName,
    grade_stage,
)
from .revisers import (
    ReviserSettings,
    calibration_stages,
    decider_of,
    first_stages,
    named_model,
    reviser_of,
    reviser_stages,
    revising,
)
from .reward_models import RewardTraining, grading_stages
from .rounds import dpo_round, round_settings
from .settings import TrainSettings
from .stages import First, Grade, Part, Revise, Sample, Shape, Stage, Train
from .start import policy_start, refuse


class EvolutionSettings(ReviserSettings):
    """A reviser improves the policy's answers to unannotated prompts, which the policy learns from; in rounds."""

    rounds: int = Field(default=2, gt=0, description="internal_then_external has at least 2")
    evolution: Literal["external", "internal", "internal_then_external"] = Field(
        default="internal_then_external",
        description=(
            "learn revised drafts, or the best of the policy's own samples by keep score, or first the one, then the "
            "other"
        ),
    )
    internal_samples: int = Field(default=8, gt=1)
    candidates: int = Field(
        default=1, gt=0, description="with decision candidates: drafts of each prompt, each of which is revised"
    )
    prompts: int | None = Field(
        default=None, gt=0, description="unannotated prompts to use in all rounds together; null: all"
    )
    draft_policy: str = Field(
        default="policy",
        min_length=1,
        description="who drafts in the first round: policy (where it starts), start, chosen (SFT on the good answers, "
        "from init), base, or a ready model; later rounds are drafted by the round before",
    )
    policy_init: Literal["last_round", "init"] = Field(
        default="last_round",
        description="where each round's policy starts: at the round before, or at init anew, with all steps",
    )
    policy: TrainSettings = TrainSettings(learning_rate=3e-4, max_steps=150)

    @model_validator(mode="after")
    def _rounds_fit(self) -> Self:
        refuse(self.round_conflicts())
        return self

    def round_conflicts(self) -> list[str]:
        """Say which settings of the rounds cannot work together."""
        found, greedy = [], self.drafts.temperature == 0
        evolutions = _evolutions(self)
        if "external" not in evolutions and self.decision in ("margin", "candidates"):
            found.append(f"decision: {self.decision} is of external rounds, and evolution: internal has none")
        if "internal" in evolutions and greedy:
            found.append(
                f"drafts.temperature: 0 makes all samples of a prompt alike, and evolution: {self.evolution} chooses "
                "among them. Give evolution: external, or a temperature"
            )
        if self.candidates > 1 and self.decision != "candidates":
            found.append(f"candidates: {self.candidates} are for decision: candidates, and it is {self.decision}")
        elif self.candidates > 1 and greedy:
            found.append(f"drafts.temperature: 0 makes all {self.candidates} candidates of a prompt alike")
        return found


class SeftSettings(EvolutionSettings):
    """SEFT: train a reviser, let it improve the policy's answers to unannotated prompts, learn those; in rounds."""

    good_answers: bool = Field(default=False, description="the policy learns the annotated good answers as well")


def seft_stages(settings: SeftSettings, checkpoints: int) -> list[Stage]:
    """Start, reviser, then for each round: drafts, revisions, policy."""
    good = Data("preferences") if settings.good_answers else None

    def learn(number: int, policy: Source, revised: str, steps: TrainSettings) -> list[Stage]:
        name, rows, shape = f"policy-{number}", Output(revised), Shape("drafts")
        return [Train(name, policy, rows, shape, steps, checkpoints=checkpoints, preferences=good)]

    return _all_stages(settings, learn, checkpoints)


class RealignSettings(RewardTraining, EvolutionSettings):
    """ReAlign: the policy learns pairs of a revised and an original draft by DPO, where SEFT learns the revision."""

    evolution: Literal["external"] = Field(default="external", description="a pair needs a revision")
    policy: TrainSettings = TrainSettings(learning_rate=1e-4, max_steps=150)
    beta: float = Field(default=0.3, gt=0)
    on_policy_pairs: bool = Field(
        default=False, description="pairs of the best and the worst of the policy's own samples, too"
    )
    pair_samples: int = Field(
        default=4, gt=1, description="with on_policy_pairs: of each prompt; the first one is revised"
    )
    grader: GraderName = Field(default=BASE_LIKELIHOOD, min_length=1, description=f"with on_policy_pairs: {GRADED_BY}")
    min_graded_share: float = Field(
        default=LEAST_GRADED, ge=0, le=1, description=f"with on_policy_pairs: {GRADED_ENOUGH}"
    )

    def round_conflicts(self) -> list[str]:
        """Say which settings of the rounds cannot work together."""
        found = super().round_conflicts()
        if self.decision == "never":
            found.append("decision: never revises no draft, and every pair of realign needs a revision")
        if self.on_policy_pairs and self.drafts.temperature == 0:
            found.append("drafts.temperature: 0 makes all samples of a prompt alike, so on_policy_pairs has no pair")
        if self.on_policy_pairs and self.decision == "candidates":
            found.append(
                "on_policy_pairs: true draws pair_samples of a prompt, and decision: candidates its own number"
            )
        unused = [] if self.on_policy_pairs else self.changed(("pair_samples", "grader", "min_graded_share"))
        return found + [f"{key}: {getattr(self, key)} is for on_policy_pairs: true" for key in unused]


def realign_stages(settings: RealignSettings, checkpoints: int) -> list[Stage]:
    """Run SEFT's stages, but for the policy's training: by DPO, from and against the round's own start.

    After ReAlign (Findings of EMNLP 2025, 642), the successor of SEFT's authors, in our reading.
    """

    def learn(number: int, policy: Source, revised: str, steps: TrainSettings) -> list[Stage]:
        graded = [_graded_drafts(settings, number, policy)] if settings.on_policy_pairs else []
        shape = "revised_and_on_policy_pairs" if graded else "revised_against_drafts"
        own = Output(graded[0].name) if graded else None
        train = dpo_round(number, policy, Output(revised), shape, steps, settings.beta, policy, checkpoints, own)
        return [*graded, train]

    rewards = grading_stages(settings.grader, policy_start(settings), settings)
    return _all_stages(settings, learn, checkpoints, rewards)


def _graded_drafts(settings: RealignSettings, number: int, policy: Source) -> Grade:
    drafts, start = Output(f"drafts-{number}"), policy_start(settings)
    return grade_stage(f"grades-{number}", drafts, settings.grader, policy, start, settings.min_graded_share)


Learn = Callable[[int, Source, str, TrainSettings], list[Stage]]
"""Makes the stages of a round's training, the training last: of its number, the policy that it starts from, the stage
of revised drafts, and its settings."""


def _all_stages(
    settings: EvolutionSettings, learn: Learn, checkpoints: int, rewards: Sequence[Stage] = ()
) -> list[Stage]:
    revises = settings.decision != "never"
    named = [settings.draft_policy, *([settings.reviser_init] if revises else [])]
    start = ["start"] if settings.init == "start" else []
    reviser = reviser_stages(settings) if revises else []
    return [*first_stages(settings, [*start, *named], checkpoints), *reviser, *rewards, *_rounds(settings, learn)]


def _rounds(settings: EvolutionSettings, learn: Learn) -> list[Stage]:
    stages: list[Stage] = []
    policy, evolutions = policy_start(settings), _evolutions(settings)
    drafter = policy if settings.draft_policy == "policy" else named_model(settings.draft_policy)
    for number, evolution in enumerate(evolutions, start=1):
        anew = settings.policy_init == "init"
        steps = settings.policy if anew else round_settings(settings.policy, number, len(evolutions))
        stages += _revised_drafts(settings, number, evolution, drafter)
        stages += learn(number, policy, stages[-1].name, steps)
        drafter = Output(stages[-1].name)
        policy = policy if anew else drafter
    return stages


Evolution = Literal["external", "internal"]


def _evolutions(settings: EvolutionSettings) -> list[Evolution]:
    """Say what each round learns: internal evolution comes first; own drafts (decision: never) are learnt as is."""
    if settings.decision == "never":
        return ["external"] * settings.rounds
    if settings.evolution == "internal_then_external":
        later: list[Evolution] = ["external"] * max(1, settings.rounds - 1)
        return ["internal", *later]
    return [settings.evolution] * settings.rounds


def _revised_drafts(settings: EvolutionSettings, number: int, evolution: Evolution, drafter: Source) -> list[Stage]:
    """Draw a round's drafts, calibrate where that is due, and revise; the revised drafts come last."""
    rounds = len(_evolutions(settings))
    drafts = Sample(
        f"drafts-{number}",
        drafter,
        Data("prompts"),
        settings.drafts,
        samples=_samples(settings, evolution),
        first=First(settings.prompts),
        part=Part(number - 1, rounds),
    )
    decision = "best_sample" if evolution == "internal" else settings.decision
    # Each round is calibrated anew, with drafts of the one who drafts in it.
    calibrated = decision in ("likelihood", "token")
    calibration = calibration_stages(settings, f"-{number}", drafter) if calibrated else []
    revised = Revise(
        f"revised-{number}",
        Output(drafts.name),
        decision,
        revising(settings),
        reviser=None if decision == "never" else reviser_of(settings),
        decider=decider_of(settings),
        calibration=Output(calibration[-1].name) if calibration else None,
        margin=settings.margin if decision == "margin" else None,
        likelihoods=(drafter, Base()) if decision == "candidates" else None,
        round=number,
    )
    return [drafts, *calibration, revised]


def _samples(settings: EvolutionSettings, evolution: Evolution) -> int:
    """Say how many drafts of each prompt a round draws."""
    if evolution == "internal":
        return settings.internal_samples
    if isinstance(settings, RealignSettings) and settings.on_policy_pairs:
        return settings.pair_samples
    return settings.candidates
