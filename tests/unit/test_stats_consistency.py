"""Self-consistency: counted by hand, and recovered from simulated judges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seft_bench.stats.consistency import Repeated, consistency


def test_by_hand() -> None:
    """Pairs: (7, 7) equal; (5, 8) not; (4, 4, 6) one of three. Variance: (0 + 4.5 + 8/3) / (1 + 1 + 2)."""
    found = consistency(
        [Repeated("1", (7, 7)), Repeated("2", (5, 8)), Repeated("3", (4, 4, 6)), Repeated("4", (9,))],
        graded=True,
        rows=100,
    )
    assert found is not None
    assert (found.prompts, found.pairs, found.equal.mean) == (3, 5, 0.4)
    assert found.sd is not None
    assert found.sd.mean == pytest.approx(math.sqrt((4.5 + 8 / 3) / 4))
    assert found.noise_of_mean is not None
    assert found.noise_of_mean.mean == pytest.approx(found.sd.mean / 10)


def test_verdicts_without_a_scale_have_no_standard_deviation() -> None:
    found = consistency([Repeated("1", (1, -1)), Repeated("2", (0, 0))], graded=False)
    assert found is not None
    assert (found.equal.mean, found.sd, found.noise_of_mean) == (0.5, None, None)


def test_a_judge_that_never_changes_is_bounded_not_certain() -> None:
    found = consistency([Repeated(str(n), (5, 5)) for n in range(30)], graded=True)
    assert found is not None
    assert (found.equal.mean, found.equal.low, found.equal.high) == (1.0, pytest.approx(0.025 ** (1 / 30)), 1.0)


def test_nothing_was_judged_twice() -> None:
    assert consistency([Repeated("1", (5,))], graded=True) is None


def test_intervals_cover_the_simulated_judges_noise() -> None:
    """Grades = prompt + noise of SD 0.7 in tenths: SD 0.7 to within rounding; the interval covers it in about 95 of 100
    runs.
    """
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(250):
        levels = rng.normal(6, 2, (80, 2))
        grades = np.round(levels[..., None] + rng.normal(0, 0.7, (80, 2, 2)), 1)
        found = consistency(
            [Repeated(str(q), tuple(grades[q, turn])) for q in range(80) for turn in range(2)], graded=True
        )
        assert found is not None
        assert found.sd is not None
        assert found.sd.low is not None
        assert found.sd.high is not None
        covered.append(found.sd.low <= 0.7 <= found.sd.high)
    assert 0.91 <= np.mean(covered) <= 0.98
