"""The loss of answers that are learnt as they are."""

from __future__ import annotations

from .record import Logprobs, LossOutput, Totals, nll_of


def sft_loss(logprobs: Logprobs, totals: Totals) -> LossOutput:
    """Mean negative log-likelihood per labelled token of the global batch.

    L = - sum_i w_i log p(y_i | x_i) / (labelled tokens of the global batch), w_i = 1 where rows have no weights
    """
    return LossOutput(nll_of(logprobs, totals), {})
