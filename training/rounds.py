"""What methods that train in rounds share: how the steps are shared out, and a round of DPO."""

from __future__ import annotations

from seft_bench.records import Source

from .settings import TrainSettings
from .stages import Shape, Train


def round_settings(settings: TrainSettings, number: int, rounds: int) -> TrainSettings:
    """Give a round its share of the policy's steps, so that more rounds do not mean more training."""
    total = settings.max_steps
    share = None if total is None else max(1, round(total * number / rounds) - round(total * (number - 1) / rounds))
    return settings.model_copy(update={"max_steps": share})


def dpo_round(
    number: int,
    policy: Source,
    pairs: Source,
    shape: str,
    settings: TrainSettings,
    beta: float,
    reference: Source,
    checkpoints: int,
    own: Source | None = None,
) -> Train:
    """Train a round's policy by DPO on the pairs that the shape makes of rows.

    Args:
        own: graded samples, where the shape makes pairs of them too.
    """
    return Train(
        f"policy-{number}",
        policy,
        pairs,
        Shape(shape),
        settings,
        loss="dpo",
        loss_settings={"beta": beta},
        checkpoints=checkpoints,
        reference=reference,
        preferences=own,
    )
