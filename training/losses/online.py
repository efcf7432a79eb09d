"""Losses of answers that the policy has drawn itself: GRPO with its relatives, and RLOO; and their advantages.

They see every token of every answer. In the docstrings p is the policy, q the policy that drew the answers, r the
reference, A_i the advantage of answer i, N the answers and T the learnt tokens of the global batch, |y_i| an answer's
learnt tokens. An answer that is left out (masked) keeps its place: it counts in N, and no token of it is learnt.

Signs, constants and normalisations are those of TRL 1.16's GRPO and RLOO trainers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .record import LossOutput

SPREAD_AT_LEAST = 1e-4
"""Added to a standard deviation of rewards that is divided by."""


class Sampled(NamedTuple):
    """Log-probabilities of one micro-batch of n sampled answers, of `width` tokens at most.

    Attributes:
        policy: [n, width] log p of each token; of padding, any finite number.
        drawn: [n, width] log q of each token, detached; in the first update of a batch it equals `policy`.
        learnt: [n, width] bool, False in padding and in answers that are left out.
        advantages: [n] detached.
        reference: [n, width] log r; None where the loss is without one.
    """

    policy: Tensor
    drawn: Tensor
    learnt: Tensor
    advantages: Tensor
    reference: Tensor | None = None


class SampledTotals(NamedTuple):
    """Figures of the global batch, by which losses of sampled answers normalise.

    Attributes:
        answers: N, those that are left out, too.
        tokens: T, at least 1.
        micro_batches: of all processes.
        limit: tokens that an answer may have.
    """

    answers: int
    tokens: int
    micro_batches: int
    limit: int


def grpo_loss(
    sampled: Sampled,
    totals: SampledTotals,
    epsilon: float = 0.2,
    epsilon_high: float = 0.2,
    beta: float = 0.0,
    loss_type: str = "dapo",
    ratio: str = "token",
) -> LossOutput:
    """Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300, equation 3), and its relatives.

    l_it = - min(w_it A_i, clip(w_it, 1 - epsilon, 1 + epsilon_high) A_i) + beta w_it (r/p - log r/p - 1)

    with w_it = p/q of the token. The divergence is Schulman's k3, times w_it so that its gradient is that of the
    reverse KL (DeepSeek-V3.2, arXiv 2512.02556; TRL's default). How tokens are averaged is `loss_type`:

        grpo     (1/N) sum_i (1/|y_i|) sum_t l_it
        dapo     (1/T) sum_i sum_t l_it                     (arXiv 2503.14476, equation 8)
        dr_grpo  (1/(N limit)) sum_i sum_t l_it             (arXiv 2503.20783, which has unscaled advantages, too)
        bnpo     as dapo within each micro-batch, then the mean of the micro-batches: micro_batch_size changes it

    Args:
        epsilon, epsilon_high: bounds of the ratio, of no effect in the first update of a batch, where it is 1.
        beta: of the divergence from the reference; 0 needs none.
        ratio: "token", or "sequence": w_it = exp of the mean of log p/q over the answer's tokens (GSPO, arXiv
            2507.18071).
    """
    if ratio == "sequence":
        lengths = sampled.learnt.sum(dim=1, keepdim=True).clamp(min=1)
        log_weights = _kept(sampled.policy - sampled.drawn, sampled.learnt).sum(dim=1, keepdim=True) / lengths
    else:
        log_weights = _kept(sampled.policy - sampled.drawn, sampled.learnt)
    weights, advantages = torch.exp(log_weights), sampled.advantages[:, None]
    clipped = torch.clamp(weights, 1 - epsilon, 1 + epsilon_high)
    losses = -torch.min(weights * advantages, clipped * advantages).expand_as(sampled.policy)
    outside = _is_clipped(weights, advantages, epsilon, epsilon_high).expand_as(sampled.learnt)
    metrics = {"clipped_share": _kept(outside.float(), sampled.learnt).sum() / totals.tokens}
    if beta:
        divergence = _k3(sampled) * weights
        losses = losses + beta * divergence
        metrics["kl"] = _kept(divergence.detach(), sampled.learnt).sum() / totals.tokens
    return LossOutput(_averaged(_kept(losses, sampled.learnt), sampled.learnt, totals, loss_type), metrics)


def rloo_loss(sampled: Sampled, totals: SampledTotals, epsilon: float = 0.2, epsilon_high: float = 0.2) -> LossOutput:
    """REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv 2402.14740, equation 8), clipped.

    L = - (1/N) sum_i min(w_i A_i, clip(w_i, 1 - epsilon, 1 + epsilon_high) A_i), w_i = p/q of the whole answer

    The divergence from the reference is a part of the reward, see `divergence_of`.
    """
    weights = torch.exp(_kept(sampled.policy - sampled.drawn, sampled.learnt).sum(dim=1))
    clipped = torch.clamp(weights, 1 - epsilon, 1 + epsilon_high)
    losses = -torch.min(weights * sampled.advantages, clipped * sampled.advantages)
    outside = _is_clipped(weights, sampled.advantages, epsilon, epsilon_high)
    return LossOutput(losses.sum() / totals.answers, {"clipped_share": outside.float().sum() / totals.answers})


def _averaged(losses: Tensor, learnt: Tensor, totals: SampledTotals, loss_type: str) -> Tensor:
    """Return a micro-batch's share of the mean over tokens [n, width], which are 0 where nothing is learnt."""
    match loss_type:
        case "grpo":
            return (losses.sum(dim=1) / learnt.sum(dim=1).clamp(min=1)).sum() / totals.answers
        case "dapo":
            return losses.sum() / totals.tokens
        case "dr_grpo":
            return losses.sum() / (totals.answers * totals.limit)
        case "bnpo":
            return losses.sum() / learnt.sum().clamp(min=1) / totals.micro_batches
    raise ValueError(f"unknown loss_type {loss_type!r}")


def _kept(values: Tensor, learnt: Tensor) -> Tensor:
    """Put 0 where nothing is learnt: by choice, not by product, so that what stands there has no gradient."""
    return values.masked_fill(~learnt, 0.0)


def _k3(sampled: Sampled) -> Tensor:
    """Schulman's estimate of KL(p || r) of each token, never below 0.

    Raises:
        TypeError: there is no reference.
    """
    if sampled.reference is None:
        raise TypeError("this loss needs the reference model's log-probabilities")
    log_ratio = _kept(sampled.reference - sampled.policy, sampled.learnt)
    return torch.exp(log_ratio) - log_ratio - 1


def _is_clipped(weights: Tensor, advantages: Tensor, epsilon: float, epsilon_high: float) -> Tensor:
    """True where the bounds take the gradient away."""
    return ((weights < 1 - epsilon) & (advantages < 0)) | ((weights > 1 + epsilon_high) & (advantages > 0))


# Rewards, [groups, samples]; NaN where an answer has none


def group_advantages(rewards: Tensor, spread: Tensor | None) -> Tensor:
    """GRPO: an answer's reward less the mean of its group, over a spread.

    Args:
        spread: of the rewards: [groups, 1] of each group, [] of the global batch; None does not scale (Dr. GRPO).

    Returns:
        [groups, samples]; 0 of an answer without a reward, which is part of no mean either.
    """
    advantages = rewards - rewards.nanmean(dim=1, keepdim=True)
    if spread is not None:
        advantages = advantages / (spread + SPREAD_AT_LEAST)
    return advantages.nan_to_num(nan=0.0)


def leave_one_out(rewards: Tensor) -> Tensor:
    """RLOO: an answer's reward less the mean of the others of its group.

    Returns:
        [groups, samples]; 0 of an answer without a reward, and of one that alone has one.
    """
    others = (~rewards.isnan()).sum(dim=1, keepdim=True) - 1
    means = (rewards.nansum(dim=1, keepdim=True) - rewards) / others
    return (rewards - means).nan_to_num(nan=0.0)


def divergence_of(sampled: Sampled) -> Tensor:
    """RLOO: log q/r of whole answers [n], of which beta times as much is taken off the reward.

    Raises:
        TypeError: there is no reference.
    """
    if sampled.reference is None:
        raise TypeError("a penalty on the divergence needs the reference model's log-probabilities")
    return _kept(sampled.drawn - sampled.reference, sampled.learnt).sum(dim=1)


def spread_of(rewards: Tensor, by_group: bool) -> Tensor:
    """Return the standard deviation of rewards, Bessel's, over those that there are.

    Returns:
        [groups, 1], or [] of all together; NaN where fewer than two have a reward.
    """
    dim = 1 if by_group else None
    means = rewards.nanmean(dim=dim, keepdim=by_group)
    squares = ((rewards - means) ** 2).nansum(dim=dim, keepdim=by_group)
    counts = (~rewards.isnan()).sum(dim=dim, keepdim=by_group)
    return (squares / (counts - 1)).sqrt()
