"""Losses as pure functions of log-probabilities: tensors in, tensors out.

Every loss sees one micro-batch and the totals of the GLOBAL batch, and returns its share: shares of all micro-batches
add up to the loss of the global batch, so batch 8 x accumulation 1 equals batch 2 x accumulation 4.

A new loss is one function and one line in `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seft_bench.errors import InputError, unknown_name

Metrics = dict[str, Tensor]


class Logprobs(NamedTuple):
    """Log-probabilities of one micro-batch of n examples.

    Attributes:
        chosen: [n] summed log p of the answer (for pairs: of the chosen one) under the policy, <= 0.
        chosen_tokens: [n] labelled tokens in that sum.
        rejected, rejected_tokens: [n] the same of the rejected answer; None where a loss needs no pairs.
        reference_chosen, reference_rejected: [n] the sums under the reference model; None where a loss needs none.
    """

    chosen: Tensor
    chosen_tokens: Tensor
    rejected: Tensor | None = None
    rejected_tokens: Tensor | None = None
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None


class Totals(NamedTuple):
    """Counts over the global batch, by which every loss normalises."""

    examples: int
    chosen_tokens: int


class LossOutput(NamedTuple):
    """A micro-batch's share of the global batch's loss and metrics.

    Attributes:
        loss: scalar, differentiable.
        metrics: name -> scalar, detached.
    """

    loss: Tensor
    metrics: Metrics


def sft_loss(logprobs: Logprobs, totals: Totals) -> LossOutput:
    """Mean negative log-likelihood per labelled token of the global batch.

    L = - sum_i log p(y_i | x_i) / (labelled tokens of the global batch)
    """
    return LossOutput(-logprobs.chosen.sum() / totals.chosen_tokens, {})


def dpo_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1) -> LossOutput:
    """Direct preference optimisation, sigmoid form (Rafailov et al. 2023, arXiv 2305.18290, equation 7).

    L = - mean_i log sigmoid(beta ((s_w - s_l) - (r_w - r_l))), with s and r the summed log-probabilities under policy
    and reference, and the mean over the pairs of the global batch. The metric `log_ratio` is the mean of s - r over all
    answers, chosen and rejected: the usual stand-in for the divergence from the reference. The answers are the data's,
    not the policy's own, so it is no KL divergence and mostly falls below 0.

    Args:
        beta: strength of the pull to the reference, > 0; the published recipes use 0.01 to 0.1.
    """
    rejected, reference_chosen, reference_rejected = _pair_with_reference(logprobs)
    chosen_reward = beta * (logprobs.chosen - reference_chosen)
    rejected_reward = beta * (rejected - reference_rejected)
    margin = chosen_reward - rejected_reward
    metrics = {
        "reward_accuracy": _right(margin) / totals.examples,
        "reward_margin": margin.detach().sum() / totals.examples,
        "chosen_reward": chosen_reward.detach().sum() / totals.examples,
        "rejected_reward": rejected_reward.detach().sum() / totals.examples,
        "log_ratio": (chosen_reward + rejected_reward).detach().sum() / (2 * beta * totals.examples),
    }
    return LossOutput(-F.logsigmoid(margin).sum() / totals.examples, metrics)


def orpo_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1) -> LossOutput:
    """Odds ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691, equations 6 and 7).

    L = NLL(chosen) - beta mean_i log sigmoid(log odds(a_w) - log odds(a_l)), where a is the log-probability per answer
    token and log odds(a) = a - log(1 - exp(a)). The NLL is the mean over the chosen answers' tokens of the global
    batch (TRL also counts the prompt's tokens there), the second mean goes over its pairs.

    Args:
        beta: weight of the odds-ratio term (lambda in the paper), > 0.
    """
    rejected, rejected_tokens = _pair(logprobs)
    nll = -logprobs.chosen.sum() / totals.chosen_tokens
    log_odds_ratio = _log_odds(logprobs.chosen / logprobs.chosen_tokens) - _log_odds(rejected / rejected_tokens)
    odds_term = -F.logsigmoid(log_odds_ratio).sum() / totals.examples
    metrics = {
        "nll": nll.detach(),
        "reward_accuracy": _right(log_odds_ratio) / totals.examples,
        "log_odds_ratio": log_odds_ratio.detach().sum() / totals.examples,
    }
    return LossOutput(nll + beta * odds_term, metrics)


def _right(margin: Tensor) -> Tensor:
    """Count the pairs told right; a margin of exactly 0, as every pair has before the first update, is half right."""
    return torch.heaviside(margin.detach(), margin.new_tensor(0.5)).sum()


def _log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p < 0.

    log p is kept 1e-6 away from 0, where the odds of a certain answer are infinite.
    """
    log_p = log_p.clamp(max=-1e-6)
    return log_p - torch.log(-torch.expm1(log_p))


def _pair(logprobs: Logprobs) -> tuple[Tensor, Tensor]:
    if logprobs.rejected is None or logprobs.rejected_tokens is None:
        raise TypeError("this loss compares two answers: rejected log-probabilities are needed")
    return logprobs.rejected, logprobs.rejected_tokens


def _pair_with_reference(logprobs: Logprobs) -> tuple[Tensor, Tensor, Tensor]:
    rejected, _ = _pair(logprobs)
    if logprobs.reference_chosen is None or logprobs.reference_rejected is None:
        raise TypeError("this loss needs the reference model's log-probabilities")
    return rejected, logprobs.reference_chosen, logprobs.reference_rejected


@dataclass(frozen=True)
class Loss:
    """A loss and the facts about it that the loop acts on.

    Attributes:
        function: (Logprobs, Totals, **settings) -> LossOutput.
        needs_pairs: rows are (prompt, chosen, rejected), not (prompt, answer).
        needs_reference: log-probabilities of a frozen reference model are computed before training.
        length_average: answers are compared by log-probability per token, not by their sum.
        defaults: the settings it takes, with their defaults; no other is accepted.
    """

    function: Callable[..., LossOutput]
    needs_pairs: bool
    needs_reference: bool
    length_average: bool
    defaults: Mapping[str, float] = field(default_factory=dict)


LOSSES: dict[str, Loss] = {
    "sft": Loss(sft_loss, needs_pairs=False, needs_reference=False, length_average=True),
    "dpo": Loss(dpo_loss, needs_pairs=True, needs_reference=True, length_average=False, defaults={"beta": 0.1}),
    "orpo": Loss(orpo_loss, needs_pairs=True, needs_reference=False, length_average=True, defaults={"beta": 0.1}),
}


def find_loss(name: str, settings: Mapping[str, float]) -> Loss:
    """Look a loss up, and check its settings.

    Raises:
        InputError: unknown loss, a setting that the loss does not take, or one that is not a positive number.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    loss = LOSSES[name]
    for key, value in settings.items():
        if key not in loss.defaults:
            raise unknown_name(f"setting of the loss {name!r}", key, loss.defaults)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(f"setting {key!r} of the loss {name!r} must be a positive number, got {value!r}")
    return loss
