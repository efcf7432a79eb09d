"""Losses against arithmetic worked out by hand, and the fairness of their normalisation."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch

from seft_bench.errors import InputError
from training.loss_table import LOSSES, Loss, Name, find_loss
from training.losses import Logprobs, Rewards, Shared, Totals
from training.losses.answers import sft_loss
from training.losses.labelled import apo_zero_labelled_loss, kto_loss
from training.losses.rewards import bradley_terry_loss
from training.losses.with_reference import dpo_loss, ld_dpo_loss
from training.losses.without_reference import orpo_loss


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


def test_weighted_sft_weighs_answers_and_still_divides_by_all_tokens() -> None:
    """As above with weights 1.5 and 0.5: 1.5 * 0.693147 + 0.5 * 4.158883 = 3.119162; over 4 tokens 0.779791.

    A half of the batch gives its own share, so shares of micro-batches add up.
    """
    whole = Logprobs(tensor(math.log(0.5), 3 * math.log(0.25)), tensor(1, 3), weights=tensor(1.5, 0.5))
    assert sft_loss(whole, Totals(2, 4)).loss.item() == pytest.approx(0.7797905781299384)
    halves = (whole._replace(chosen=whole.chosen[half], weights=tensor(w)) for half, w in (([0], 1.5), ([1], 0.5)))
    assert sum(sft_loss(half, Totals(2, 4)).loss.item() for half in halves) == pytest.approx(0.7797905781299384)


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


PAIR = Logprobs(tensor(-2), tensor(2), tensor(-6), tensor(4), tensor(-3), tensor(-4))
"""One pair: s_w -2 and r_w -3 over 2 tokens, s_l -6 and r_l -4 over 4: log-ratios 1 and -2, h = 3; per token .5, -.5.

The averages under the policy are -1 and -1.5.
"""


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("dpo", {"beta": 0.5, "nll_weight": 2}, -math.log(sigmoid(1.5)) + 2 * 1),  # RPO: an NLL of 1 a token
        ("dpo-hinge", {"beta": 0.25}, 1 - 0.75),
        ("dpo-hinge", {"beta": 0.5}, 0.0),
        (
            "dpo-robust",
            {"beta": 0.5, "label_smoothing": 0.2},
            (-0.8 * math.log(sigmoid(1.5)) + 0.2 * math.log(sigmoid(-1.5))) / 0.6,
        ),
        ("dpo-robust", {"beta": 0.5, "label_smoothing": 0}, -math.log(sigmoid(1.5))),
        (
            "dpo-exo",
            {"beta": 0.5, "label_smoothing": 0.1},
            sigmoid(1.5) * math.log(sigmoid(1.5) / 0.9) + sigmoid(-1.5) * math.log(sigmoid(-1.5) / 0.1),
        ),
        ("dpo-norm", {"beta": 2}, -math.log(sigmoid(2 * 1.0))),
        ("r-dpo", {"beta": 0.5, "alpha": 0.1}, -math.log(sigmoid(1.5 - 0.2))),  # the chosen answer is 2 tokens shorter
        ("r-dpo", {"beta": 0.5, "alpha": 0}, -math.log(sigmoid(1.5))),
        ("ipo", {"beta": 0.25}, (3 - 2) ** 2),
        ("ipo-mean", {"beta": 0.25}, (1 - 2) ** 2),
        ("apo-zero", {"beta": 0.5}, 1 - sigmoid(0.5) + sigmoid(-1)),
        ("apo-down", {"beta": 0.5}, sigmoid(0.5) + 1 - sigmoid(1.5)),
        (
            "nca",
            {"beta": 0.5},
            -math.log(sigmoid(0.5)) - 0.5 * math.log(sigmoid(-0.5)) - 0.5 * math.log(sigmoid(1)),
        ),
        ("sppo", {"beta": 0.25}, (1 - 2) ** 2 + (-2 + 2) ** 2),
        (
            "discopop",
            {"beta": 0.5, "tau": 3},
            -(1 - sigmoid(0.5)) * math.log(sigmoid(1.5)) + sigmoid(0.5) * math.exp(-1.5),
        ),
        ("cpo", {"beta": 0.5}, -math.log(sigmoid(2)) + 1),
        ("cpo", {"beta": 0.5, "nll_weight": 0}, -math.log(sigmoid(2))),
        ("simpo", {"beta": 2, "gamma_beta_ratio": 0.1}, -math.log(sigmoid(2 * 0.5 - 0.2))),
        ("simpo", {"beta": 2, "gamma_beta_ratio": 0}, -math.log(sigmoid(1))),
        ("slic", {"delta": 5, "nll_weight": 0.5}, (5 - 4) + 0.5),
        ("slic", {"delta": 0, "nll_weight": 0}, 0.0),
    ],
)
def test_a_pair_by_hand(name: str, settings: dict[str, float], expected: float) -> None:
    loss, metrics = find_loss(name, settings).function(PAIR, Totals(1, 2), **settings)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert metrics["reward_accuracy"].item() == 1.0


def test_ld_dpo_discounts_what_only_the_longer_answer_has() -> None:
    """The rejected answer's first two tokens have -4 of its -6 and -1 of the reference's -4.

    With alpha 1/2: s_l = -4 + (-2)/2 = -5, r_l = -1 + (-3)/2 = -2.5; the chosen one's ratio stays 1: h' = 3.5.
    """
    pair = PAIR._replace(shared=Shared(tensor(-2), tensor(-4), tensor(-3), tensor(-1)))
    loss, _ = ld_dpo_loss(pair, Totals(1, 2), beta=0.5, alpha=0.5)
    assert loss.item() == pytest.approx(-math.log(sigmoid(0.5 * 3.5)))
    whole, _ = ld_dpo_loss(pair, Totals(1, 2), beta=0.5, alpha=1)
    assert whole.item() == pytest.approx(dpo_loss(PAIR, Totals(1, 2), beta=0.5).loss.item())
    with pytest.raises(TypeError, match="both answers of a pair have"):
        ld_dpo_loss(PAIR, Totals(1, 2))


LABELLED = Logprobs(
    tensor(-2, -6), tensor(2, 4), reference_chosen=tensor(-3, -4), desirable=torch.tensor([True, False])
)
"""A desirable answer with a log-ratio of 1, and an undesirable one with -2."""


def test_kto_by_hand() -> None:
    """beta 0.5, KL 0.4, weights 1 and 3: 1 - sigmoid(.5 (1 - .4)) and 3 (1 - sigmoid(.5 (.4 + 2))), mean of the two."""
    loss, metrics = kto_loss(
        LABELLED, Totals(2, 6, tensor(0.4).squeeze()), beta=0.5, desirable_weight=1, undesirable_weight=3
    )
    assert loss.item() == pytest.approx((1 - sigmoid(0.3) + 3 * (1 - sigmoid(1.2))) / 2)
    assert metrics["kl"].item() == pytest.approx(0.4)
    assert metrics["reward_accuracy"].item() == 1.0
    assert metrics["signed_reward"].item() == pytest.approx(0.5 * (1 + 2) / 2)
    with pytest.raises(TypeError, match="mismatched"):
        kto_loss(LABELLED, Totals(2, 6))


def test_an_anchored_loss_of_labelled_answers_is_kto_without_divergence() -> None:
    zero = Totals(2, 6, tensor(0).squeeze())
    ours, theirs = apo_zero_labelled_loss(LABELLED, zero), kto_loss(LABELLED, zero)
    assert ours.loss.item() == pytest.approx(theirs.loss.item())


def test_bradley_terry_by_hand() -> None:
    """Rewards 2 against 1, and -1 against 0.5: margins 1 and -1.5; levels 3 and -0.5, squared 9 and 0.25.

    -ln sigmoid(1) = 0.313262, -ln sigmoid(-1.5) = ln(1 + e^1.5) = 1.701413: mean 1.007338. Centering by 0.1 adds
    0.1 (9 + 0.25) / 2 = 0.4625.
    """
    rewards, totals = Rewards(tensor(2, -1), tensor(1, 0.5)), Totals(2, 2)
    plain = (math.log1p(math.exp(-1)) + math.log1p(math.exp(1.5))) / 2
    loss, metrics = bradley_terry_loss(rewards, totals)
    assert loss.item() == pytest.approx(plain)
    assert bradley_terry_loss(rewards, totals, centering=0.1).loss.item() == pytest.approx(plain + 0.4625)
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(
        {"reward_accuracy": 0.5, "reward_margin": -0.25, "chosen_reward": 0.5, "rejected_reward": 0.75}
    )


def test_equal_rewards_have_the_loss_ln_2_and_tell_half_the_pairs() -> None:
    same = tensor(0, 3, -2)
    loss, metrics = bradley_terry_loss(Rewards(same, same), Totals(3, 3))
    assert loss.item() == pytest.approx(math.log(2))
    assert metrics["reward_accuracy"].item() == 0.5


AT_THE_START = {
    "dpo": math.log(2),
    "dpo-hinge": 1.0,
    "dpo-robust": math.log(2),
    "dpo-norm": math.log(2),
    "ld-dpo": math.log(2),
    "ipo": 25.0,
    "ipo-mean": 25.0,
    "apo-zero": 1.0,
    "apo-down": 1.0,
    "nca": 2 * math.log(2),
    "sppo": 50.0,
    "discopop": (math.log(2) + 1) / 2,
    "dpo-exo": math.log(0.5) - (math.log1p(-1e-3) + math.log(1e-3)) / 2,
    "kto": 0.5,
    "apo-zero-labelled": 0.5,
}
"""Loss -> its value at beta 0.1 where the policy is its reference; R-DPO's depends on the lengths."""


@pytest.mark.parametrize("name", sorted(name for name in LOSSES if LOSSES[name].needs_reference and name != "r-dpo"))
def test_a_policy_equal_to_its_reference_has_the_loss_that_theory_fixes(name: str) -> None:
    full = random_logprobs(LOSSES[name], slice(0, 8))
    same = full._replace(
        reference_chosen=full.chosen,
        reference_rejected=full.rejected,
        shared=full.shared
        and Shared(full.shared.chosen, full.shared.rejected, full.shared.chosen, full.shared.rejected),
    )
    loss, metrics = LOSSES[name].function(same, Totals(8, 40, tensor(0).squeeze()), beta=0.1)
    assert loss.item() == pytest.approx(AT_THE_START[name])
    assert metrics["reward_accuracy"].item() == 0.5


VALUES = -torch.rand(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 9 - 0.1
TOKENS = torch.randint(1, 9, (2, 8), generator=torch.Generator().manual_seed(2))


def random_logprobs(loss: Loss, part: slice, sums: torch.Tensor = VALUES) -> Any:
    """What a loss reads of eight random examples: log-probabilities, or rewards."""
    chosen, rejected, *references = sums[:, part]
    if loss.is_of_rewards:
        return Rewards(chosen, rejected)
    references = [reference.detach() for reference in references]
    if loss.rows != "pairs":
        return Logprobs(chosen, TOKENS[0, part], reference_chosen=references[0], desirable=TOKENS[1, part] > 4)
    shared = Shared(chosen / 2, rejected, references[0] / 2, references[1]) if loss.needs_shared else None
    return Logprobs(chosen, TOKENS[0, part], rejected, TOKENS[1, part], *references, shared=shared)


@pytest.mark.parametrize("name", sorted(name for name in LOSSES if LOSSES[name].rows != "prompts"))
def test_shares_of_micro_batches_add_up_to_the_global_batch(name: str) -> None:
    """Loss, gradient and metrics of 8 examples at once equal those of 4 x 2, though the answers differ in length."""
    totals = Totals(8, int(TOKENS[0].sum()), tensor(0.3).squeeze())

    def gradient(size: int) -> tuple[torch.Tensor, list[float]]:
        sums = VALUES.clone().requires_grad_()
        outputs = []
        for start in range(0, 8, size):
            full = random_logprobs(LOSSES[name], slice(start, start + size), sums)
            outputs.append(LOSSES[name].function(full, totals))
        torch.stack([output.loss for output in outputs]).sum().backward()
        metrics = [sum(output.metrics[key].item() for output in outputs) for key in outputs[0].metrics]
        assert sums.grad is not None
        return sums.grad, [sum(output.loss.item() for output in outputs), *metrics]

    (whole, whole_values), (parts, parts_values) = gradient(8), gradient(2)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-14)
    assert parts_values == pytest.approx(whole_values)
    assert whole.abs().sum() > 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_table_names_a_functions_own_settings_and_defaults(name: str) -> None:
    loss = LOSSES[name]
    parameters = dict(list(inspect.signature(loss.function).parameters.items())[2:])
    assert list(parameters) == list(loss.settings)
    assert {key: entry.default for key, entry in parameters.items()} == {
        key: setting.default for key, setting in loss.settings.items()
    }
    assert all(setting.fault(setting.default) is None for setting in loss.settings.values())


def test_a_setting_may_be_a_name() -> None:
    kind = Name("soft", ("soft", "hard"))
    assert kind.fault("hard") is None
    assert kind.fault("tough") == "one of soft, hard"


def test_a_loss_that_compares_refuses_a_batch_without_pairs() -> None:
    with pytest.raises(TypeError, match="rejected"):
        orpo_loss(Logprobs(tensor(-1), tensor(1)), Totals(1, 1))
    with pytest.raises(TypeError, match="reference"):
        dpo_loss(Logprobs(tensor(-1), tensor(1), tensor(-2), tensor(1)), Totals(1, 1))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ppo", {}, "unknown loss 'ppo'.*dpo, dpo-exo"),
        ("dpo", {"betta": 0.1}, "unknown setting of the loss 'dpo' 'betta'.*beta, nll_weight"),
        ("sft", {"beta": 0.1}, "known are none"),
        ("orpo", {"beta": -1}, "must be a number above 0, got -1"),
        ("orpo", {"beta": 0}, "must be a number above 0, got 0"),
        ("orpo", {"beta": float("nan")}, "must be a number above 0"),
        ("dpo", {"beta": "0.1"}, "must be a number above 0, got '0.1'"),
        ("dpo", {"beta": True}, "must be a number above 0, got True"),
        ("simpo", {"gamma_beta_ratio": -0.1}, "must be a number of at least 0, got -0.1"),
        ("dpo-robust", {"label_smoothing": 0.5}, "must be a number of at least 0 and below 0.5, got 0.5"),
    ],
)
def test_unknown_losses_and_settings_are_refused(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_loss(name, settings)
