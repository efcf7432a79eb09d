"""Losses as pure functions of log-probabilities: tensors in, tensors out.

Every loss sees one micro-batch and the totals of the GLOBAL batch, and returns its share: shares of all micro-batches
add up to the loss of the global batch, so batch 8 x accumulation 1 equals batch 2 x accumulation 4.

In the docstrings s_w and s_l are the summed log-probabilities of the chosen and the rejected answer under the policy,
r_w and r_l those under the reference, |y| an answer's tokens, avg = s / |y|, and h = (s_w - r_w) - (s_l - r_l). Means
go over the pairs (or answers) of the global batch.

A new loss is one function here, exported by name, and one line in `training.loss_table.LOSSES`.
"""

from .answers import sft_loss
from .labelled import apo_zero_labelled_loss, kto_loss
from .record import Logprobs, LossOutput, Metrics, Shared, Totals, logprobs_of
from .with_reference import (
    apo_down_loss,
    apo_zero_loss,
    discopop_loss,
    dpo_exo_loss,
    dpo_hinge_loss,
    dpo_loss,
    dpo_norm_loss,
    dpo_robust_loss,
    ipo_loss,
    ipo_mean_loss,
    ld_dpo_loss,
    nca_loss,
    r_dpo_loss,
    sppo_loss,
)
from .without_reference import cpo_loss, orpo_loss, simpo_loss, slic_loss

__all__ = [
    "Logprobs",
    "LossOutput",
    "Metrics",
    "Shared",
    "Totals",
    "apo_down_loss",
    "apo_zero_labelled_loss",
    "apo_zero_loss",
    "cpo_loss",
    "discopop_loss",
    "dpo_exo_loss",
    "dpo_hinge_loss",
    "dpo_loss",
    "dpo_norm_loss",
    "dpo_robust_loss",
    "ipo_loss",
    "ipo_mean_loss",
    "kto_loss",
    "ld_dpo_loss",
    "logprobs_of",
    "nca_loss",
    "orpo_loss",
    "r_dpo_loss",
    "sft_loss",
    "simpo_loss",
    "slic_loss",
    "sppo_loss",
]
