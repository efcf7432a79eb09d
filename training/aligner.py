"""The Aligner as stages: a reviser learns from annotated pairs, and corrects a policy's answers when it is asked.

After Aligner (Ji et al. 2024, arXiv 2402.02416), whose corrector learns question and poor answer -> good answer, and
copies; here with SEFT's adaptive reviser and its decision as alternatives. The policy itself is not trained.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seft_bench.records import Output

from .revisers import (
    ReviserKind,
    ReviserSettings,
    calibration_stages,
    decider_of,
    first_stages,
    named_model,
    reviser_of,
    reviser_stages,
    revising,
)
from .stages import Pair, Stage


class AlignerSettings(ReviserSettings):
    """Aligner: a reviser over a policy that stays as it is; the two are evaluated as one model."""

    reviser_kind: ReviserKind = Field(
        default="plain",
        description="plain: learns poor answer -> good answer, and copies of good ones; adaptive: SEFT's, with labels; "
        "untrained: reviser_init as it is",
    )
    decision: Literal["always", "likelihood", "margin", "token"] = Field(
        default="always", description="who decides to revise: nobody (always), or as in SEFT"
    )
    draft_policy: str = Field(
        default="start",
        min_length=1,
        description="whose answers are corrected: start, chosen (SFT on the good answers, from init), base, or a ready "
        "model",
    )


def aligner_stages(settings: AlignerSettings, checkpoints: int) -> list[Stage]:
    """Train the reviser, calibrate its decision where it has one, and put it beside the policy."""
    policy = named_model(settings.draft_policy)
    calibrated = settings.decision in ("likelihood", "token")
    calibration = calibration_stages(settings, "", policy) if calibrated else []
    pair = Pair(
        "aligner",
        policy,
        reviser_of(settings),
        settings.decision,
        revising(settings),
        decider=decider_of(settings),
        calibration=Output(calibration[-1].name) if calibration else None,
        margin=settings.margin if settings.decision == "margin" else None,
    )
    first = first_stages(settings, [settings.draft_policy, settings.reviser_init], checkpoints)
    return [*first, *reviser_stages(settings, policy), *calibration, pair]
