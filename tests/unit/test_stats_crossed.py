"""Two methods over questions and seeds: variance components, degrees of freedom, power, and error rates in simulated
matrices.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from seft_bench.stats.components import Components, components_of, variance_and_degrees
from seft_bench.stats.crossed import lc_method_difference, method_difference
from seft_bench.stats.crossed_power import minimal_effect, needed_questions, needed_seeds
from seft_bench.stats.paired import checked, lc_difference, mean_difference, verdict
from tests.unit.crossed_data import against_zero, drawn, simulated_comparisons

SMALL = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 4.0], [2.0, 5.0, 8.0]])
"""Differences of three seeds on three questions: question means 2, 3, 6; seed means 3, 3, 5; grand mean 11 / 3."""


# Variance components


def test_components_by_hand() -> None:
    """var(2, 3, 6) = 13/3; var(3, 3, 5) = 4/3; the rest's sum of squares is 42 - 26 - 8 = 8 on four degrees."""
    found = components_of(SMALL, np.zeros((3, 3)), paired=True)
    assert (found.n, found.seeds) == (3, (3,))
    assert found.questions == pytest.approx(13 / 9)
    assert found.of_seeds == pytest.approx((4 / 9,))
    assert found.rest == pytest.approx((8 / 4 / 9,))
    assert found.variance == pytest.approx(15 / 9)
    assert found.share_of_seeds == pytest.approx(2 / 15)


def test_components_are_the_mean_squares_of_a_balanced_two_way_anova() -> None:
    """Sums of squares by least squares on dummy columns, which know nothing of means over rows."""
    grid = drawn(0, k=4, n=7)
    k, n = grid.shape
    seeds, questions = (
        np.eye(size)[index.ravel()][:, 1:] for size, index in zip(grid.shape, np.indices(grid.shape), strict=True)
    )

    def unexplained(*columns: np.ndarray) -> float:
        design = np.column_stack([np.ones(k * n), *columns])
        return float(((grid.ravel() - design @ np.linalg.lstsq(design, grid.ravel(), rcond=None)[0]) ** 2).sum())

    whole = unexplained(seeds, questions)
    found = components_of(grid, np.zeros_like(grid), paired=True)
    assert found.questions * n * k == pytest.approx((unexplained(seeds) - whole) / (n - 1))
    assert found.of_seeds[0] * n * k == pytest.approx((unexplained(questions) - whole) / (k - 1))
    assert found.rest[0] * n * k == pytest.approx(whole / ((k - 1) * (n - 1)))


def test_components_are_unbiased() -> None:
    """Own 0.5, seeds 0.2, rest 1: the mean of 80 questions and 3 seeds has variance 0.25 / 80 + 0.04 / 3 + 1 / 240."""
    found = [components_of(drawn(seed), np.zeros((3, 80)), paired=True) for seed in range(3000)]
    untruncated = [item.questions + sum(item.of_seeds) - sum(item.rest) for item in found]
    assert np.mean(untruncated) == pytest.approx(0.25 / 80 + 0.04 / 3 + 1 / 240, rel=0.06)
    assert np.var([drawn(seed).mean() for seed in range(3000)]) == pytest.approx(np.mean(untruncated), rel=0.12)


def test_independent_seeds_add_both_sides_and_questions_stay_paired() -> None:
    difficulty = np.random.default_rng(5).normal(0, 10, 60)
    one, other = drawn(1, 3, 60), drawn(2, 5, 60)
    found = method_difference(difficulty + one, difficulty + other, paired=False)
    plain = method_difference(one, other, paired=False)
    assert found.components.seeds == (3, 5)
    assert found.components.of_seeds == pytest.approx(
        (one.mean(axis=1).var(ddof=1) / 3, other.mean(axis=1).var(ddof=1) / 5)
    )
    assert found.standard_error == pytest.approx(plain.standard_error)
    assert found.delta == pytest.approx(one.mean() - other.mean())


def test_what_a_seed_does_to_both_sides_cancels_where_they_are_paired() -> None:
    shared = np.array([[-2.0], [0.0], [2.0]])
    one, other = shared + drawn(1, between=0.0), shared + drawn(2, between=0.0)
    paired, independent = (method_difference(one, other, paired=paired) for paired in (True, False))
    assert paired.standard_error < independent.standard_error / 5
    assert independent.components.share_of_seeds > 0.9


@pytest.mark.parametrize(
    ("one", "other", "paired"),
    [((1, 9), (1, 9), True), ((3, 9), (4, 9), True), ((3, 9), (3, 8), False), ((3, 1), (3, 1), False)],
)
def test_what_cannot_be_taken_apart_is_refused(one: tuple[int, int], other: tuple[int, int], paired: bool) -> None:
    with pytest.raises(ValueError, match="two grids"):
        components_of(np.zeros(one), np.zeros(other), paired=paired)


# The test


def test_seeds_alone_give_the_one_sample_t_test_over_seeds() -> None:
    seeds = np.array([-0.9, -0.4, -0.5, -0.7])
    found = against_zero(np.repeat(seeds[:, None], 50, axis=1))
    expected = stats.ttest_1samp(seeds, 0.0, alternative="less")
    assert found.degrees_of_freedom == pytest.approx(3)
    assert found.p_regressed() == pytest.approx(expected.pvalue)
    assert found.upper() == pytest.approx(expected.confidence_interval(0.95).high)


def test_seeds_that_do_not_differ_give_the_paired_t_test_over_questions() -> None:
    questions = np.random.default_rng(2).normal(-0.2, 1, 40)
    found, plain = against_zero(np.tile(questions, (3, 1))), mean_difference(questions, np.zeros(40))
    assert found.degrees_of_freedom == 39
    assert (found.standard_error, found.skewness) == pytest.approx((plain.standard_error, plain.skewness))
    assert found.p_regressed() == pytest.approx(plain.p_regressed())
    assert found.p_worse_than(0.5) == pytest.approx(plain.p_worse_than(0.5))


def test_degrees_of_freedom_by_hand() -> None:
    """V = 1 + 2 - 0.5, by Satterthwaite 6.25 / (1/79 + 4/2 + 0.25/158); with V_seeds over the median of chi^2(2) / 2,
    log 2, fewer.
    """
    found = Components(80, (3,), 1.0, (2.0,), (0.5,))
    plain = 2.5**2 / (1 / 79 + 4 / 2 + 0.25 / 158)
    raised = 2 / math.log(2)
    cautious = (1 + raised - 0.5) ** 2 / (1 / 79 + raised**2 / 2 + 0.25 / 158)
    assert cautious < plain
    assert found.degrees_of_freedom() == pytest.approx(cautious)


def test_degrees_stay_between_the_seeds_and_the_questions() -> None:
    fixed = Components(80, (3, 4), 1.0, (0.0, 0.0), (0.3, 0.3))
    values = [np.geomspace(1e-6, 1e6, 60)] * 2
    variance, degrees = variance_and_degrees(fixed, values)
    assert ((degrees >= 2) & (degrees <= 79)).all()
    assert (degrees[0], degrees[-1] < 5.1) == (79, True)
    assert (np.diff(variance) >= 0).all()


def test_only_the_questions_part_of_the_variance_is_skewed() -> None:
    grid = np.random.default_rng(3).exponential(1.0, 80) + np.array([[-1.0], [0.0], [1.2]])
    found = against_zero(grid)
    assert found.skewness == pytest.approx(
        stats.skew(grid.mean(axis=0)) * (found.components.questions / found.components.variance) ** 1.5
    )
    assert found.skewness < 0.2 < stats.skew(grid.mean(axis=0))


def test_two_methods_without_any_difference_pass() -> None:
    found = method_difference(np.ones((3, 5)), np.ones((3, 5)), paired=True)
    assert (found.standard_error, found.minimal_effect(), found.needed_seeds(0.5), found.needed_questions(0.5)) == (
        0.0,
        0.0,
        None,
        None,
    )
    assert verdict(checked([("score", found, 0.5)])) == "PASS"


def test_the_bootstrap_stands_beside_it() -> None:
    one, other = drawn(1, between=0.4), drawn(2, between=0.4)
    for paired in (True, False):
        found = method_difference(one, other, paired=paired)
        assert found.bootstrap.low is not None
        assert found.bootstrap.high is not None
        assert found.bootstrap.low < found.delta < found.bootstrap.high
        assert found.bootstrap.mean == pytest.approx(found.delta)
        assert ("independent" in found.bootstrap.how) is not paired


# Length control


def test_lc_of_equal_seeds_is_lc_of_two_models() -> None:
    one, other = simulated_comparisons(1, level=-0.3), simulated_comparisons(2)
    found, plain = (
        lc_method_difference([one] * 3, [other] * 3, paired=True, resamples=500),
        lc_difference(one, other, resamples=500),
    )
    assert found.delta == pytest.approx(plain.delta)
    assert found.standard_error == pytest.approx(plain.standard_error)
    assert found.components.of_seeds == pytest.approx((0.0,))


def test_lc_by_refits_agrees_with_the_sandwich_formula() -> None:
    arms = [
        [simulated_comparisons(10 * side + seed, level=-0.2 * side + 0.1 * seed) for seed in range(3)]
        for side in range(2)
    ]
    for paired in (True, False):
        refits, sandwich = (lc_method_difference(*arms, paired=paired, resamples=resamples) for resamples in (1000, 0))
        assert refits.delta == pytest.approx(sandwich.delta)
        assert refits.standard_error == pytest.approx(sandwich.standard_error, rel=0.06)
        assert refits.bootstrap.low == pytest.approx(sandwich.bootstrap.low, abs=1.5)
        assert refits.components.of_seeds == sandwich.components.of_seeds


def test_lc_between_seeds_is_the_variance_of_the_seeds_own_figures() -> None:
    from seft_bench.stats.length_control import length_controlled

    arms = [
        [simulated_comparisons(10 * side + seed, level=0.5 * seed * (side == 0)) for seed in range(3)]
        for side in range(2)
    ]
    found = lc_method_difference(*arms, paired=True, resamples=50)
    gaps = [
        length_controlled(one).win_rate - length_controlled(other).win_rate for one, other in zip(*arms, strict=True)
    ]
    assert found.delta == pytest.approx(np.mean(gaps))
    assert found.components.of_seeds == pytest.approx((np.var(gaps, ddof=1) / 3,))


# What could be seen


def test_the_minimal_effect_of_many_seeds_is_2_49_standard_errors() -> None:
    found = Components(10**6, (10**5,), 1.0, (1.0,), (0.0,))
    assert minimal_effect(found) == pytest.approx(2.4865 * math.sqrt(2), rel=1e-3)


def test_the_minimal_effect_of_seeds_alone_is_that_of_students_t() -> None:
    """The noncentral t: with three seeds and nothing else 80 % power needs 3.98 standard errors."""
    loss = minimal_effect(Components(1000, (3,), 0.0, (1.0,), (0.0,)))
    assert stats.nct.cdf(stats.t.ppf(0.05, 2), 2, -loss) == pytest.approx(0.80, abs=0.005)


def test_more_seeds_and_more_questions_lower_it_as_far_as_they_can() -> None:
    """Of variance 1 that only seeds lower, 1 that only questions lower, and 0.5 that both do."""
    found = Components(80, (3,), 1.5, (1.5,), (0.5,))
    now = minimal_effect(found)
    seeds, questions = needed_seeds(found, 0.0, 0.85 * now), needed_questions(found, 0.0, 0.85 * now)
    assert seeds is not None
    assert questions is not None
    assert 3 < seeds < 8
    assert questions > 80
    assert needed_seeds(found, 0.0, 2.4) is None  # 2.49 times the questions' own 1
    assert needed_questions(found, 0.0, 3.9) is None  # three seeds' 3.98 times 1
    assert needed_seeds(found, 0.0, now) == 3
    assert needed_questions(found, 0.0, 1.0001 * now) == 80


def test_with_the_needed_seeds_the_margin_is_found() -> None:
    """By the check itself, in redrawn matrices of as many seeds."""
    own, between, rest, n = 0.6, 0.25, 1.0, 80
    truth = Components(
        n, (3,), own**2 / n + rest**2 / (3 * n), (between**2 / 3 + rest**2 / (3 * n),), (rest**2 / (3 * n),)
    )
    margin = 0.42
    k = needed_seeds(truth, 0.0, margin)
    assert k is not None
    assert k > 3
    regressed = [
        against_zero(drawn(seed, k, n, own, between, rest) - margin).p_regressed() < 0.05 for seed in range(400)
    ]
    assert np.mean(regressed) > 0.76
