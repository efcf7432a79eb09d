"""Methods whose policy learns from its own samples, round after round: best of n, iterative DPO, and SPIN.

A round samples from the policy that it starts from, and its steps are a share of the policy's, so that more rounds do
not mean more training.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seft_bench.records import Data, Output, Source

from .graders import (
    BASE_LIKELIHOOD,
    GRADED_BY,
    GRADED_ENOUGH,
    LEAST_GRADED,
    GraderName,
    grade_stage,
    is_likelihood,
    rewarding_model,
)
from .reward_models import RewardTraining, grading_stages
from .rounds import dpo_round, round_settings
from .settings import DraftSettings, TrainSettings
from .stages import First, Part, Sample, Shape, Stage, Train
from .start import SftSettings, policy_start, refuse, start_stages


class SampledSettings(SftSettings):
    """What rounds of samples have in common."""

    policy: TrainSettings
    rounds: int = Field(default=2, gt=0)
    prompts: int | None = Field(default=None, gt=0, description="prompts to use in all rounds together; null: all")
    drafts: DraftSettings = DraftSettings()


def sample_stage(settings: SampledSettings, samples: int, number: int, policy: Source) -> Sample:
    """Draw `samples` answers to each of a round's share of the prompts."""
    return Sample(
        f"samples-{number}",
        policy,
        Data("prompts"),
        settings.drafts,
        samples=samples,
        first=First(settings.prompts),
        part=Part(number - 1, settings.rounds),
    )


GRADES = (1.0, 10.0)
"""The lowest and the highest grade of a judge."""


class GradedSettings(RewardTraining, SampledSettings):
    """What rounds of graded samples have in common; `reward_model` is for `grader: trained-reward-model`."""

    samples: int = Field(default=8, gt=1, description="of each prompt")
    grader: GraderName = Field(default=BASE_LIKELIHOOD, min_length=1, description=GRADED_BY)
    min_graded_share: float = Field(default=LEAST_GRADED, ge=0, le=1, description=GRADED_ENOUGH)

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        refuse(alike(self.samples, self.drafts))
        return self


def alike(samples: int, drafts: DraftSettings) -> list[str]:
    """Say that samples among which one is chosen are all the same."""
    if drafts.temperature:
        return []
    return [f"drafts.temperature: 0 makes all {samples} samples of a prompt alike: give a temperature above 0"]


class BestOfSettings(GradedSettings):
    """Best of n (RAFT): the policy learns the best of its own samples by SFT."""

    policy: TrainSettings = TrainSettings(learning_rate=5e-4, max_steps=150)
    keep: Literal["best", "above"] = Field(
        default="best",
        description="learn each prompt's best sample, or (rejection sampling) every one graded min_grade or more",
    )
    min_grade: float | None = Field(
        default=None, allow_inf_nan=False, description="samples graded lower are never learnt"
    )

    @model_validator(mode="after")
    def _grades_part(self) -> Self:
        low, high = (None, 0.0) if is_likelihood(self.grader) else GRADES
        found = []
        if self.keep == "above" and self.min_grade is None:
            found.append("keep: above learns samples graded min_grade or more: give a min_grade")
        has_scale = not rewarding_model(self.grader)  # a reward may be any number
        if (
            has_scale
            and self.min_grade is not None
            and (self.min_grade > high or (low is not None and self.min_grade < low))
        ):
            scale = "at most 0, as log-probabilities" if low is None else f"{low:g} to {high:g}"
            found.append(f"min_grade: {self.min_grade:g} parts no samples: grades by {self.grader} are {scale}")
        refuse(found)
        return self


class IterativeDpoSettings(GradedSettings):
    """Iterative DPO: pairs of the best and the worst of the policy's own samples, anew in each round."""

    policy: TrainSettings = TrainSettings(learning_rate=4e-4, max_steps=150)
    beta: float = Field(default=0.3, gt=0)
    reference: Literal["round", "start"] = Field(
        default="round", description="the frozen model: what the round starts from, or what the first one did"
    )


class SpinSettings(SampledSettings):
    """SPIN: DPO on annotated answers against the policy's own, whose reference is what the round starts from."""

    policy: TrainSettings = TrainSettings(learning_rate=1e-4, max_steps=150)
    beta: float = Field(default=0.3, gt=0)


def best_of_stages(settings: BestOfSettings, checkpoints: int) -> list[Stage]:
    """Train by RAFT (Dong et al. 2023, arXiv 2304.06767), or rejection sampling with `keep: above`."""
    shape = Shape("best_samples" if settings.keep == "best" else "samples_above", min_grade=settings.min_grade)
    stages, policy = _before_rounds(settings, checkpoints), policy_start(settings)
    for number in range(1, settings.rounds + 1):
        graded = _graded_samples(settings, number, policy)
        name, data = f"policy-{number}", Output(graded[-1].name)
        steps = round_settings(settings.policy, number, settings.rounds)
        train = Train(name, policy, data, shape, steps, checkpoints=checkpoints)
        stages += [*graded, train]
        policy = Output(name)
    return stages


def iterative_dpo_stages(settings: IterativeDpoSettings, checkpoints: int) -> list[Stage]:
    """Train by rounds of DPO on best against worst (as in Dong et al. 2024, arXiv 2405.07863)."""
    stages, policy = _before_rounds(settings, checkpoints), policy_start(settings)
    first = policy
    for number in range(1, settings.rounds + 1):
        graded = _graded_samples(settings, number, policy)
        reference = policy if settings.reference == "round" else first
        pairs, shape = Output(graded[-1].name), "best_against_worst"
        steps = round_settings(settings.policy, number, settings.rounds)
        train = dpo_round(number, policy, pairs, shape, steps, settings.beta, reference, checkpoints)
        stages += [*graded, train]
        policy = Output(train.name)
    return stages


def spin_stages(settings: SpinSettings, checkpoints: int) -> list[Stage]:
    """Train by self-play (Chen et al. 2024, arXiv 2401.01335): annotated answers against the policy's own."""
    stages, policy = start_stages(settings, checkpoints), policy_start(settings)
    for number in range(1, settings.rounds + 1):
        own = Sample(f"own-{number}", policy, Data("sft"), settings.drafts, first=First(settings.prompts))
        pairs, shape = Output(own.name), "annotated_against_own"
        steps = round_settings(settings.policy, number, settings.rounds)
        train = dpo_round(number, policy, pairs, shape, steps, settings.beta, policy, checkpoints)
        stages += [own, train]
        policy = Output(train.name)
    return stages


def _before_rounds(settings: GradedSettings, checkpoints: int) -> list[Stage]:
    """Train the start, and the reward model where one grades."""
    return [*start_stages(settings, checkpoints), *grading_stages(settings.grader, policy_start(settings), settings)]


def _graded_samples(settings: GradedSettings, number: int, policy: Source) -> list[Stage]:
    samples = sample_stage(settings, settings.samples, number, policy)
    graded = grade_stage(
        f"grades-{number}",
        Output(samples.name),
        settings.grader,
        policy,
        policy_start(settings),
        settings.min_graded_share,
    )
    return [samples, graded]
