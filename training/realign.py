"""ReAlign as stages: SEFT's reviser, and a policy that learns pairs of a revision and the draft that it replaced.

After ReAlign (Findings of EMNLP 2025, 642), the successor of SEFT's authors, in our reading (docs/seft.md).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seft_bench.records import Output, Source

from .graders import (
    BASE_LIKELIHOOD,
    GRADED_BY,
    GRADED_ENOUGH,
    LEAST_GRADED,
    GraderName,
    grade_stage,
)
from .reward_models import RewardTraining, grading_stages
from .rounds import dpo_round
from .seft import EvolutionSettings, all_stages
from .settings import TrainSettings
from .stages import Grade, Stage
from .start import policy_start


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

    @property
    def external_samples(self) -> int:
        """Drafts of each prompt that an external round draws."""
        return self.pair_samples if self.on_policy_pairs else self.candidates

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
    return all_stages(settings, learn, checkpoints, rewards)


def _graded_drafts(settings: RealignSettings, number: int, policy: Source) -> Grade:
    drafts, start = Output(f"drafts-{number}"), policy_start(settings)
    return grade_stage(f"grades-{number}", drafts, settings.grader, policy, start, settings.min_graded_share)
