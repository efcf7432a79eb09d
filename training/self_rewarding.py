"""Self-rewarding: iterative DPO whose judge is the round's own policy (Yuan et al. 2024, arXiv 2401.10020).

Our prompt and scale are those of every judge here (1-10), where the paper's are additive (0-5), and the policy is not
trained to judge before.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seft_bench.records import Output, Source

from .graders import GRADED_ENOUGH, LEAST_GRADED
from .rounds import dpo_round, round_settings
from .sampled import SampledSettings, alike, sample_stage
from .settings import DraftSettings, TrainSettings
from .stages import Asking, Grade, Stage
from .start import policy_start, refuse, start_stages


class SelfRewardingSettings(SampledSettings):
    """Self-rewarding: a round's policy samples, grades its own samples, and learns the best against the worst."""

    policy: TrainSettings = TrainSettings(learning_rate=2e-4, max_steps=150)
    samples: int = Field(default=8, gt=1, description="of each prompt")
    judge: Literal["likelihood", "prompt"] = Field(
        default="likelihood",
        description="how the policy grades: by its own mean log-probability per token, which any model has, or asked "
        "with a judge's prompt, which takes a model that follows instructions",
    )
    judge_draws: int = Field(default=3, gt=0, description="with judge prompt: verdicts of a sample, whose mean counts")
    judging: DraftSettings = Field(
        default=DraftSettings(max_new_tokens=256, batch_size=32),
        description="with judge prompt: how verdicts are drawn",
    )
    beta: float = Field(default=0.1, gt=0)
    min_graded_share: float = Field(default=LEAST_GRADED, ge=0, le=1, description=GRADED_ENOUGH)

    @model_validator(mode="after")
    def _judge_fits(self) -> Self:
        unused = self.changed(("judge_draws", "judging")) if self.judge == "likelihood" else []
        found = [f"{key} is for judge: prompt, and judge is likelihood" for key in unused]
        if self.judge == "prompt" and self.judge_draws > 1 and self.judging.temperature == 0:
            found.append(f"judging.temperature: 0 makes all {self.judge_draws} judge_draws alike: give judge_draws: 1")
        refuse([*found, *alike(self.samples, self.drafts)])
        return self


def self_rewarding_stages(settings: SelfRewardingSettings, checkpoints: int) -> list[Stage]:
    """Sample, grade and train in rounds; the reference is what the round starts from."""
    stages, policy = start_stages(settings, checkpoints), policy_start(settings)
    for number in range(1, settings.rounds + 1):
        graded = _own_grades(settings, number, policy)
        pairs, steps = Output(graded[-1].name), round_settings(settings.policy, number, settings.rounds)
        train = dpo_round(number, policy, pairs, "best_against_worst", steps, settings.beta, policy, checkpoints)
        stages += [*graded, train]
        policy = Output(train.name)
    return stages


def _own_grades(settings: SelfRewardingSettings, number: int, policy: Source) -> list[Stage]:
    samples = sample_stage(settings, settings.samples, number, policy)
    asking = Asking(settings.judge_draws, settings.judging) if settings.judge == "prompt" else None
    name = f"grades-by-{settings.judge}-{number}"
    return [
        samples,
        Grade(name, Output(samples.name), model=policy, asking=asking, least_share=settings.min_graded_share),
    ]
