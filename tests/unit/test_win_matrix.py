"""Win shares by hand: wins, ties, what only one of two has."""

from __future__ import annotations

import numpy as np

from seft_bench.stats.win_matrix import win_shares

NAN = float("nan")


def test_wins_count_one_ties_half_and_missing_questions_nothing() -> None:
    figures = np.array([[1.0, 0.5, 0.2, NAN], [0.0, 0.5, 0.3, 0.9], [NAN, NAN, NAN, 0.9]])
    shares, shared = win_shares(figures)
    assert shared.tolist() == [[3, 3, 0], [3, 4, 1], [0, 1, 1]]
    assert shares[0, 1] == (1 + 0.5) / 3
    assert shares[1, 0] == (1 + 0.5) / 3
    assert np.isnan(shares[0, 2])
    assert (shares[1, 2], shares[0, 0]) == (0.5, 0.5)


def test_both_sides_of_a_pair_add_up_to_one() -> None:
    figures = np.random.default_rng(1).integers(0, 4, (6, 40)) / 4
    shares, _ = win_shares(figures)
    np.testing.assert_allclose(shares + shares.T, np.ones((6, 6)))


def test_what_rounding_leaves_is_a_tie() -> None:
    shares, _ = win_shares(np.array([[0.1 + 0.2], [0.3]]))
    assert shares[0, 1] == 0.5
