"""Losses of pairs that compare the policy with a frozen reference: DPO, its variants and its relatives.

All of them take `nll_weight`, which adds the NLL of the chosen answers: with DPO this is RPO (Pang et al. 2024, arXiv
2404.19733). Signs and constants are those of TRL 1.16's DPO trainer, where it has the loss.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .record import Logprobs, LossOutput, Totals, compared, pair_of


class Ratios(NamedTuple):
    """Log-ratios s - r of policy and reference [n], of the chosen and the rejected answers."""

    chosen: Tensor
    rejected: Tensor

    @property
    def difference(self) -> Tensor:
        """h, what DPO's margin is beta times of."""
        return self.chosen - self.rejected


def dpo_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1, nll_weight: float = 0.0) -> LossOutput:
    """Direct preference optimisation, sigmoid form (Rafailov et al. 2023, arXiv 2305.18290, equation 7).

    L = - mean log sigmoid(beta h)

    Args:
        beta: strength of the pull to the reference, > 0; the published recipes use 0.01 to 0.1.
    """
    ratios = _ratios(logprobs)
    return _output(-F.logsigmoid(_margin(ratios, beta)), ratios, beta, logprobs, totals, nll_weight)


def dpo_hinge_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1, nll_weight: float = 0.0) -> LossOutput:
    """DPO with the hinge in place of the sigmoid (RSO, Liu et al. 2023, arXiv 2309.06657; SLiC with a reference).

    L = mean max(0, 1 - beta h)
    """
    ratios = _ratios(logprobs)
    return _output(torch.relu(1 - _margin(ratios, beta)), ratios, beta, logprobs, totals, nll_weight)


def dpo_robust_loss(
    logprobs: Logprobs, totals: Totals, beta: float = 0.1, label_smoothing: float = 0.1, nll_weight: float = 0.0
) -> LossOutput:
    """DPO whose mean is right although a share of the labels is flipped (Chowdhury et al. 2024, arXiv 2403.00409).

    L = mean [-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)] / (1 - 2 e)

    Args:
        label_smoothing: e, the share of flipped labels, below 0.5.
    """
    ratios = _ratios(logprobs)
    margin, flipped = _margin(ratios, beta), label_smoothing
    losses = (flipped * F.logsigmoid(-margin) - (1 - flipped) * F.logsigmoid(margin)) / (1 - 2 * flipped)
    return _output(losses, ratios, beta, logprobs, totals, nll_weight)


def dpo_exo_loss(
    logprobs: Logprobs, totals: Totals, beta: float = 0.1, label_smoothing: float = 1e-3, nll_weight: float = 0.0
) -> LossOutput:
    """EXO of pairs: the reverse divergence to smoothed labels (Ji et al. 2024, arXiv 2402.00856, equation 16).

    L = mean [q (log q - log(1 - e)) + (1 - q) (log(1 - q) - log e)] with q = sigmoid(beta h)

    Args:
        label_smoothing: e, above 0.
    """
    ratios = _ratios(logprobs)
    margin = _margin(ratios, beta)
    chosen = torch.sigmoid(margin) * (F.logsigmoid(margin) - math.log1p(-label_smoothing))
    rejected = torch.sigmoid(-margin) * (F.logsigmoid(-margin) - math.log(label_smoothing))
    return _output(chosen + rejected, ratios, beta, logprobs, totals, nll_weight)


def dpo_norm_loss(logprobs: Logprobs, totals: Totals, beta: float = 5.0, nll_weight: float = 0.0) -> LossOutput:
    """Length-normalised DPO (Tulu 3, Lambert et al. 2024, arXiv 2411.15124, equation 6): log-ratios per token.

    L = - mean log sigmoid(beta ((s_w - r_w) / |y_w| - (s_l - r_l) / |y_l|))

    Args:
        beta: large, since log-ratios per token are small; Tulu 3 has 5.
    """
    ratios = _per_token(logprobs)
    return _output(-F.logsigmoid(_margin(ratios, beta)), ratios, beta, logprobs, totals, nll_weight)


def r_dpo_loss(
    logprobs: Logprobs, totals: Totals, beta: float = 0.1, alpha: float = 0.05, nll_weight: float = 0.0
) -> LossOutput:
    """DPO for a reward less alpha per token: R-DPO (Park et al. 2024, arXiv 2403.19159).

    L = - mean log sigmoid(beta h + alpha (|y_w| - |y_l|))

    A longer chosen answer is thus preferred already, by its length, and moves the policy less.

    Args:
        alpha: per token; SimPO's comparison searched 0.05 to 1.
    """
    ratios, pair = _ratios(logprobs), pair_of(logprobs)
    longer = pair.chosen_tokens - pair.rejected_tokens
    losses = -F.logsigmoid(_margin(ratios, beta) + alpha * longer)
    return _output(losses, ratios, beta, logprobs, totals, nll_weight)


def ld_dpo_loss(
    logprobs: Logprobs, totals: Totals, beta: float = 0.1, alpha: float = 0.5, nll_weight: float = 0.0
) -> LossOutput:
    """DPO that discounts what the longer answer says beyond the shorter one (Liu et al. 2024, arXiv 2409.06411).

    L = - mean log sigmoid(beta h'), h' of sums s' = s_shared + alpha (s - s_shared), for policy and reference, where
    s_shared is the sum over the first min(|y_w|, |y_l|) tokens.

    Args:
        alpha: 1 is DPO, 0 forgets the rest of the longer answer.
    """
    whole, shared = _ratios(logprobs), logprobs.shared
    if shared is None:
        raise TypeError("this loss needs the sums over the length that both answers of a pair have")
    first = Ratios(shared.chosen - shared.reference_chosen, shared.rejected - shared.reference_rejected)
    ratios = Ratios(*(part + alpha * (all_ - part) for part, all_ in zip(first, whole, strict=True)))
    return _output(-F.logsigmoid(_margin(ratios, beta)), ratios, beta, logprobs, totals, nll_weight)


def ipo_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1, nll_weight: float = 0.0) -> LossOutput:
    """Identity preference optimisation over SUMS of log-probabilities (Azar et al. 2023, arXiv 2310.12036).

    L = mean (h - 1 / (2 beta))^2

    As in the DPO authors' code. Its target grows with the answers' length; `ipo_mean_loss` is TRL's other objective.

    Args:
        beta: tau in the paper, > 0.
    """
    ratios = _ratios(logprobs)
    return _output((ratios.difference - 1 / (2 * beta)) ** 2, ratios, beta, logprobs, totals, nll_weight)


def ipo_mean_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1, nll_weight: float = 0.0) -> LossOutput:
    """Identity preference optimisation over MEANS per token, as TRL has it, and as its authors confirmed there.

    L = mean ((s_w - r_w) / |y_w| - (s_l - r_l) / |y_l| - 1 / (2 beta))^2
    """
    ratios = _per_token(logprobs)
    return _output((ratios.difference - 1 / (2 * beta)) ** 2, ratios, beta, logprobs, totals, nll_weight)


def apo_zero_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1, nll_weight: float = 0.0) -> LossOutput:
    """Anchored: chosen answers rise, rejected ones fall (D'Oosterlinck et al. 2024, arXiv 2408.06266, equation 7).

    L = mean [1 - sigmoid(beta (s_w - r_w)) + sigmoid(beta (s_l - r_l))]
    """
    ratios = _ratios(logprobs)
    losses = 1 - torch.sigmoid(beta * ratios.chosen) + torch.sigmoid(beta * ratios.rejected)
    return _output(losses, ratios, beta, logprobs, totals, nll_weight)


def apo_down_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1, nll_weight: float = 0.0) -> LossOutput:
    """Anchored: both answers fall, rejected ones more (arXiv 2408.06266, equation 8).

    L = mean [sigmoid(beta (s_w - r_w)) + 1 - sigmoid(beta h)]

    For a model that answers better than the chosen answers.
    """
    ratios = _ratios(logprobs)
    losses = torch.sigmoid(beta * ratios.chosen) + 1 - torch.sigmoid(_margin(ratios, beta))
    return _output(losses, ratios, beta, logprobs, totals, nll_weight)


def nca_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.01, nll_weight: float = 0.0) -> LossOutput:
    """Noise contrastive alignment of pairs (Chen et al. 2024, arXiv 2402.05369).

    L = mean [-log sigmoid(a) - (log sigmoid(-a) + log sigmoid(-b)) / 2] with a = beta (s_w - r_w), b = beta (s_l - r_l)
    """
    ratios = _ratios(logprobs)
    chosen, rejected = beta * ratios.chosen, beta * ratios.rejected
    losses = -F.logsigmoid(chosen) - (F.logsigmoid(-chosen) + F.logsigmoid(-rejected)) / 2
    return _output(losses, ratios, beta, logprobs, totals, nll_weight)


def sppo_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1, nll_weight: float = 0.0) -> LossOutput:
    """Self-play preference optimisation with hard labels (Wu et al. 2024, arXiv 2405.00675, equation 4.7).

    L = mean [(s_w - r_w - 1 / (2 beta))^2 + (s_l - r_l + 1 / (2 beta))^2]
    """
    ratios = _ratios(logprobs)
    losses = (ratios.chosen - 0.5 / beta) ** 2 + (ratios.rejected + 0.5 / beta) ** 2
    return _output(losses, ratios, beta, logprobs, totals, nll_weight)


def discopop_loss(
    logprobs: Logprobs, totals: Totals, beta: float = 0.05, tau: float = 0.05, nll_weight: float = 0.0
) -> LossOutput:
    """DiscoPOP, found by a language model (Lu et al. 2024, arXiv 2406.08414, equation 5).

    L = mean [-(1 - m) log sigmoid(beta h) + m exp(-beta h)] with m = sigmoid(beta h / tau)

    Args:
        tau: temperature of the mixture, > 0.
    """
    ratios = _ratios(logprobs)
    margin = _margin(ratios, beta)
    mixture = torch.sigmoid(margin / tau)
    losses = torch.exp(-margin) * mixture - F.logsigmoid(margin) * (1 - mixture)
    return _output(losses, ratios, beta, logprobs, totals, nll_weight)


def _ratios(logprobs: Logprobs) -> Ratios:
    """Log-ratios of summed log-probabilities.

    Raises:
        TypeError: there are no pairs, or no reference.
    """
    pair = pair_of(logprobs)
    if logprobs.reference_chosen is None or logprobs.reference_rejected is None:
        raise TypeError("this loss needs the reference model's log-probabilities")
    return Ratios(pair.chosen - logprobs.reference_chosen, pair.rejected - logprobs.reference_rejected)


def _per_token(logprobs: Logprobs) -> Ratios:
    pair, ratios = pair_of(logprobs), _ratios(logprobs)
    return Ratios(ratios.chosen / pair.chosen_tokens, ratios.rejected / pair.rejected_tokens)


def _margin(ratios: Ratios, beta: float) -> Tensor:
    """beta h, as the difference of the two rewards."""
    return beta * ratios.chosen - beta * ratios.rejected


def _output(
    losses: Tensor, ratios: Ratios, beta: float, logprobs: Logprobs, totals: Totals, nll_weight: float
) -> LossOutput:
    """As `compared`, by implicit rewards; and the mean log-ratio.

    The metric `log_ratio` is the mean of s - r over all answers, chosen and rejected: the usual stand-in for the
    divergence from the reference. The answers are the data's, not the policy's own, so it is no KL divergence and
    mostly falls below 0.
    """
    chosen, rejected = beta * ratios.chosen, beta * ratios.rejected
    loss, metrics = compared(losses, chosen, rejected, logprobs, totals, nll_weight)
    log_ratio = (chosen + rejected).detach().sum() / (2 * beta * totals.examples)
    return LossOutput(loss, {**metrics, "log_ratio": log_ratio})
