"""Win rates by hand, and the length-control regression against its own optimality conditions and a slow general
optimiser.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from seft_bench.stats.alpacaeval import average_length, win_probabilities, win_rate
from seft_bench.stats.length_control import (
    DECLARED_C,
    NO_GAMED_ROWS,
    Comparisons,
    GamedRows,
    fit,
    length_controlled,
    refitted,
)


def test_win_rate_by_hand() -> None:
    """Wins 1, 0, 0.75, 0.5: mean 0.5625; squared deviations sum to 0.546875, so SE = 100 * sqrt(0.546875 / 3 / 4)."""
    rates = win_rate([2.0, 1.0, 1.75, 0.0])
    assert rates.win_rate == 56.25
    assert rates.standard_error == pytest.approx(100 * math.sqrt(0.546875 / 12))
    assert rates.discrete_win_rate == 100 * (1 + 0 + 1 + 0.5) / 4


def test_one_judgment_has_no_standard_error() -> None:
    assert win_rate([1.25]).standard_error is None


@pytest.mark.parametrize("preferences", [[2.5], [-1.0], [1.0, math.nan]])
def test_a_failed_judgment_is_not_a_preference(preferences: list[float]) -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        win_probabilities(preferences)


def test_average_length_is_cut_to_an_integer() -> None:
    assert average_length(["abc", "abcd"]) == 3


def synthetic(n: int = 300, *, gamed: bool = True, seed: int = 0) -> Comparisons:
    rng = np.random.default_rng(seed)
    difference, difficulty = rng.normal(50, 400, n), rng.normal(0, 1, n)
    wins = expit(-1.5 * np.tanh(difference / difference.std()) + 0.8 * difficulty - 0.5 + rng.normal(0, 1, n))
    if not gamed:
        return Comparisons(wins, difference, np.zeros(n), NO_GAMED_ROWS)
    length, gamed_difficulty = np.tanh(rng.normal(0, 1.5, 2 * n)), np.tile(difficulty, 2)
    preference = expit(-length + 0.5 * gamed_difficulty)
    return Comparisons(wins, difference, difficulty, GamedRows(length, gamed_difficulty, preference))


def slow_optimum(data: Comparisons, c: float) -> np.ndarray:
    """The same objective written out row by row, minimised by a general optimiser over w = positive - negative part."""
    length = np.tanh(data.length_difference / data.length_difference.std(ddof=1))

    def objective(parts: np.ndarray) -> float:
        w = parts[:3] - parts[3:]
        logits = w[0] * length + w[1] * data.difficulty + w[2]
        gamed_logits = w[0] * data.gamed.tanh_length + w[1] * data.gamed.difficulty
        own = np.sum(np.logaddexp(0, logits) - data.wins * logits)
        extra = (
            np.sum(np.logaddexp(0, gamed_logits))
            - w[0] * data.gamed.preference_by_length
            - w[1] * data.gamed.preference_by_difficulty
        )
        return float(c * (own + 0.1 * extra) + parts.sum())

    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 20000, "maxfun": 100000}
    found = minimize(objective, np.full(6, 0.1), bounds=[(0, None)] * 6, method="L-BFGS-B", options=options)
    return np.asarray(found.x[:3] - found.x[3:])


@pytest.mark.parametrize("c", [0.02, 0.3, DECLARED_C])
@pytest.mark.parametrize("gamed", [True, False])
def test_fit_is_the_optimum_of_the_written_objective(c: float, gamed: bool) -> None:
    data = synthetic(gamed=gamed)
    np.testing.assert_allclose(fit(data, c), slow_optimum(data, c), atol=2e-4)


def test_the_penalty_holds_coefficients_at_exactly_zero() -> None:
    """At w = 0 the slopes are those of the rows; the first coefficient leaves 0 where the penalty 1/C falls under the
    steepest.
    """
    data = synthetic(gamed=False)
    residual = 0.5 - data.wins
    steepest = max(
        abs(float(residual @ np.tanh(data.length_difference / data.length_difference.std(ddof=1)))),
        abs(float(residual.sum())),
    )
    assert (fit(data, 0.95 / steepest) == 0).all()
    assert np.count_nonzero(fit(data, 1.005 / steepest)) == 1


def test_without_difficulties_that_coefficient_is_zero() -> None:
    data = synthetic(gamed=False)
    assert fit(data)[1] == 0


def test_own_questions_with_no_length_difference_give_the_penalised_win_rate() -> None:
    """Only the constant is left: n (sigmoid(w) - mean) + sign(w) / C = 0, so sigmoid(w) = 0.8 - 1 / (20 C)."""
    wins = np.array([1.0] * 16 + [0.0] * 4)
    data = Comparisons(wins, np.full(20, 7.0), np.zeros(20), NO_GAMED_ROWS)
    assert length_controlled(data).win_rate == pytest.approx(100 * (0.8 - 1 / (20 * DECLARED_C)))


def test_a_model_against_itself_is_at_fifty() -> None:
    gamed = synthetic().gamed
    result = length_controlled(Comparisons(np.full(40, 0.5), np.zeros(40), np.linspace(-1, 2, 40), gamed))
    assert (result.win_rate, result.low, result.high) == (50.0, 50.0, 50.0)


def test_always_winning_converges_below_one_hundred() -> None:
    data = synthetic()
    result = length_controlled(Comparisons(np.ones(300), data.length_difference, data.difficulty, data.gamed))
    assert 99 < result.win_rate < 100
    assert result.high <= 100


def test_longer_answers_are_discounted() -> None:
    """Wins that only come with longer answers (baseline - candidate < 0) are worth less once length is controlled."""
    rng = np.random.default_rng(3)
    difference = rng.normal(-300, 300, 400)
    wins = expit(-2 * np.tanh(difference / 300))
    data = Comparisons(wins, difference, np.zeros(400), NO_GAMED_ROWS)
    assert length_controlled(data).win_rate < 100 * wins.mean() - 5


def test_order_of_questions_does_not_matter() -> None:
    data, order = synthetic(), np.random.default_rng(1).permutation(300)
    shuffled = Comparisons(data.wins[order], data.length_difference[order], data.difficulty[order], data.gamed)
    assert length_controlled(shuffled).win_rate == pytest.approx(length_controlled(data).win_rate, abs=1e-9)


def test_influence_interval_agrees_with_refitting() -> None:
    """The formula's standard error against 2,000 refits, whose own error is 1.6 %."""
    data = synthetic()
    assert length_controlled(data).standard_error == pytest.approx(refitted(data, seed=5).std(), rel=0.06)


def test_refits_of_one_draw_equal_a_fit_of_the_drawn_rows() -> None:
    """A question that is drawn twice counts as two rows."""
    data, n = synthetic(60), 60
    counts = np.random.default_rng(9).multinomial(n, np.full(n, 1 / n), size=3)
    values = refitted(data, resamples=3, seed=9)
    for row, value in zip(counts, values, strict=True):
        drawn = np.repeat(np.arange(n), row)
        copy = Comparisons(data.wins[drawn], data.length_difference[drawn], data.difficulty[drawn], data.gamed)
        assert length_controlled(copy).win_rate == pytest.approx(value, abs=1e-7)


def test_one_comparison_is_too_few() -> None:
    with pytest.raises(ValueError, match="two"):
        length_controlled(Comparisons(np.ones(1), np.ones(1), np.zeros(1), NO_GAMED_ROWS))
