"""Losses of pairs without a reference model: ORPO, CPO, SimPO, SLiC."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .record import Logprobs, LossOutput, Totals, compared, nll_of, pair_of, right


def orpo_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1) -> LossOutput:
    """Odds ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691, equations 6 and 7).

    L = NLL(chosen) - beta mean log sigmoid(log odds(avg_w) - log odds(avg_l)), where log odds(a) = a - log(1 - exp(a)).
    The NLL is the mean over the chosen answers' tokens of the global batch (TRL also counts the prompt's tokens there),
    the second mean goes over its pairs.

    Args:
        beta: weight of the odds-ratio term (lambda in the paper), > 0.
    """
    pair = pair_of(logprobs)
    nll = nll_of(logprobs, totals)
    log_odds_ratio = _log_odds(pair.chosen / pair.chosen_tokens) - _log_odds(pair.rejected / pair.rejected_tokens)
    odds_term = -F.logsigmoid(log_odds_ratio).sum() / totals.examples
    metrics = {
        "nll": nll.detach(),
        "reward_accuracy": right(log_odds_ratio) / totals.examples,
        "log_odds_ratio": log_odds_ratio.detach().sum() / totals.examples,
    }
    return LossOutput(nll + beta * odds_term, metrics)


def cpo_loss(logprobs: Logprobs, totals: Totals, beta: float = 0.1, nll_weight: float = 1.0) -> LossOutput:
    """Contrastive preference optimisation (Xu et al. 2024, arXiv 2401.08417, equation 5).

    L = - mean log sigmoid(beta (s_w - s_l)) + nll_weight NLL(chosen)

    Args:
        nll_weight: of the chosen answers' NLL (`cpo_alpha` in TRL); the paper has 1.
    """
    pair = pair_of(logprobs)
    chosen, rejected = beta * pair.chosen, beta * pair.rejected
    return compared(-F.logsigmoid(chosen - rejected), chosen, rejected, logprobs, totals, nll_weight)


def simpo_loss(
    logprobs: Logprobs, totals: Totals, beta: float = 2.0, gamma_beta_ratio: float = 0.5, nll_weight: float = 0.0
) -> LossOutput:
    """Simple preference optimisation (Meng et al. 2024, arXiv 2405.14734, equation 6).

    L = - mean log sigmoid(beta (avg_w - avg_l - gamma_beta_ratio))

    Args:
        beta: of log-probabilities per token; the paper's recipes have 2 to 2.5 (base models) and up to 10.
        gamma_beta_ratio: target margin gamma over beta, as the authors' recipes give it; 0 asks for none.
        nll_weight: of the chosen answers' NLL, which the paper does not have (TRL's default adds it: `cpo_alpha` 1).
    """
    pair = pair_of(logprobs)
    chosen, rejected = beta * pair.chosen / pair.chosen_tokens, beta * pair.rejected / pair.rejected_tokens
    losses = -F.logsigmoid(chosen - rejected - beta * gamma_beta_ratio)
    return compared(losses, chosen, rejected, logprobs, totals, nll_weight)


def slic_loss(logprobs: Logprobs, totals: Totals, delta: float = 1.0, nll_weight: float = 0.1) -> LossOutput:
    """Sequence likelihood calibration (SLiC-HF, Zhao et al. 2023, arXiv 2305.10425, equation 1).

    L = mean max(0, delta - s_w + s_l) + nll_weight NLL(chosen)

    Args:
        delta: margin of summed log-probabilities, in nats.
        nll_weight: of the regulariser (lambda in the paper), here the NLL per token of the chosen answers.
    """
    pair = pair_of(logprobs)
    losses = torch.relu(delta - (pair.chosen - pair.rejected))
    return compared(losses, pair.chosen, pair.rejected, logprobs, totals, nll_weight)


def _log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p < 0.

    log p is kept 1e-6 away from 0, where the odds of a certain answer are infinite.
    """
    log_p = log_p.clamp(max=-1e-6)
    return log_p - torch.log(-torch.expm1(log_p))
