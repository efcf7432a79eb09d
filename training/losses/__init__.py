"""Losses as pure functions of log-probabilities: tensors in, tensors out.

Every loss sees one micro-batch and the totals of the GLOBAL batch, and returns its share: shares of all micro-batches
add up to the loss of the global batch, so batch 8 x accumulation 1 equals batch 2 x accumulation 4.

In the docstrings s_w and s_l are the summed log-probabilities of the chosen and the rejected answer under the policy,
r_w and r_l those under the reference, |y| an answer's tokens, avg = s / |y|, and h = (s_w - r_w) - (s_l - r_l). Means
go over the pairs (or answers) of the global batch. Losses of answers that the policy draws while it learns (`online`)
read their tokens one by one, from a record of their own.

A new loss is one function in one of these modules, and one entry in `training.loss_table.LOSSES`.
"""

from .record import Logprobs, LossOutput, Metrics, Rewards, Shared, Totals, logprobs_of

__all__ = ["Logprobs", "LossOutput", "Metrics", "Rewards", "Shared", "Totals", "logprobs_of"]
