"""Losses of drawn answers against arithmetic by hand, and facts that theory fixes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from training.losses.online import (
    Sampled,
    SampledTotals,
    divergence_of,
    group_advantages,
    grpo_loss,
    leave_one_out,
    rloo_loss,
    spread_of,
)


def tensor(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


LEARNT = torch.tensor([[True, False], [True, True]])
TOTALS = SampledTotals(answers=2, tokens=3, micro_batches=1, limit=4)


def sampled(ratios: torch.Tensor, advantages: torch.Tensor, reference: torch.Tensor | None = None) -> Sampled:
    """Answers of one token and of two, with these ratios p/q; p is 1/2 everywhere, and r what is given."""
    policy = torch.full((2, 2), math.log(0.5), dtype=torch.float64)
    return Sampled(policy, policy - ratios.log(), LEARNT, advantages, None if reference is None else reference.log())


RATIOS = tensor([1.5, 99.0], [0.9, 0.5])
"""The 99 is padding."""


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        # Answer 1: A = 2, min(1.5, 1.2) * 2 = 2.4. Answer 2: A = -1, -min(-0.9, -0.9) = 0.9, -min(-0.5, -0.8) = 0.8.
        ("grpo", (-2.4 / 1 + (0.9 + 0.8) / 2) / 2),
        ("dapo", (-2.4 + 0.9 + 0.8) / 3),
        ("dr_grpo", (-2.4 + 0.9 + 0.8) / (2 * 4)),
        ("bnpo", (-2.4 + 0.9 + 0.8) / 3),
    ],
)
def test_grpo_by_hand(loss_type: str, expected: float) -> None:
    loss, metrics = grpo_loss(sampled(RATIOS, tensor(2, -1)), TOTALS, loss_type=loss_type)
    assert loss.item() == pytest.approx(expected)
    assert metrics["clipped_share"].item() == pytest.approx(2 / 3)  # 1.5 and 0.5, of three tokens


def test_clip_higher_by_hand() -> None:
    """1.5 is cut at 1.28 in place of 1.2, and below at 0.9: -2.56 + 0.9 + 0.9, over 3 tokens."""
    loss, _ = grpo_loss(sampled(RATIOS, tensor(2, -1)), TOTALS, epsilon=0.1, epsilon_high=0.28)
    assert loss.item() == pytest.approx((-2.56 + 0.9 + 0.9) / 3)


def test_ratios_of_whole_answers_by_hand() -> None:
    """Answer 2 has the geometric mean of 0.9 and 0.5, 0.6708, cut at 0.8: both tokens of it have a loss of 0.8."""
    loss, metrics = grpo_loss(sampled(RATIOS, tensor(2, -1)), TOTALS, ratio="sequence")
    assert loss.item() == pytest.approx((-2.4 + 2 * 0.8) / 3)
    assert metrics["clipped_share"].item() == 1.0
    loss, metrics = grpo_loss(sampled(RATIOS, tensor(2, 1)), TOTALS, ratio="sequence")
    assert loss.item() == pytest.approx((-2.4 - 2 * math.sqrt(0.45)) / 3)


def test_the_divergence_by_hand() -> None:
    """r/p = 2, 1 and 1/2 on the three tokens: k3 = 1 - ln 2, 0 and ln 2 - 1/2, each times its ratio p/q."""
    reference = tensor([1.0, 0.3], [0.5, 0.25])
    loss, metrics = grpo_loss(sampled(RATIOS, tensor(0, 0), reference), TOTALS, beta=0.5)
    expected = (1.5 * (1 - math.log(2)) + 0.5 * (math.log(2) - 0.5)) / 3
    assert metrics["kl"].item() == pytest.approx(expected)
    assert loss.item() == pytest.approx(0.5 * expected)
    with pytest.raises(TypeError, match="reference"):
        grpo_loss(sampled(RATIOS, tensor(0, 0)), TOTALS, beta=0.5)


def test_the_divergence_has_the_gradient_of_the_reverse_kl() -> None:
    """Over a whole vocabulary drawn from p: sum_y p(y) grad[w k3] = grad KL(p || r), at w = 1."""
    logits, reference = tensor(0.3, -0.2, 1.0).requires_grad_(), tensor(-1.0, 0.4, 0.1).log_softmax(0)
    policy = logits.log_softmax(0)
    one = Sampled(
        policy[:, None],
        policy.detach()[:, None],
        torch.ones(3, 1, dtype=torch.bool),
        tensor(0, 0, 0),
        reference[:, None],
    )
    chances = policy.detach().exp()
    shares = [
        chances[token]
        * grpo_loss(Sampled(*(part[token : token + 1] for part in one)), SampledTotals(1, 1, 1, 1), beta=1.0).loss  # type: ignore[index]
        for token in range(3)
    ]
    [ours] = torch.autograd.grad(torch.stack(shares).sum(), logits, retain_graph=True)
    [theirs] = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits)
    torch.testing.assert_close(ours, theirs)


def test_rloo_by_hand() -> None:
    """Ratios of whole answers, 1.5 and 0.45, cut at 1.2 and 0.8: (-2.4 + 0.8) / 2."""
    loss, metrics = rloo_loss(sampled(RATIOS, tensor(2, -1)), TOTALS)
    assert loss.item() == pytest.approx(-0.8)
    assert metrics["clipped_share"].item() == 1.0
    loss, _ = rloo_loss(sampled(RATIOS, tensor(-2, 1)), TOTALS)
    assert loss.item() == pytest.approx((2 * 1.5 - 0.45) / 2)  # the worse of the two is never cut


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo", "bnpo"])
def test_in_a_first_update_the_loss_is_minus_the_mean_advantage(loss_type: str) -> None:
    """Ratio 1: with the advantages of a group and answers of one length, 0; its gradient is that of REINFORCE."""
    policy = (-torch.rand(4, 3, dtype=torch.float64)).requires_grad_()
    advantages = group_advantages(tensor([1.0, 2.0, 4.0, 0.5]), spread_of(tensor([1.0, 2.0, 4.0, 0.5]), True)).flatten()
    given = Sampled(policy, policy.detach(), torch.ones(4, 3, dtype=torch.bool), advantages, policy.detach())
    loss, metrics = grpo_loss(given, SampledTotals(4, 12, 1, 3), beta=0.3, loss_type=loss_type)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert metrics["kl"].item() == metrics["clipped_share"].item() == 0.0
    torch.testing.assert_close(policy.grad, -advantages[:, None].expand(4, 3) / 12)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_shares_of_micro_batches_add_up(loss_type: str) -> None:
    generator = torch.Generator().manual_seed(0)
    policy, drawn = -torch.rand(2, 6, 4, dtype=torch.float64, generator=generator) * 3
    learnt = torch.arange(4)[None] < torch.tensor([1, 4, 2, 0, 3, 3])[:, None]
    given = Sampled(policy, drawn, learnt, tensor(1, -1, 2, 3, -2, 0.5), drawn - 0.1)
    totals = SampledTotals(6, int(learnt.sum()), 3, 4)
    whole = grpo_loss(given, totals, beta=0.2, loss_type=loss_type)
    parts = [
        grpo_loss(Sampled(*(part[start : start + 2] for part in given)), totals, beta=0.2, loss_type=loss_type)  # type: ignore[index]
        for start in (0, 2, 4)
    ]
    assert sum(part.loss.item() for part in parts) == pytest.approx(whole.loss.item())
    for name, value in whole.metrics.items():
        assert sum(part.metrics[name].item() for part in parts) == pytest.approx(value.item())


def test_what_is_not_learnt_has_no_gradient_whatever_stands_there() -> None:
    policy = tensor([-1.0, float("inf")], [-2.0, -3.0]).requires_grad_()
    given = Sampled(policy, policy.detach(), LEARNT & torch.tensor([[True], [False]]), tensor(1, 1), policy.detach())
    loss, _ = grpo_loss(given, SampledTotals(2, 1, 1, 2), beta=1.0)
    loss.backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [[-1.0, 0.0], [0.0, 0.0]]


def test_advantages_by_hand() -> None:
    """Rewards 1, 2, 6 and 3: mean 3, squares 4 + 1 + 9 + 0 over 3, spread sqrt(14 / 3)."""
    rewards = tensor([1.0, 2.0, 6.0, 3.0])
    spread = math.sqrt(14 / 3) + 1e-4
    assert group_advantages(rewards, None).tolist() == [[-2.0, -1.0, 3.0, 0.0]]
    scaled = group_advantages(rewards, spread_of(rewards, by_group=True))
    assert scaled.tolist()[0] == pytest.approx([-2 / spread, -1 / spread, 3 / spread, 0.0])
    assert leave_one_out(rewards).tolist()[0] == pytest.approx([1 - 11 / 3, 2 - 10 / 3, 6 - 2, 3 - 3])


def test_an_answer_without_a_reward_is_part_of_no_mean() -> None:
    rewards = tensor([1.0, float("nan"), 3.0], [float("nan"), 5.0, float("nan")])
    assert group_advantages(rewards, None).tolist() == [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert leave_one_out(rewards).tolist() == [[-2.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
    assert group_advantages(rewards, spread_of(rewards, by_group=True))[1].tolist() == [0.0, 0.0, 0.0]
    assert spread_of(rewards, by_group=False).item() == pytest.approx(2.0)  # of 1, 3 and 5
    alike = tensor([2.0, 2.0])
    assert group_advantages(alike, spread_of(alike, by_group=True)).tolist() == [[0.0, 0.0]]


def test_the_divergence_that_a_reward_pays_for() -> None:
    """log q/r of the learnt tokens: q = p / ratio. Answer 1: ln(1/3) - ln(1/4); answer 2: ln(5/9) - 0 + 0 - ln(1/2)."""
    given = sampled(RATIOS, tensor(0, 0), tensor([0.25, 0.9], [1.0, 0.5]))
    assert divergence_of(given).tolist() == pytest.approx([math.log(4 / 3), math.log(5 / 9) + math.log(2)])
