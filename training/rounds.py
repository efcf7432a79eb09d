"""What methods that train in rounds share: how the steps are shared out, and a round of DPO."""

from __future__ import annotations

from seft_bench.errors import InputError
from seft_bench.records import Source

from .settings import TrainSettings
from .stages import Shape, Train


def round_settings(settings: TrainSettings, number: int, rounds: int) -> TrainSettings:
    """Give a round its share of the policy's steps or tokens, so that more rounds do not mean more training.

    Raises:
        InputError: there are fewer steps than rounds.
    """
    shares = {key: _share(key, getattr(settings, key), number, rounds) for key in ("max_steps", "max_tokens")}
    return settings.model_copy(update=shares)


def _share(key: str, total: int | None, number: int, rounds: int) -> int | None:
    if total is None:
        return None
    if total < rounds:
        raise InputError(
            f"policy.{key}: {total} cannot be shared by {rounds} rounds, of which each has at least one: give more, or "
            "fewer rounds"
        )
    return round(total * number / rounds) - round(total * (number - 1) / rounds)


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
