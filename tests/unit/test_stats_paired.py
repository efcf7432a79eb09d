"""The check's arithmetic: bounds, p-values, Holm, what could be seen, and the verdict's order."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from seft_bench.stats.lc_regression import NO_GAMED_ROWS, Comparisons
from seft_bench.stats.length_control import length_controlled
from seft_bench.stats.paired import (
    Difference,
    checked,
    hall,
    holm,
    lc_difference,
    mean_difference,
    minimal_effect,
    needed_questions,
    verdict,
)


def symmetric(n: int = 40, shift: float = -0.2) -> np.ndarray:
    half = np.random.default_rng(3).normal(0, 1, n // 2)
    return np.concatenate([half, -half]) + shift


def plain(delta: float, error: float, n: int = 80, skewness: float = 0.0) -> Difference:
    return Difference(delta, error, n, skewness, "")


def test_without_skewness_bounds_and_p_values_are_those_of_the_paired_t_test() -> None:
    baseline = np.linspace(1, 10, 40)
    candidate = baseline + symmetric()
    found, test = mean_difference(candidate, baseline), stats.ttest_rel(candidate, baseline, alternative="less")
    assert found.p_regressed() == pytest.approx(test.pvalue, rel=1e-9)
    assert found.upper() == pytest.approx(test.confidence_interval(0.95).high, abs=1e-9)
    greater = stats.ttest_rel(candidate, baseline - 0.5, alternative="greater")
    assert found.p_worse_than(0.5) == pytest.approx(greater.pvalue, rel=1e-9)
    assert found.lower() == pytest.approx(
        stats.ttest_rel(candidate, baseline, alternative="greater").confidence_interval(0.95).low, abs=1e-9
    )


@pytest.mark.parametrize("skewness", [-3.0, -0.4, 0.0, 0.4, 3.0])
@pytest.mark.parametrize("alpha", [0.05, 0.003])
def test_bounds_and_p_values_say_the_same(skewness: float, alpha: float) -> None:
    found = plain(-0.3, 0.2, 50, skewness)
    for nudge, below in ((1e-6, False), (-1e-6, True)):
        at_upper = dataclasses.replace(found, delta=found.delta - found.upper(alpha) + nudge)
        assert (at_upper.p_regressed() > alpha) is not below
        assert (found.p_worse_than(-found.lower(alpha) - nudge) > alpha) is not below


def test_skewness_never_makes_a_test_more_willing_than_students() -> None:
    for skewness in (-2.0, -0.5, 0.5, 2.0):
        found, student = plain(-0.4, 0.2, 80, skewness), plain(-0.4, 0.2)
        assert found.p_regressed() >= student.p_regressed()
        assert found.lower() <= student.lower() < student.upper() <= found.upper()


def test_halls_transformation_never_falls() -> None:
    """Where Johnson's quadratic turns round, a loss of thirty standard errors would be no loss."""
    for skewness in (-5.0, 1.3, 5.0):
        values = [hall(t, skewness, 32) for t in np.linspace(-40, 40, 400)]
        assert all(a < b + 1e-12 for a, b in itertools.pairwise(values))
    assert plain(-30.0, 1.0, 32, 2.0).p_regressed() < 1e-6


def test_halls_transformation_corrects_the_level_of_a_skewed_population() -> None:
    """Exponential losses, n = 80: by an independent simulation Student's t errs in 7 to 9 %, both together in about 5
    %.
    """
    drawn = np.random.default_rng(0).exponential(1.0, (20000, 80)) - 1.0
    t = drawn.mean(axis=1) / drawn.std(axis=1, ddof=1) * math.sqrt(80)
    skewness = stats.skew(drawn, axis=1)
    student = stats.t.cdf(t, 79) < 0.05
    both = stats.t.cdf(np.maximum(t, hall(t, skewness, 80)), 79) < 0.05
    assert student.mean() > 0.065
    assert 0.045 < both.mean() < 0.058


def test_skewness_is_the_populations_third_moment() -> None:
    values = np.random.default_rng(1).exponential(1.0, 60)
    assert mean_difference(values, np.zeros(60)).skewness == pytest.approx(stats.skew(values))


def test_questions_that_do_not_vary() -> None:
    equal, worse = mean_difference([3.0] * 9, [3.0] * 9), mean_difference([3.0] * 9, [4.0] * 9)
    assert (equal.p_regressed(), equal.p_worse_than(0.5)) == (1.0, 0.0)
    assert (worse.p_regressed(), worse.p_worse_than(0.5), worse.p_worse_than(1.0)) == (0.0, 1.0, 1.0)
    assert (worse.lower(), worse.upper()) == (-1.0, -1.0)
    assert needed_questions(worse, 0.5) is None
    assert minimal_effect(worse) == 0.0
    assert [verdict(checked([("score", item, 0.5)])) for item in (equal, worse)] == ["PASS", "REGRESSED"]


@pytest.mark.parametrize(("one", "other"), [([1.0], [1.0]), ([], []), ([1.0, 2.0], [1.0, 2.0, 3.0])])
def test_too_few_or_unequal_questions_are_refused(one: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError):
        mean_difference(one, other)


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([0.2], [0.2]),
        ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),
        ([0.5, 0.001], [0.5, 0.002]),
        ([0.9, 0.8, 0.7], [1.0, 1.0, 1.0]),
        ([], []),
    ],
)
def test_holm(given: list[float], adjusted: list[float]) -> None:
    assert holm(given) == pytest.approx(adjusted)


def test_the_minimal_effect_is_2_49_standard_errors_of_many_questions() -> None:
    assert minimal_effect(plain(0.0, 1.0, 10**6)) == pytest.approx(
        stats.norm.ppf(0.95) + stats.norm.ppf(0.80), abs=1e-3
    )
    assert minimal_effect(plain(0.0, 1.0, 10**6), alpha=0.01, power=0.9) == pytest.approx(
        stats.norm.ppf(0.99) + stats.norm.ppf(0.9), abs=1e-3
    )


@pytest.mark.parametrize("shape", [2.0, 8.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_minimal_effect_is_found_as_often_as_it_says_in_skewed_populations(shape: float, sign: float) -> None:
    population = sign * np.random.default_rng(5).gamma(shape, 1.0, 80)
    population = (population - population.mean()) / population.std()
    loss = minimal_effect(plain(0.0, 1 / math.sqrt(80), 80, float(stats.skew(population))))
    drawn = np.random.default_rng(6).choice(population, (8000, 80)) - loss
    t = drawn.mean(axis=1) / drawn.std(axis=1, ddof=1) * math.sqrt(80)
    found = stats.t.cdf(np.maximum(t, hall(t, stats.skew(drawn, axis=1), 80)), 79) < 0.05
    assert found.mean() == pytest.approx(0.80, abs=0.03)


def test_with_the_needed_questions_the_minimal_effect_is_the_margin() -> None:
    deviation = 2.0
    for skewness in (0.0, 1.2):
        needed = needed_questions(plain(0.0, deviation / math.sqrt(80), 80, skewness), 0.5)
        assert needed is not None
        assert minimal_effect(plain(0.0, deviation / math.sqrt(needed), needed, skewness)) <= 0.5 + 1e-3
        assert minimal_effect(plain(0.0, deviation / math.sqrt(needed - 2), needed - 2, skewness)) > 0.5
    assert needed_questions(plain(0.0, 2.0 / math.sqrt(80)), 0.5) == pytest.approx((2.4865 * 2.0 / 0.5) ** 2, abs=3)


# Verdicts


def test_a_certain_loss_smaller_than_the_margin_passes() -> None:
    [item] = checked([("score", plain(-0.2, 0.05), 0.5)])
    assert item.passes
    assert item.regressed
    assert verdict([item]) == "PASS"


def test_verdicts() -> None:
    fine, lost, unclear = plain(0.0, 0.1), plain(-1.0, 0.1), plain(-0.3, 0.4)

    def of(*differences: Difference) -> str:
        return verdict(checked([(str(index), item, 0.5) for index, item in enumerate(differences)]))

    assert [of(fine), of(lost), of(unclear)] == ["PASS", "REGRESSED", "INCONCLUSIVE"]
    assert [of(fine, fine), of(fine, unclear), of(fine, lost), of(unclear, lost)] == [
        "PASS",
        "INCONCLUSIVE",
        "REGRESSED",
        "REGRESSED",
    ]
    assert verdict([]) == "INCONCLUSIVE"


def test_holm_decides_over_several_metrics_and_a_looks_own_level_over_each() -> None:
    """p = 0.03 alone is a regression; one of two metrics it is none."""
    loss = plain(-float(stats.t.isf(0.03, 79)), 1.0)
    none = plain(0.0, 1.0)
    assert checked([("a", loss, 0.5)])[0].regressed
    assert not checked([("a", loss, 0.5), ("b", none, 0.5)])[0].regressed
    looked = checked([("a", loss, 0.5), ("b", none, 0.5)], 0.04, regression_alpha=0.031)
    assert [item.regressed for item in looked] == [True, False]
    assert {(item.level, item.bound_level) for item in looked} == {(0.031, 0.04)}


# Length-controlled win rates


def arm(seed: int, n: int = 150, level: float = 0.0) -> Comparisons:
    shared, own = np.random.default_rng(9), np.random.default_rng(seed)
    difficulty = shared.normal(0, 1, n)
    length = own.normal(100, 300, n)
    wins = 1 / (1 + np.exp(-(level + difficulty - np.tanh(length / 300) + own.normal(0, 1, n))))
    return Comparisons(wins, length, difficulty, NO_GAMED_ROWS)


def test_lc_difference_is_that_of_the_two_figures_with_the_error_of_joint_refits() -> None:
    one, other = arm(1), arm(2, level=0.3)
    quick, slow = lc_difference(one, other, resamples=0), lc_difference(one, other)
    assert (
        quick.delta == slow.delta == pytest.approx(length_controlled(one).win_rate - length_controlled(other).win_rate)
    )
    assert slow.standard_error == pytest.approx(quick.standard_error, rel=0.05)
    assert "2,000 refits" in slow.how
    assert quick.skewness == slow.skewness


def test_a_model_against_itself_has_no_difference_at_all() -> None:
    found = lc_difference(arm(1), arm(1))
    assert (found.delta, found.standard_error, found.skewness) == (0.0, 0.0, 0.0)
    assert verdict(checked([("LC", found, 3.0)])) == "PASS"


def test_lc_of_different_questions_is_refused() -> None:
    with pytest.raises(ValueError, match="same questions"):
        lc_difference(arm(1, 100), arm(2, 150))
