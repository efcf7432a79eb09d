"""The method that trains a reward model, and its training as a stage of methods that grade by it."""

from __future__ import annotations

from pydantic import Field, field_validator

from seft_bench.config import Strict
from seft_bench.records import Data, Source

from .graders import REWARD_MODEL, TRAINED_REWARD_MODEL
from .settings import TrainSettings, ValidationSettings
from .stages import Shape, Stage, Train
from .start import SftSettings, policy_start, start_stages

HELD_OUT = ValidationSettings(share=0.1, every_steps=50)
"""The pairs on which a reward model's accuracy is measured, where the settings name no others."""


class RewardTraining(Strict):
    """The training of a reward model on the annotated preference pairs.

    A centering of 0.01 is what its paper (arXiv 2312.09244) and TRL recommend.
    """

    reward_model: TrainSettings = TrainSettings(learning_rate=3e-4, max_steps=150)
    centering: float = Field(
        default=0.01,
        ge=0,
        allow_inf_nan=False,
        description="weight of what draws the reward model's rewards to 0; with 0 their level is free",
    )

    @field_validator("reward_model")
    @classmethod
    def _padded(cls, settings: TrainSettings) -> TrainSettings:
        if settings.padding_free:
            raise ValueError("padding_free cannot be true of a reward model, which reads its rewards in padded batches")
        return settings


class RewardModelSettings(RewardTraining, SftSettings):
    """A reward model, from the start."""


def reward_model_stages(settings: RewardModelSettings, checkpoints: int) -> list[Stage]:
    """Train the start, then the reward model on its weights."""
    reward = reward_stage(policy_start(settings), settings, checkpoints)
    return [*start_stages(settings, checkpoints), reward]


def grading_stages(grader: str, start: Source, settings: RewardTraining) -> list[Stage]:
    """Train the reward model that a method grades by; nothing where it grades by something else."""
    return [reward_stage(start, settings)] if grader == TRAINED_REWARD_MODEL else []


def reward_stage(start: Source, settings: RewardTraining, checkpoints: int = 1) -> Train:
    """Train a reward model from a policy's start. Its accuracy is always measured on pairs that are held out."""
    given = settings.reward_model
    return Train(
        REWARD_MODEL,
        start,
        Data("preferences"),
        Shape("pairs"),
        given if given.validation else given.model_copy(update={"validation": HELD_OUT}),
        loss=REWARD_MODEL,
        loss_settings={"centering": settings.centering},
        checkpoints=checkpoints,
    )
