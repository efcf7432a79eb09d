"""Error rates and power of `seft-bench check` of two methods, in simulated matrices of questions x training seeds.

    python benchmarks/method_calibration.py [--repeats 20000] [--results FOLDER]

Without --results: worlds with normal effects, over a grid of what decides the test: seeds an arm (3, 5), questions (80,
805), paired seeds or independent ones, variance of the questions' own differences (as a multiple of the rest's), and
the share of the whole variance that lies between seeds. With --results: the folder of a matrix with three seeds or more
(`seft-bench bench MATRIX`). Each two of its methods, in each suite and decoding, give a world: their questions' mean
differences and the rest are redrawn as they are, skewed and unequal, seeds are normal with the variance found there.

    no change       share of REGRESSED, at a level of 5 %  (goal: 0.06 or less)
    loss = margin   share of PASS, at a level of 5 %  (goal: 0.06 or less)
    power           share of REGRESSED at the loss that the check promises to find with 80 %, for components known
                    exactly
    bootstrap's     share of REGRESSED without a change by the standard error of the question x seed bootstrap and a
                    normal quantile
    questions only  the same by the paired t-test over questions, as if the seeds at hand were all there are

The last two are what the check does not do. Standard error of one world's 0.05 at 20,000 repeats: 0.0015.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from scipy.special import stdtr

from seft_bench.errors import InputError, SeftBenchError
from seft_bench.stats.components import Components, components_of, variance_and_degrees
from seft_bench.stats.crossed_power import minimal_effect
from seft_bench.stats.paired import ALPHA, hall

COLUMNS = ("no change", "loss = margin", "power", "bootstrap's", "questions only")
SEEDS, QUESTIONS = (3, 5), (80, 805)
OWN_DIFFERENCES = (0.0, 0.5, 2.0)
"""Variance of the questions' own differences over that of their mean over seeds' rest."""
SHARES = (0.0, 0.1, 0.3, 0.6, 0.9)
_BATCH = 500

Row = dict[str, float]


class Tests(NamedTuple):
    """Many checks: difference, components (arrays, one entry a check) and the questions' skewness."""

    delta: np.ndarray
    components: Components
    skewness: np.ndarray

    def regressed(self, shift: float = 0.0) -> float:
        """Return the share that says REGRESSED where the difference is `shift` lower."""
        return float((self._p_below(self.delta - shift, self.skewness) < ALPHA).mean())

    def passed(self) -> float:
        """Return the share of PASS where the loss is the margin: the difference from it is then the simulated one."""
        return float((self._p_below(-self.delta, -self.skewness) < ALPHA).mean())

    def _p_below(self, delta: np.ndarray, skewness: np.ndarray) -> np.ndarray:
        variance, degrees = variance_and_degrees(self.components, self.components.of_seeds)
        t = delta / np.sqrt(variance)
        part = np.sqrt(self.components.questions / variance) ** 3
        return stdtr(degrees, np.maximum(t, hall(t, skewness * part, self.components.n)))

    def by_bootstrap(self) -> float:
        """Return the share by the bootstrap's error: redrawing seeds and questions adds both parts, the rest twice."""
        return float((self.delta / np.sqrt(self.components.questions + sum(self.components.of_seeds)) < -1.6449).mean())

    def by_questions(self) -> float:
        return float((stdtr(self.components.n - 1, self.delta / np.sqrt(self.components.questions)) < ALPHA).mean())


def rates(tests: Tests, truth: Components, skewness: float = 0.0) -> Row:
    part = math.sqrt(truth.questions / truth.variance) ** 3
    loss = minimal_effect(truth, skewness * part)
    found = (tests.regressed(), tests.passed(), tests.regressed(loss), tests.by_bootstrap(), tests.by_questions())
    return dict(zip(COLUMNS, found, strict=True))


# Normal worlds


def normal_worlds(repeats: int) -> dict[str, Row]:
    generator = np.random.default_rng(0)
    rows = {}
    for k, n, paired, own, share in itertools.product(SEEDS, QUESTIONS, (True, False), OWN_DIFFERENCES, SHARES):
        truth = normal_truth(k, n, paired, own, share)
        name = (
            f"{k} {'paired' if paired else 'independent'} seeds, {n} questions, own differences {own:g}, from seeds "
            f"{share:.0%}"
        )
        rows[name] = rates(normal_tests(truth, repeats, generator), truth)
    return rows


def normal_truth(k: int, n: int, paired: bool, own: float, share: float) -> Components:
    """Return the components of a world in which the mean over seeds of the rest has variance 1 / n."""
    draws = 1 if paired else 2
    rest = (1.0 / n / draws,) * draws
    questions = (own + 1.0) / n
    from_seeds = share / (1.0 - share) * questions
    return Components(n, (k,) * draws, questions, tuple(value + from_seeds / draws for value in rest), rest)


def normal_tests(truth: Components, repeats: int, generator: np.random.Generator) -> Tests:
    """Draw tests of normal effects.

    Their mean squares are independent of each other and of the mean, and chi^2 by their degrees of freedom.
    """

    def drawn(value: float, degrees: int) -> np.ndarray:
        return value * generator.chisquare(degrees, repeats) / degrees

    found = replace(
        truth,
        questions=drawn(truth.questions, truth.n - 1),
        of_seeds=tuple(drawn(value, k - 1) for value, k in zip(truth.of_seeds, truth.seeds, strict=True)),
        rest=tuple(drawn(value, (k - 1) * (truth.n - 1)) for value, k in zip(truth.rest, truth.seeds, strict=True)),
    )
    return Tests(generator.normal(0.0, math.sqrt(truth.variance), repeats), found, np.zeros(repeats))


# Worlds out of a matrix's results


class World(NamedTuple):
    """Differences of two methods of shape (seeds, questions), taken apart.

    These are each question's own difference, the seeds' variance, and the rest.
    """

    own: np.ndarray
    seed_deviation: float
    rest: np.ndarray

    @classmethod
    def of(cls, differences: np.ndarray) -> World:
        k, n = differences.shape
        found = components_of(differences, np.zeros_like(differences), paired=True)
        by_question = differences.mean(axis=0) - differences.mean()
        rest = differences - differences.mean(axis=0) - differences.mean(axis=1, keepdims=True) + differences.mean()
        own = max(found.questions - found.rest[0], 0.0) * n  # what is left of the questions' variance without the rest
        scale = math.sqrt(own / float(by_question.var())) if own else 0.0
        spread = math.sqrt(found.rest[0] * n * k / float((rest**2).mean())) if found.rest[0] else 0.0
        return cls(by_question * scale, math.sqrt(found.from_seeds * k), rest * spread)

    def truth(self) -> tuple[Components, float]:
        """Return the components of this population, and the skewness of its questions' mean differences."""
        k, n = self.rest.shape
        rest, own = float((self.rest**2).mean()) / (n * k), float((self.own**2).mean()) / n
        third = float((self.own**3).mean()) + float((self.rest**3).mean()) / k**2
        third += 3.0 * float((self.own * (self.rest**2).mean(axis=0)).mean()) / k
        deviation = math.sqrt((own + rest) * n)
        skewness = third / deviation**3 if deviation else 0.0
        return Components(n, (k,), own + rest, (self.seed_deviation**2 / k + rest,), (rest,)), skewness

    def tests(self, repeats: int, generator: np.random.Generator) -> Tests:
        parts = [self._drawn(min(_BATCH, repeats - first), generator) for first in range(0, repeats, _BATCH)]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        k, n = self.rest.shape
        return Tests(columns[0], Components(n, (k,), columns[1], (columns[2],), (columns[3],)), columns[4])

    def _drawn(self, repeats: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Redraw questions with new seeds; return difference, the three mean squares and skewness.

        The formulas are those of `components_of`.
        """
        k, n = self.rest.shape
        chosen = generator.integers(0, n, (repeats, 1, n))
        rest = self.rest[generator.integers(0, k, (repeats, k, n)), chosen]
        grids = self.own[chosen] + generator.normal(0.0, 1.0, (repeats, k, 1)) * self.seed_deviation + rest
        by_question, by_seed = grids.mean(axis=1), grids.mean(axis=2)
        delta = by_question.mean(axis=1)
        left = grids - by_question[:, None, :] - by_seed[:, :, None] + delta[:, None, None]
        residual = (left**2).sum(axis=(1, 2)) / ((k - 1) * (n - 1)) / (n * k)
        centred = by_question - delta[:, None]
        skewness = (centred**3).mean(axis=1) / (centred**2).mean(axis=1) ** 1.5
        return delta, by_question.var(axis=1, ddof=1) / n, by_seed.var(axis=1, ddof=1) / k, residual, skewness


def real_worlds(results: Path, repeats: int) -> dict[str, Row]:
    generator = np.random.default_rng(0)
    rows = {}
    for name, differences in method_differences(results):
        world = World.of(differences)
        truth, skewness = world.truth()
        if truth.variance:
            rows[name] = rates(world.tests(repeats, generator), truth, skewness)
    return rows


def method_differences(results: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and differences by seed and question of each two methods in each suite and decoding.

    Raises:
        InputError: no two methods with three seeds.
    """
    from seft_bench.checks.differences import scale_of
    from seft_bench.checks.methods import find_method_pairs
    from seft_bench.records import run_of
    from seft_bench.report.arms import is_control, is_final
    from seft_bench.results import read_results
    from seft_bench.stats.seeds import grid

    everything = [
        result
        for result in read_results(results)
        if is_final(result) and not is_control(result) and result.per_question
    ]
    methods = list(dict.fromkeys(run_of(result).row for result in everything))
    if len(methods) < 2:
        raise InputError(
            f"{results}/ holds no two methods with figures of every question: run `seft-bench bench MATRIX --seeds "
            "0,1,2` first"
        )
    for one, other in itertools.combinations(methods, 2):
        for pair in find_method_pairs(one, other, everything):
            sides = [
                grid([result.per_question for result in side.values()], pair.questions, scale_of(pair.results[0]))
                for side in (pair.candidate, pair.baseline)
            ]
            if pair.is_paired:
                yield f"{pair.name}: {one} - {other}", sides[0] - sides[1]


# The table


def summary(rows: Sequence[Row]) -> dict[str, Row]:
    """Return the mean over the worlds, and the worst one: the largest error, the power furthest from 0.80."""
    worst = {
        name: (
            max(row[name] for row in rows)
            if name != "power"
            else max((row[name] for row in rows), key=lambda value: abs(value - 0.8))
        )
        for name in COLUMNS
    }
    return {"all": {name: float(np.mean([row[name] for row in rows])) for name in COLUMNS}, "worst world": worst}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20000, help="simulated checks of each world")
    parser.add_argument(
        "--results", type=Path, help="results of a matrix with three seeds or more; its methods give the worlds"
    )
    options = parser.parse_args(arguments)
    try:
        if options.repeats < 100:
            raise InputError("--repeats is at least 100")
        rows = real_worlds(options.results, options.repeats) if options.results else normal_worlds(options.repeats)
    except SeftBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    print(
        f"{len(rows)} worlds, {options.repeats:,} repeats each; standard error of one world's 0.05: "
        f"{math.sqrt(0.05 * 0.95 / options.repeats):.4f}"
    )
    print(f"{'':84}" + "".join(f"{name:>16}" for name in COLUMNS))
    for name, row in [*rows.items(), *summary(list(rows.values())).items()]:
        print(f"{name:84}" + "".join(f"{row[column]:16.4f}" for column in COLUMNS))


if __name__ == "__main__":
    main()
