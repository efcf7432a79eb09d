"""Losses of single answers that are labelled desirable or undesirable."""

from __future__ import annotations

import torch
from torch import Tensor

from .record import Logprobs, LossOutput, Metrics, Totals


def kto_loss(
    logprobs: Logprobs,
    totals: Totals,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossOutput:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306, equations 7 and 8).

    L = mean w (1 - sigmoid(beta (s - r - KL))) of desirable answers, w (1 - sigmoid(beta (KL - (s - r)))) of others. KL
    is estimated over the global batch: the mean of s - r of answers to other prompts than their own, not below 0; no
    gradient goes through it.

    Args:
        beta: as in DPO, > 0.
        desirable_weight, undesirable_weight: w; the paper keeps weight times number of the two kinds within 1 to 4/3.
    """
    if totals.kl is None:
        raise TypeError("this loss needs the divergence from the reference on mismatched answers")
    kl = totals.kl.detach()
    loss, metrics = _anchored(logprobs, totals, kl, beta, desirable_weight, undesirable_weight)
    return LossOutput(loss, metrics | {"kl": kl * (len(logprobs.chosen) / totals.examples)})


def apo_zero_labelled_loss(
    logprobs: Logprobs,
    totals: Totals,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossOutput:
    """Anchored preference optimisation of single answers: `apo_zero_unpaired` of TRL's KTO trainer.

    L = mean w (1 - sigmoid(beta (s - r))) of desirable answers, w sigmoid(beta (s - r)) of others: KTO with KL = 0.
    """
    return _anchored(logprobs, totals, 0.0, beta, desirable_weight, undesirable_weight)


def _anchored(
    logprobs: Logprobs,
    totals: Totals,
    anchor: Tensor | float,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> LossOutput:
    """Weigh how far each answer's log-ratio lies on its label's side of the anchor, through a sigmoid."""
    log_ratio, sign, desirable = _signed(logprobs)
    weights = torch.where(desirable, desirable_weight, undesirable_weight)
    advantage = beta * sign * (log_ratio - anchor)
    losses = weights * (1 - torch.sigmoid(advantage))
    return LossOutput(losses.sum() / totals.examples, _metrics(log_ratio, sign, advantage, beta, totals))


def _signed(logprobs: Logprobs) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-ratios s - r [n], +1 for desirable answers and -1 for others [n], and the labels [n] bool.

    Raises:
        TypeError: there are no labels, or no reference.
    """
    if logprobs.desirable is None:
        raise TypeError("this loss needs answers that are labelled desirable or undesirable")
    if logprobs.reference_chosen is None:
        raise TypeError("this loss needs the reference model's log-probabilities")
    sign = torch.where(logprobs.desirable, 1.0, -1.0).to(logprobs.chosen.dtype)
    return logprobs.chosen - logprobs.reference_chosen, sign, logprobs.desirable


def _metrics(log_ratio: Tensor, sign: Tensor, advantage: Tensor, beta: float, totals: Totals) -> Metrics:
    """Share of answers on their label's side of the anchor, and the reward, counted negative where undesirable."""
    right = torch.heaviside(advantage.detach(), advantage.new_tensor(0.5)).sum()
    return {
        "reward_accuracy": right / totals.examples,
        "signed_reward": (beta * sign * log_ratio).detach().sum() / totals.examples,
        "log_ratio": log_ratio.detach().sum() / totals.examples,
    }
