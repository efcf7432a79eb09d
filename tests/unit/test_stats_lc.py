"""Choice of C by cross-validation, the two intervals, the official standard error, and joint difficulties, against slow
ways to the same.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from seft_bench.config import SuiteConfig
from seft_bench.stats.lc_cross_validation import GRID, cross_validated_c
from seft_bench.stats.lc_difficulty import PRIOR_DEVIATION, fit_difficulties
from seft_bench.stats.lc_regression import NO_GAMED_ROWS, Comparisons, GamedRows, length_feature
from seft_bench.stats.length_control import (
    BOOTSTRAP_SEED,
    DECLARED_C,
    RESAMPLES,
    fit,
    length_controlled,
    refitted,
    with_bootstrap,
)


def synthetic(n: int = 200, *, gamed: bool = True) -> Comparisons:
    rng = np.random.default_rng(2)
    difference, difficulty = rng.normal(50, 400, n), rng.normal(0, 1, n)
    wins = expit(-1.5 * np.tanh(difference / difference.std()) + 0.8 * difficulty - 0.5 + rng.normal(0, 1, n))
    length = np.tanh(rng.normal(0, 1.5, 2 * n))
    rows = GamedRows(
        length, np.tile(difficulty, 2), expit(-length + 0.5 * np.tile(difficulty, 2) + rng.normal(0, 1, 2 * n))
    )
    return Comparisons(wins, difference, difficulty, rows if gamed else NO_GAMED_ROWS)


def slow_loss(data: Comparisons, fold: np.ndarray, gamed_fold: np.ndarray, held: int, c: float) -> float:
    """Fit without one fold by a general optimiser; weighted log-loss a row of that fold."""
    length = np.tanh(data.length_difference / data.length_difference.std(ddof=1))
    own = np.stack([length, data.difficulty, np.ones(len(length))], axis=1)
    extra = np.stack([data.gamed.tanh_length, data.gamed.difficulty, np.zeros(len(gamed_fold))], axis=1)
    x, p = np.vstack([own, extra]), np.concatenate([data.wins, data.gamed.preference])
    weight = np.concatenate([np.ones(len(own)), np.full(len(extra), 0.1)])
    out = np.concatenate([fold, gamed_fold]) == held

    def losses(w: np.ndarray, rows: np.ndarray) -> np.ndarray:
        q = np.clip(expit(x[rows] @ w), 1e-15, 1 - 1e-15)
        return np.asarray(-weight[rows] * (p[rows] * np.log(q) + (1 - p[rows]) * np.log(1 - q)))

    found = minimize(
        lambda parts: float(losses(parts[:3] - parts[3:], ~out).sum() + parts.sum() / c),
        np.full(6, 0.1),
        bounds=[(0, None)] * 6,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 20000, "maxfun": 200000},
    )
    return float(losses(found.x[:3] - found.x[3:], out).mean())


def test_the_grid_is_the_official_one_and_holds_the_declared_c() -> None:
    np.testing.assert_allclose(GRID, np.logspace(-4, 4, 10))
    assert DECLARED_C in GRID or min(abs(value / DECLARED_C - 1) for value in GRID) < 1e-14
    assert SuiteConfig.model_fields["lc_c"].default == DECLARED_C


@pytest.mark.parametrize("gamed", [True, False])
def test_held_out_losses_are_those_of_slow_fits(gamed: bool) -> None:
    data = synthetic(gamed=gamed)
    positions, gamed_positions = np.arange(200), np.arange(400 if gamed else 0) % 200
    chosen = cross_validated_c(data, positions, gamed_positions)
    for index in (2, 3, 5):
        slow = [slow_loss(data, positions % 5, gamed_positions % 5, held, GRID[index]) for held in range(5)]
        assert chosen.losses[index] == pytest.approx(np.mean(slow), rel=1e-5)
    assert chosen.c == GRID[int(np.argmin(chosen.losses))]


def test_the_smallest_c_wins_among_equals() -> None:
    """Draws everywhere: every C leaves all weights at 0."""
    data = Comparisons(np.full(50, 0.5), np.arange(50.0), np.zeros(50), NO_GAMED_ROWS)
    assert cross_validated_c(data, np.arange(50), np.zeros(0, dtype=int)).c == GRID[0]


def test_folds_follow_the_positions_and_not_the_order_of_rows() -> None:
    data, order = synthetic(), np.random.default_rng(0).permutation(200)
    shuffled = Comparisons(data.wins[order], data.length_difference[order], data.difficulty[order], data.gamed)
    gamed = np.arange(400) % 200
    first, second = cross_validated_c(data, np.arange(200), gamed), cross_validated_c(shuffled, order, gamed)
    np.testing.assert_allclose(first.losses, second.losses, rtol=1e-9)
    other = cross_validated_c(shuffled, np.arange(200), gamed)
    assert abs(other.losses[5] - first.losses[5]) > 1e-6


def test_an_empty_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="a comparison in each"):
        cross_validated_c(synthetic(gamed=False), np.arange(200) * 5, np.zeros(0, dtype=int))


def test_bootstrap_interval_is_the_percentiles_of_refits() -> None:
    data = synthetic()
    plain = length_controlled(data, 2.0)
    found, values = with_bootstrap(plain, data, resamples=300), refitted(data, 300, BOOTSTRAP_SEED, 2.0)
    assert (found.win_rate, found.c, found.standard_error_official) == (
        plain.win_rate,
        2.0,
        plain.standard_error_official,
    )
    assert (found.low, found.high) == tuple(np.percentile(values, [2.5, 97.5]))
    assert found.standard_error == values.std(ddof=1)
    assert RESAMPLES == 2000


def test_official_standard_error_is_that_of_the_fitted_predictions() -> None:
    data = synthetic()
    found, weights = length_controlled(data), fit(data)
    predictions = expit(weights[1] * data.difficulty + weights[2])
    assert found.standard_error_official == pytest.approx(100 * predictions.std(ddof=1) / np.sqrt(200))
    assert found.standard_error_official < found.standard_error


def test_a_constant_length_difference_is_no_feature_however_large() -> None:
    counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=4).astype(float)
    assert not length_feature(np.full(30, 123456.0), counts).any()
    almost = np.full(30, 123456.0)
    almost[0] += 1
    assert length_feature(almost, np.ones((1, 30))).any()


# Difficulties


def judged(models: int = 4, instructions: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    difficulty, level = rng.normal(0, 1.2, instructions), rng.normal(-1, 1, models)
    length = np.tanh(rng.normal(0, 1, (models, instructions)))
    return expit(level[:, None] - length + difficulty + rng.normal(0, 0.7, length.shape)), length, difficulty


def test_joint_fit_is_the_optimum_of_the_written_objective() -> None:
    wins, length, _ = judged(3, 25)
    wins[0, 3], wins[2, :5] = np.nan, np.nan
    there = np.isfinite(wins)

    def objective(flat: np.ndarray) -> float:
        level, slope, difficulty = flat[:3], flat[3:6], flat[6:]
        logits = level[:, None] + slope[:, None] * length + difficulty
        loss = np.logaddexp(0, logits) - np.where(there, wins, 0) * logits
        return float(loss[there].sum() + 0.5 * difficulty @ difficulty / PRIOR_DEVIATION**2)

    slow = minimize(
        objective,
        np.zeros(31),
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 20000, "maxfun": 200000},
    ).x
    found = fit_difficulties(wins, length)
    np.testing.assert_allclose(found.difficulty, slow[6:], atol=2e-4)
    np.testing.assert_allclose(found.intercept, slow[:3], atol=2e-4)
    np.testing.assert_allclose(found.slope, slow[3:6], atol=2e-4)


def test_joint_fit_finds_the_difficulties_that_made_the_judgments() -> None:
    wins, length, true = judged()
    found = fit_difficulties(wins, length).difficulty
    assert abs(found.sum()) < 1e-9
    assert np.corrcoef(found, true)[0, 1] > 0.8


def test_a_model_that_always_wins_does_not_break_the_joint_fit() -> None:
    wins, length, _ = judged()
    wins[1] = 1.0
    found = fit_difficulties(wins, length)
    assert np.isfinite(found.difficulty).all()
    assert found.intercept[1] > 5


def test_an_instruction_that_nobody_was_judged_on_has_the_mean_difficulty() -> None:
    wins, length, _ = judged()
    wins[:, 7] = np.nan
    found = fit_difficulties(wins, length).difficulty
    assert abs(found[7]) < 0.3 * np.abs(found).max()
    assert np.isfinite(found).all()


def test_difficulties_need_two_models() -> None:
    wins, length, _ = judged()
    with pytest.raises(ValueError, match="two models"):
        fit_difficulties(wins[:1], length[:1])
