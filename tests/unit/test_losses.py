"""Losses against arithmetic worked out by hand, and the fairness of their normalisation."""

from __future__ import annotations

import math

import pytest
import torch

from seft_bench.errors import InputError
from training.losses import LOSSES, Logprobs, Totals, dpo_loss, find_loss, orpo_loss, sft_loss


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_sft_is_the_mean_over_labelled_tokens_not_over_examples() -> None:
    """Two answers of 1 and 3 tokens at p = 1/2 and p = 1/4 a token.

    Sums: ln(1/2) = -0.693147 and 3 ln(1/4) = -4.158883; over 4 tokens: 4.852030 / 4 = 1.213008.
    A mean over examples would give (0.693147 + 1.386294) / 2 = 1.039721.
    """
    loss, metrics = sft_loss(Logprobs(tensor(math.log(0.5), 3 * math.log(0.25)), tensor(1, 3)), Totals(2, 4))
    assert loss.item() == pytest.approx(1.2130075659799042)
    assert metrics == {}


def test_dpo_by_hand() -> None:
    """beta 0.5; pair 1: (-2 - -3) - (-4 - -3) = 2, margin 1; pair 2: (-5 - -4) - (-1 - -1) = -1, margin -0.5.

    -ln sigmoid(1) = ln(1 + e^-1) = 0.313262; -ln sigmoid(-0.5) = ln(1 + e^0.5) = 0.974077; mean 0.643669.
    Rewards of the chosen: 0.5 * 1 and 0.5 * -1, of the rejected: 0.5 * -1 and 0: means 0 and -0.25. Log-ratios of the
    four answers: 1, -1, -1 and 0.
    """
    logprobs = Logprobs(tensor(-2, -5), tensor(3, 3), tensor(-4, -1), tensor(3, 3), tensor(-3, -4), tensor(-3, -1))
    loss, metrics = dpo_loss(logprobs, Totals(2, 6), beta=0.5)
    assert loss.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(0.5))) / 2)
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(
        {
            "reward_accuracy": 0.5,
            "reward_margin": 0.25,
            "chosen_reward": 0.0,
            "rejected_reward": -0.25,
            "log_ratio": -0.25,
        }
    )


def test_dpo_of_a_policy_equal_to_its_reference_is_ln_2() -> None:
    sums = (tensor(-2, -50), tensor(-7, -1))
    loss, _ = dpo_loss(Logprobs(sums[0], tensor(3, 3), sums[1], tensor(3, 3), *sums), Totals(2, 6), beta=0.01)
    assert loss.item() == pytest.approx(math.log(2))


def test_orpo_by_hand() -> None:
    """One pair: the chosen answer has p = 1/2 on each of 2 tokens, the rejected p = 1/4 on each of 4; beta 0.5.

    NLL = ln 2 = 0.693147. Odds 1 and 1/3, log odds ratio = ln 3; -ln sigmoid(ln 3) = ln(4/3) = 0.287682.
    L = 0.693147 + 0.5 * 0.287682 = 0.836988. (By sums instead of means the odds would be 1/3 and 1/255.)
    """
    logprobs = Logprobs(tensor(2 * math.log(0.5)), tensor(2), tensor(4 * math.log(0.25)), tensor(4))
    loss, metrics = orpo_loss(logprobs, Totals(1, 2), beta=0.5)
    assert loss.item() == pytest.approx(0.8369882167858358)
    assert metrics["log_odds_ratio"].item() == pytest.approx(math.log(3))
    assert metrics["nll"].item() == pytest.approx(math.log(2))
    assert metrics["reward_accuracy"].item() == 1.0


def test_orpo_stays_finite_for_an_answer_that_is_certain() -> None:
    chosen = torch.tensor([-1e-9], requires_grad=True)
    loss, _ = orpo_loss(Logprobs(chosen, torch.tensor([5]), torch.tensor([-2.0]), torch.tensor([5])), Totals(1, 5))
    loss.backward()
    assert torch.isfinite(loss)
    assert chosen.grad is not None
    assert torch.isfinite(chosen.grad).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_shares_of_micro_batches_add_up_to_the_global_batch(name: str) -> None:
    """Loss, gradient and metrics of 8 examples at once equal those of 4 x 2, though the answers differ in length."""
    torch.manual_seed(1)
    values = -torch.rand(4, 8, dtype=torch.float64) * 9 - 0.1
    tokens = torch.randint(1, 9, (2, 8))
    totals = Totals(8, int(tokens[0].sum()))

    def gradient(size: int) -> tuple[torch.Tensor, list[float]]:
        sums = values.clone().requires_grad_()
        outputs = []
        for start in range(0, 8, size):
            part = slice(start, start + size)
            full = Logprobs(
                sums[0, part],
                tokens[0, part],
                sums[1, part],
                tokens[1, part],
                sums[2, part].detach(),
                sums[3, part].detach(),
            )
            outputs.append(LOSSES[name].function(full, totals))
        torch.stack([output.loss for output in outputs]).sum().backward()
        metrics = [sum(output.metrics[key].item() for output in outputs) for key in outputs[0].metrics]
        assert sums.grad is not None
        return sums.grad, [sum(output.loss.item() for output in outputs), *metrics]

    (whole, whole_values), (parts, parts_values) = gradient(8), gradient(2)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-14)
    assert parts_values == pytest.approx(whole_values)
    assert whole.abs().sum() > 0


def test_a_loss_that_compares_refuses_a_batch_without_pairs() -> None:
    with pytest.raises(TypeError, match="rejected"):
        orpo_loss(Logprobs(tensor(-1), tensor(1)), Totals(1, 1))
    with pytest.raises(TypeError, match="reference"):
        dpo_loss(Logprobs(tensor(-1), tensor(1), tensor(-2), tensor(1)), Totals(1, 1))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ppo", {}, "unknown loss 'ppo': known are dpo, orpo, sft"),
        ("dpo", {"betta": 0.1}, "unknown setting of the loss 'dpo' 'betta': known are beta"),
        ("sft", {"beta": 0.1}, "known are none"),
        ("orpo", {"beta": -1}, "must be a positive number, got -1"),
        ("orpo", {"beta": float("nan")}, "must be a positive number"),
        ("dpo", {"beta": "0.1"}, "must be a positive number, got '0.1'"),
    ],
)
def test_unknown_losses_and_settings_are_refused(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_loss(name, settings)
