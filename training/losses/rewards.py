"""The loss of reward models: of pairs of rewards, not of log-probabilities."""

from __future__ import annotations

import torch.nn.functional as F

from .record import LossOutput, Rewards, Totals, right


def bradley_terry_loss(rewards: Rewards, totals: Totals, centering: float = 0.0) -> LossOutput:
    """Negative log-likelihood of the annotated order under Bradley and Terry's model (arXiv 2203.02155, equation 1).

    L = mean [ -log sigmoid(R_w - R_l) + centering (R_w + R_l)^2 ] over the pairs of the global batch, with R the reward
    of a conversation: TRL 1.16's `RewardTrainer`, whose rows may also carry a margin, which ours do not.

    Args:
        centering: weight of what draws a pair's mean reward to 0 (arXiv 2312.09244, equation 2; TRL's
            `center_rewards_coefficient`, which recommends 0.01); 0 leaves the rewards' level free.
    """
    margin, level = rewards.chosen - rewards.rejected, rewards.chosen + rewards.rejected
    losses = -F.logsigmoid(margin) + centering * level**2
    metrics = {
        "reward_accuracy": right(margin) / totals.examples,
        "reward_margin": margin.detach().sum() / totals.examples,
        "chosen_reward": rewards.chosen.detach().sum() / totals.examples,
        "rejected_reward": rewards.rejected.detach().sum() / totals.examples,
    }
    return LossOutput(losses.sum() / totals.examples, metrics)
