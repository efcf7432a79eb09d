"""Methods of online reinforcement learning: GRPO and RLOO. The policy draws each batch of answers anew.

One stage trains from the start to the end; what grades is an input of it. Samples are drawn at temperature 1, from the
policy itself, so that its first update of a batch is on-policy exactly.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seft_bench.config import Strict
from seft_bench.records import Data, Source

from .graders import BASE_LIKELIHOOD, GRADED_BY, POLICY_LIKELIHOOD, GraderName, likelihood_model, rewarding_model
from .loss_table import LossSettings
from .reward_models import RewardTraining, grading_stages
from .settings import Advantages, Online, TrainSettings
from .stages import Shape, Stage, Train
from .start import SftSettings, policy_start, start_stages


class DrawSettings(Strict):
    """How the policy draws the answers that it learns from."""

    max_new_tokens: int = Field(default=64, gt=0)
    batch_size: int = Field(default=128, gt=0, description="answers drawn at a time")


class OnlineSettings(RewardTraining, SftSettings):
    """What online methods have in common; `reward_model` is for `grader: trained-reward-model`."""

    policy: TrainSettings
    samples: int = Field(default=8, gt=1, description="of each prompt; global_batch_size counts samples")
    updates: int = Field(
        default=1, gt=0, description="optimizer steps on each batch of samples; epsilon bounds from the second on"
    )
    prompts: int | None = Field(default=None, gt=0, description="prompts to use; null: all")
    drafts: DrawSettings = DrawSettings()
    epsilon: float = Field(default=0.2, gt=0, lt=1, description="the ratio is cut below 1 - epsilon")
    epsilon_high: float | None = Field(
        default=None, gt=0, description="and above 1 + epsilon_high; null: epsilon (DAPO: 0.28)"
    )
    mask_truncated: bool = Field(default=False, description="answers cut at max_new_tokens are not learnt")
    grader: GraderName = Field(default=BASE_LIKELIHOOD, min_length=1, description=GRADED_BY)

    @model_validator(mode="after")
    def _batches_fit(self) -> OnlineSettings:
        size = self.policy.global_batch_size
        if size % self.samples:
            raise ValueError(
                f"policy.global_batch_size counts samples, and must be a multiple of samples: got {size} and "
                f"{self.samples}"
            )
        if self.policy.max_length <= self.drafts.max_new_tokens:
            raise ValueError(
                f"policy.max_length must leave prompts room beside drafts.max_new_tokens: got {self.policy.max_length} "
                f"and {self.drafts.max_new_tokens}"
            )
        return self

    @model_validator(mode="after")
    def _can_draw(self) -> OnlineSettings:
        if self.grader == POLICY_LIKELIHOOD:
            raise ValueError(f"grader: the policy changes in every step: give start-likelihood, not {self.grader}")
        if self.policy.max_tokens:
            raise ValueError("policy.max_tokens: nobody knows how many tokens a policy will draw: give max_steps")
        if self.policy.validation:
            raise ValueError("policy.validation: there is no held-out loss of answers that a policy draws itself")
        if self.policy.sharding == "fsdp":
            raise ValueError(
                "policy.sharding: fsdp cannot draw answers while it trains: give ddp, each process a whole model"
            )
        return self

    def grading_model(self) -> Source | None:
        """Find the model whose likelihood grades; None where a judge or a reward model does."""
        return likelihood_model(self.grader, policy_start(self), policy_start(self))

    def loss_settings(self) -> LossSettings:
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        return {"epsilon": self.epsilon, "epsilon_high": high}

    def online(self, advantages: Advantages, reward_beta: float = 0.0) -> Online:
        return Online(
            self.samples,
            self.updates,
            self.drafts.max_new_tokens,
            self.drafts.batch_size,
            advantages,
            reward_beta,
            self.mask_truncated,
            judge=None if self.grading_model() or rewarding_model(self.grader) else self.grader,
        )


class GrpoSettings(OnlineSettings):
    """GRPO, with the choices of Dr. GRPO, DAPO and GSPO as settings."""

    policy: TrainSettings = TrainSettings(learning_rate=5e-4, max_steps=150, global_batch_size=64, micro_batch_size=64)
    beta: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="of the divergence from the start, in the loss"
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        default="group", description="rewards are divided by the spread of their group, of the batch, or not (Dr. GRPO)"
    )
    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = Field(
        default="dapo", description="how tokens are averaged, see docs/methods.md"
    )
    ratio: Literal["token", "sequence"] = Field(default="token", description="of importance; sequence: GSPO")


class RlooSettings(OnlineSettings):
    """REINFORCE leave-one-out."""

    policy: TrainSettings = TrainSettings(learning_rate=5e-4, max_steps=150, global_batch_size=64, micro_batch_size=64)
    beta: float = Field(
        default=0.05, ge=0, allow_inf_nan=False, description="of the divergence from the start, taken off the reward"
    )


def grpo_stages(settings: GrpoSettings, checkpoints: int) -> list[Stage]:
    """Train by GRPO (Shao et al. 2024, arXiv 2402.03300)."""
    own: LossSettings = {"beta": settings.beta, "loss_type": settings.loss_type, "ratio": settings.ratio}
    return _stages("grpo", settings, settings.online(settings.scale_rewards), own, bool(settings.beta), checkpoints)


def rloo_stages(settings: RlooSettings, checkpoints: int) -> list[Stage]:
    """Train by RLOO (Ahmadian et al. 2024, arXiv 2402.14740)."""
    online = settings.online("leave_one_out", settings.beta)
    return _stages("rloo", settings, online, {}, bool(settings.beta), checkpoints)


def _stages(
    name: str, settings: OnlineSettings, online: Online, own: LossSettings, has_reference: bool, checkpoints: int
) -> list[Stage]:
    start = policy_start(settings)
    policy = Train(
        name,
        start,
        Data("prompts"),
        Shape("prompts", first=settings.prompts),
        settings.policy,
        loss=name,
        loss_settings={**settings.loss_settings(), **own},
        checkpoints=checkpoints,
        reference=start if has_reference else None,
        online=online,
        grader=settings.grading_model(),
        reward_model=rewarding_model(settings.grader),
    )
    return [*start_stages(settings, checkpoints), *grading_stages(settings.grader, start, settings), policy]
