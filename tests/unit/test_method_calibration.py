"""Error rates of a check of two methods: `benchmarks/method_calibration.py` simulates the very test and keeps them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from seft_bench.results import save_result
from seft_bench.stats.crossed import lc_method_difference
from seft_bench.stats.lc_regression import Comparisons
from tests.benchmark_scripts import load_script
from tests.unit.crossed_data import against_zero, drawn, simulated_comparisons
from tests.unit.leaderboard_data import matrix


def test_every_two_methods_of_a_matrix_are_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for result in matrix({"start": 5.0, "dpo": 6.0, "seft": 6.2}, questions=40):
        save_result(tmp_path, result)
    load_script("method_calibration").main(["--results", str(tmp_path), "--repeats", "100"])
    out = capsys.readouterr().out
    assert out.startswith("12 worlds, 100 repeats each")  # three pairs, two suites, two decodings
    assert "tiny-mtbench, greedy: dpo - seft" in out


@pytest.mark.parametrize("seeds", [(), (1, 2)])
def test_a_folder_without_worlds_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: tuple[int, ...]
) -> None:
    for result in matrix({"start": 5.0, "dpo": 6.0}, seeds=seeds, questions=10):
        save_result(tmp_path, result)
    with pytest.raises(SystemExit) as stopped:
        load_script("method_calibration").main(["--results", str(tmp_path)])
    assert stopped.value.code == (5 if seeds else 2)
    assert ("at least three training seeds" if seeds else "holds no two methods") in capsys.readouterr().err


def test_the_simulation_tests_as_the_check_does() -> None:
    """Vectorised for speed, and the same p-value: one redrawn matrix through both."""
    calibration = load_script("method_calibration")
    world = calibration.World.of(drawn(4, n=40) + np.random.default_rng(1).exponential(1, 40))
    grids, rng = [], np.random.default_rng(7)
    k, n = world.rest.shape
    chosen = rng.integers(0, n, (5, 1, n))
    rest = world.rest[rng.integers(0, k, (5, k, n)), chosen]
    grids = world.own[chosen] + rng.normal(0.0, 1.0, (5, k, 1)) * world.seed_deviation + rest
    tests = world.tests(5, np.random.default_rng(7))
    fast = tests._p_below(tests.delta, tests.skewness)
    assert fast == pytest.approx([against_zero(grid).p_regressed() for grid in grids], rel=1e-6)


def test_a_world_has_the_components_of_the_matrix_it_was_taken_from() -> None:
    calibration = load_script("method_calibration")
    grid = drawn(6, between=0.5)
    found, (truth, skewness) = against_zero(grid), calibration.World.of(grid).truth()
    assert [truth.questions, *truth.of_seeds, *truth.rest] == pytest.approx(
        [found.components.questions, *found.components.of_seeds, *found.components.rest]
    )
    assert skewness == pytest.approx(stats.skew(grid.mean(axis=0)), abs=0.25)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_rates_quickly(paired: bool, share: float) -> None:
    calibration = load_script("method_calibration")
    truth = calibration.normal_truth(3, 80, paired, 0.5, share)
    found = calibration.rates(calibration.normal_tests(truth, 8000, np.random.default_rng(0)), truth)
    assert found["no change"] <= 0.06
    assert found["loss = margin"] <= 0.06
    assert found["power"] == pytest.approx(0.80, abs=0.03)
    if share == 0.9:
        assert found["questions only"] > 0.2
        assert found["bootstrap's"] > 0.065


@pytest.mark.slow
def test_rates_over_20_000_repeats_of_every_world() -> None:
    calibration = load_script("method_calibration")
    worst = calibration.summary(list(calibration.normal_worlds(20_000).values()))["worst world"]
    assert worst["no change"] <= 0.06
    assert worst["loss = margin"] <= 0.06
    assert worst["power"] == pytest.approx(0.80, abs=0.03)


@pytest.mark.slow
def test_rates_of_the_length_controlled_difference() -> None:
    """Both sides alike but for questions, seeds and chance: the whole road with regressions (their sandwich formula),
    1,500 times.
    """
    p_values = []
    for repeat in range(1500):
        rng = np.random.default_rng(repeat)
        seeds = rng.normal(0, 0.15, 6)
        arms = [[_redrawn(rng, repeat, seeds[3 * side + seed]) for seed in range(3)] for side in range(2)]
        p_values.append(lc_method_difference(*arms, paired=True, resamples=0).p_regressed())
    assert np.mean(np.array(p_values) < 0.05) <= 0.06 + 0.012
    assert np.mean(np.array(p_values) > 0.95) <= 0.06 + 0.012


def _redrawn(rng: np.random.Generator, questions: int, level: float) -> Comparisons:
    found = simulated_comparisons(int(rng.integers(2**31)), n=80, level=level)
    difficulty = np.random.default_rng([questions, 1]).normal(0, 1, 80)
    logit = difficulty + level - 0.3 * np.tanh(found.length_difference / 200) + rng.normal(0, 1, 80)
    return dataclasses.replace(found, wins=1 / (1 + np.exp(-logit)))
