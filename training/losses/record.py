"""The record that every loss reads, the one that it returns, and the arithmetic that several share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Metrics = dict[str, Tensor]


class Shared(NamedTuple):
    """Sums [n] over the first tokens of each answer, as many as the shorter answer of its pair has."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor


class Logprobs(NamedTuple):
    """Log-probabilities of one micro-batch of n examples.

    Attributes:
        chosen: [n] summed log p of the answer (for pairs: of the chosen one) under the policy, <= 0.
        chosen_tokens: [n] labelled tokens in that sum.
        rejected, rejected_tokens: [n] the same of the rejected answer; None where a loss needs no pairs.
        reference_chosen, reference_rejected: [n] the sums under the reference model; None where a loss needs none.
        desirable: [n] bool, the answers' labels, where answers are labelled one by one.
        shared: the sums over the length that both answers of a pair have; None where a loss needs none.
        weights: [n] of the (chosen) answers in the negative log-likelihood, >= 0; None: each counts as it is.
    """

    chosen: Tensor
    chosen_tokens: Tensor
    rejected: Tensor | None = None
    rejected_tokens: Tensor | None = None
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    desirable: Tensor | None = None
    shared: Shared | None = None
    weights: Tensor | None = None


class Rewards(NamedTuple):
    """Rewards of one micro-batch of n pairs: [n] each, of the chosen and of the rejected answer's conversation."""

    chosen: Tensor
    rejected: Tensor


def logprobs_of(
    sums: Sequence[Tensor], tokens: Sequence[Tensor], reference: Sequence[Tensor], labels: Sequence[bool | None] | None
) -> Logprobs:
    """Order what a forward gives: the columns of a micro-batch's sums.

    Args:
        sums, reference: [n] each, of the (chosen) answers, of the rejected ones, of both over the length that they
            share; those of the reference may be absent.
        tokens: [n] each, of the same answers.
        labels: of answers that are labelled one by one.
    """
    if labels is not None:
        desirable = torch.tensor(labels, dtype=torch.bool, device=sums[0].device)
        return Logprobs(sums[0], tokens[0], reference_chosen=reference[0], desirable=desirable)
    if len(sums) == 1:
        return Logprobs(sums[0], tokens[0])
    pair = Logprobs(sums[0], tokens[0], sums[1], tokens[1])
    if not reference:
        return pair
    shared = Shared(sums[2], sums[3], reference[2], reference[3]) if len(sums) == 4 else None
    return pair._replace(reference_chosen=reference[0], reference_rejected=reference[1], shared=shared)


class Totals(NamedTuple):
    """Figures of the global batch, by which every loss normalises.

    Attributes:
        kl: [] divergence of the policy from the reference on mismatched answers, >= 0, where a loss needs it.
    """

    examples: int
    chosen_tokens: int
    kl: Tensor | None = None


class LossOutput(NamedTuple):
    """A micro-batch's share of the global batch's loss and metrics.

    Attributes:
        loss: scalar, differentiable.
        metrics: name -> scalar, detached.
    """

    loss: Tensor
    metrics: Metrics


class Pair(NamedTuple):
    """The sums [n] of a micro-batch of pairs."""

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor


def pair_of(logprobs: Logprobs) -> Pair:
    """Take the two answers' sums.

    Raises:
        TypeError: the micro-batch holds no pairs.
    """
    if logprobs.rejected is None or logprobs.rejected_tokens is None:
        raise TypeError("this loss compares two answers: rejected log-probabilities are needed")
    return Pair(logprobs.chosen, logprobs.rejected, logprobs.chosen_tokens, logprobs.rejected_tokens)


def compared(
    losses: Tensor,
    chosen_reward: Tensor,
    rejected_reward: Tensor,
    logprobs: Logprobs,
    totals: Totals,
    nll_weight: float,
) -> LossOutput:
    """Average the losses of pairs, add the chosen answers' NLL by its weight, and sum the rewards up.

    Args:
        losses: [n] of the pairs.
        chosen_reward, rejected_reward: [n] what the loss ranks the answers by.
    """
    margin = (chosen_reward - rejected_reward).detach()
    metrics = {
        "reward_accuracy": right(margin) / totals.examples,
        "reward_margin": margin.sum() / totals.examples,
        "chosen_reward": chosen_reward.detach().sum() / totals.examples,
        "rejected_reward": rejected_reward.detach().sum() / totals.examples,
    }
    loss = losses.sum() / totals.examples
    if not nll_weight:
        return LossOutput(loss, metrics)
    nll = nll_of(logprobs, totals)
    return LossOutput(loss + nll_weight * nll, {**metrics, "nll": nll.detach()})


def nll_of(logprobs: Logprobs, totals: Totals) -> Tensor:
    """Mean negative log-likelihood per token of the (chosen) answers of the global batch.

    A weighted answer's tokens count by its weight in the sum, and as tokens in what it is divided by: weights of mean 1
    leave the size of a step as it is, and a batch of light rows takes a small one.
    """
    sums = logprobs.chosen if logprobs.weights is None else logprobs.weights * logprobs.chosen
    return -sums.sum() / totals.chosen_tokens


def right(margin: Tensor) -> Tensor:
    """Count the pairs told right; a margin of exactly 0, as every pair has before the first update, is half right."""
    return torch.heaviside(margin.detach(), margin.new_tensor(0.5)).sum()
