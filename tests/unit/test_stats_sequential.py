"""Looking several times: the levels of the looks spend the promised error, no more and no less."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from seft_bench.stats.sequential import LOOK_FRACTIONS, levels_for, look_sizes, nominal_levels, spent


@pytest.mark.parametrize("alpha", [0.05, 0.025])
@pytest.mark.parametrize("fractions", [(0.5, 1.0), LOOK_FRACTIONS, (0.1, 0.2, 0.5, 0.9, 1.0)])
def test_ever_crossing_has_the_promised_probability(fractions: tuple[float, ...], alpha: float) -> None:
    """Brownian motion by its independent increments, 400,000 paths: the standard error is under 0.0004."""
    steps = np.diff((0.0, *fractions))
    paths = np.cumsum(np.random.default_rng(0).normal(0, np.sqrt(steps), (400_000, len(steps))), axis=1) / np.sqrt(
        fractions
    )
    bounds = stats.norm.isf(nominal_levels(fractions, alpha))
    crossed = np.logical_or.accumulate(paths > bounds, axis=1).mean(axis=0)
    np.testing.assert_allclose(crossed, [spent(fraction, alpha) for fraction in fractions], atol=0.0012)


@pytest.mark.parametrize("rho", [1.0, 2.0, 3.0])
def test_two_looks_are_those_of_the_bivariate_normal_integral(rho: float) -> None:
    first, second = stats.norm.isf(nominal_levels((0.5, 1.0), 0.025, rho))
    assert stats.norm.sf(first) == pytest.approx(0.025 * 0.5**rho)
    both_below = stats.multivariate_normal([0, 0], [[1, 0.5**0.5], [0.5**0.5, 1]]).cdf([first, second])
    assert 1 - both_below == pytest.approx(0.025, abs=2e-6)


def test_one_look_has_the_whole_level() -> None:
    assert nominal_levels((1.0,), 0.05) == (pytest.approx(0.05),)


def test_levels_rise_with_the_data_and_with_alpha() -> None:
    levels = levels_for((32, 48, 64, 80), 0.05)
    assert list(levels) == sorted(levels)
    assert 0.04 < levels[-1] < 0.05
    assert all(small < large for small, large in zip(levels_for((32, 48, 64, 80), 0.025), levels, strict=True))


@pytest.mark.parametrize("fractions", [(), (0.5, 0.5, 1.0), (0.0, 1.0), (0.5, 1.2), (0.8, 0.4)])
def test_fractions_that_do_not_increase_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="increase within"):
        nominal_levels(fractions, 0.05)


@pytest.mark.parametrize("questions", [1, 2, 19, 20, 21, 80, 805])
def test_look_sizes_end_with_all_questions(questions: int) -> None:
    sizes = look_sizes(questions)
    assert sizes[-1] == questions
    assert list(sizes) == sorted(set(sizes))
    assert len(sizes) == (1 if questions < 20 else 4)
