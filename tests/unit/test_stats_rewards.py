"""Rewards to preferences and grades: answers that are known, and what a fit must not do."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from seft_bench.stats import rewards
from seft_bench.stats.rewards import GradedReward


def rows_of(values: list[tuple[float, float]], per_question: int = 2) -> list[GradedReward]:
    return [GradedReward(f"q{index // per_question}", reward, grade) for index, (reward, grade) in enumerate(values)]


def noisy_rows(n: int, seed: int = 0) -> list[GradedReward]:
    rng = np.random.default_rng(seed)
    values = rng.normal(2.0, 3.0, n)
    grades = np.clip(1 + 9 / (1 + np.exp(-(0.8 * values - 1))) + rng.normal(0, 0.7, n), 1, 10)
    return rows_of(list(zip(values.tolist(), grades.tolist(), strict=True)))


@pytest.mark.parametrize(
    ("difference", "temperature", "probability"),
    [(0.0, 1.0, 0.5), (math.log(3), 1.0, 0.75), (2 * math.log(3), 2.0, 0.75)],
)
def test_bradley_terry(difference: float, temperature: float, probability: float) -> None:
    assert rewards.bradley_terry_preference(5.0 + difference, 5.0, temperature) == pytest.approx(
        1 + probability, abs=1e-12
    )
    assert rewards.bradley_terry_preference(5.0, 5.0 + difference, temperature) == pytest.approx(
        2 - probability, abs=1e-12
    )
    assert rewards.grade_against_reference(5.0 + difference, 5.0, temperature) == pytest.approx(
        1 + 9 * probability, abs=1e-12
    )


def test_huge_differences_stay_in_range() -> None:
    assert rewards.bradley_terry_preference(1e6, -1e6) == 2.0
    assert rewards.grade_against_reference(-1e6, 1e6) == 1.0


def test_the_sigmoid_finds_the_parameters_behind_exact_grades() -> None:
    values = np.linspace(-40, 60, 30)
    grades = 1 + 9 / (1 + np.exp(-(0.07 * values - 0.5)))
    fitted = rewards.fit_sigmoid(rows_of(list(zip(values.tolist(), grades.tolist(), strict=True))))
    assert (fitted.slope, fitted.intercept) == (pytest.approx(0.07, abs=1e-6), pytest.approx(-0.5, abs=1e-6))


def test_isotonic_pools_what_falls() -> None:
    """Known answer: 1, then 5 and 3 pooled to 4, then 7; two rows of one reward share their mean."""
    fitted = rewards.fit_isotonic(rows_of([(0.0, 1.0), (1.0, 5.0), (2.0, 3.0), (3.0, 6.0), (3.0, 8.0)]))
    assert isinstance(fitted, rewards.IsotonicMap)
    assert fitted.rewards == (0.0, 1.0, 2.0, 3.0)
    assert fitted.grades == pytest.approx((1.0, 4.0, 4.0, 7.0))
    assert fitted([-9.0, 0.5, 2.5, 9.0]) == pytest.approx([1.0, 2.5, 5.5, 7.0])


@pytest.mark.parametrize("fit", rewards.FITS.values(), ids=rewards.FITS)
def test_maps_never_fall_and_stay_in_the_scale(fit: object) -> None:
    backwards = [GradedReward(row.question_id, -row.reward, row.grade) for row in noisy_rows(60)]
    for rows in (noisy_rows(60), backwards):
        grades = fit(rows)(np.linspace(-100, 100, 500))  # type: ignore[operator]
        assert (np.diff(grades) >= -1e-9).all()
        assert grades.min() >= 1.0
        assert grades.max() <= 10.0


def test_calibration_keeps_the_map_with_the_smaller_held_out_error() -> None:
    """Smooth truth: the sigmoid. A step at one reward, which no sigmoid with grades 3 and 8 follows: isotonic."""
    smooth = rewards.calibrate(noisy_rows(80))
    step = rewards.calibrate(rows_of([(float(x), 8.0 if x > 20 else 3.0) for x in range(60)]))
    assert (smooth.name, step.name) == ("sigmoid", "isotonic")
    for found in (smooth, step):
        other = "isotonic" if found.name == "sigmoid" else "sigmoid"
        assert found.errors[found.name].mean < found.errors[other].mean < found.errors["constant"].mean
    assert (smooth.rows, smooth.questions) == (80, 40)


def test_the_error_is_held_out_by_question() -> None:
    """Each question has a reward and a random grade of its own, twice: a fit that saw a question's other row would know
    its grade.
    """
    rng = np.random.default_rng(1)
    rows = [
        GradedReward(f"q{question}", float(question), grade)
        for question, grade in enumerate(rng.uniform(1, 10, 40))
        for _ in range(2)
    ]
    errors = rewards.held_out_errors(
        rows,
        lambda known: (
            (table := {row.reward: row.grade for row in known}) and (lambda x: np.array([table.get(v, 5.5) for v in x]))
        ),
    )
    assert errors == pytest.approx([abs(row.grade - 5.5) for row in rows])


def test_a_gain_over_the_mean_grade_is_only_claimed_where_it_is_clear() -> None:
    rng = np.random.default_rng(3)
    noise = rows_of(list(zip(rng.normal(size=60).tolist(), rng.uniform(1, 10, 60).tolist(), strict=True)))
    backwards = [GradedReward(row.question_id, -row.reward, row.grade) for row in noisy_rows(60)]
    assert [rewards.calibrate(rows).foretells for rows in (noisy_rows(60), noise, backwards)] == [True, False, False]


def test_a_constant_errs_by_the_spread_of_the_grades() -> None:
    rows = [GradedReward(f"q{index}", 0.0, 2.0 if index % 2 else 8.0) for index in range(40)]
    assert rewards.calibrate(rows).errors["constant"].mean == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (noisy_rows(19), "19 graded answers, at least 20"),
        ([GradedReward(f"q{n}", float(n), 7.0) for n in range(30)], "same grade"),
        ([GradedReward("q", float(n), float(1 + n % 9)) for n in range(30)], "one question"),
        ([*noisy_rows(30), GradedReward("q", math.nan, 3.0)], "finite"),
    ],
)
def test_what_cannot_be_calibrated_on(rows: list[GradedReward], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rewards.calibrate(rows)


@pytest.mark.parametrize("fit", rewards.FITS.values(), ids=rewards.FITS)
def test_maps_survive_json(fit: object) -> None:
    fitted = fit(noisy_rows(30))  # type: ignore[operator]
    assert rewards.map_of_row(json.loads(json.dumps(rewards.map_row(fitted)))) == fitted
