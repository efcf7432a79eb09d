"""Error rates and power of `seft-bench check`, on redrawn real differences of every pair of real models.

    python benchmarks/check_calibration.py [--data FOLDER] [--repeats 20000] [--lc-repeats 1400]
                                           [--suite mtbench|alpacaeval]

MT-Bench: the 80 paired differences of two models are centred, shifted by the loss of each world, and 80 of them drawn
with replacement. AlpacaEval: questions are drawn with replacement, and in each the two models' answers change sides
with probability s; both length-controlled regressions are fitted again and tested with the sandwich formula. s = 1/2 is
no change at all; for a loss, s is solved by weighted fits such that the population's LC difference is exactly that loss
(pairs that lie closer together than it cannot show it).

    no change      share of REGRESSED, at a level of 5 %  (goal: 0.06 or less)
    loss = margin  share of PASS, at a level of 5 %  (goal: 0.06 or less)
    power          share of REGRESSED at the loss that the printed formula says is found with 80 %
                   (goal: 0.77 to 0.83)
    saved          share of the questions that a sequential check does not judge where one model is clearly better:
                   1.25 points of a grade, or the pair's own LC difference where it is 10 points or more
                   (goal: 0.30 or more)

Each is given for the check that judges everything and for the sequential one, over all pairs in both directions
("all"), and for the worst pair. The worst pair of a table with few repeats is bad luck in part: its standard error is
the last column. `--repeats` counts for each pair.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr

from seft_bench.errors import InputError
from seft_bench.stats.lc_regression import GAMED_WEIGHT, Comparisons, Problems, evaluate, length_feature, sigmoid, solve
from seft_bench.stats.length_control import DECLARED_C, length_controlled
from seft_bench.stats.paired import ALPHA, Difference, hall, minimal_effect
from seft_bench.stats.sequential import levels_for, look_sizes

MODELS = (
    "NullModel",
    "gpt-3.5-turbo-1106_verbose",
    "gpt-3.5-turbo-1106_concise",
    "gemma-2b-it",
    "FuseChat-Gemma-2-9B-Instruct",
    "phi-2",
)
LC_MARGIN, CLEAR_LC, CLEAR_SCORE = 3.0, 10.0, 1.25
_BATCH = 200

Row = dict[str, float]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the shared real material (with data/ in it); default SEFT_BENCH_SHARED, else ../shared",
    )
    parser.add_argument("--repeats", type=int, default=20000, help="simulated checks of each MT-Bench pair and world")
    parser.add_argument(
        "--lc-repeats", type=int, default=1400, help="of each AlpacaEval pair and world; 15 pairs make 20,000"
    )
    parser.add_argument("--suite", choices=["mtbench", "alpacaeval"], action="append", help="only this one")
    options = parser.parse_args(arguments)
    try:
        if min(options.repeats, options.lc_repeats) < 100:
            raise InputError("--repeats and --lc-repeats are at least 100")
        folder = material(options.data)
        os.environ["SEFT_BENCH_DATA_DIR"] = str(folder / "official")
        for suite in options.suite or ["mtbench", "alpacaeval"]:
            rows = mtbench(folder, options.repeats) if suite == "mtbench" else alpacaeval(folder, options.lc_repeats)
            print_table(suite, rows, options.repeats if suite == "mtbench" else options.lc_repeats)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def material(folder: Path | None) -> Path:
    """The `data` folder of the shared material.

    Raises:
        InputError: a file that the benchmark reads is not there.
    """
    root = folder or Path(os.environ.get("SEFT_BENCH_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    needed = [
        root / "data" / "mt_bench" / "judgments_single.jsonl.gz",
        *(root / "data" / "alpaca_eval" / "annotations" / f"{name}.jsonl.gz" for name in MODELS),
    ]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise InputError(
            f"the real judgments are not in {root}: {missing[0]} is missing. Name the folder with --data or "
            "SEFT_BENCH_SHARED."
        )
    return root / "data"


def rows_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# MT-Bench


def grades(folder: Path) -> dict[str, np.ndarray]:
    """Map model (and run, if judged twice) -> mean grade of each of the 80 questions.

    Models under 98 % coverage are left out.
    """
    arms: dict[str, dict[tuple[int, int], float]] = {}
    for row in rows_of(folder / "mt_bench" / "judgments_single.jsonl.gz"):
        if row["score"] != -1:
            arms.setdefault(f"{row['model']}/{row.get('run', 0)}", {})[row["question_id"], row["turn"]] = float(
                row["score"]
            )
    whole = {name: scores for name, scores in arms.items() if len(scores) >= 0.98 * 160}
    return {
        name: np.array([np.mean([s[q, t] for t in (1, 2) if (q, t) in s]) for q in range(81, 161)])
        for name, s in whole.items()
    }


def mtbench(folder: Path, repeats: int) -> dict[str, Row]:
    """Pair -> its rates; both directions are pairs of their own."""
    models, generator = grades(folder), np.random.default_rng(0)
    return {
        f"{one} - {other}": calibrate_mean(models[one] - models[other], repeats, generator)
        for one, other in itertools.permutations(models, 2)
    }


def calibrate_mean(differences: np.ndarray, repeats: int, generator: np.random.Generator) -> Row:
    """Rates of checks on redrawn questions, the differences' mean being what each world says."""
    n = differences.size
    centred = differences - differences.mean()
    deviation = float(centred.std())
    skewness = float((centred**3).mean()) / deviation**3
    loss = minimal_effect(Difference(0.0, deviation / math.sqrt(n), n, skewness, ""))
    drawn = centred[generator.integers(0, n, (repeats, n))]
    sizes = look_sizes(n)
    tests = {size: _mean_tests(drawn[:, :size]) for size in sizes}

    def below(size: int, shift: float) -> np.ndarray:
        mean, error, skew = tests[size]
        return p_below((mean - shift) / error, skew, size)

    def above(size: int) -> np.ndarray:  # a loss of the margin moves Delta + margin to the differences' own mean
        mean, error, skew = tests[size]
        return p_below(-mean / error, -skew, size)

    levels = dict(zip(sizes, levels_for(sizes, ALPHA), strict=True))
    found = rates("no_change", [below(size, 0.0) for size in sizes], levels)
    found |= rates("margin", [above(size) for size in sizes], levels)
    found |= rates("power", [below(size, loss) for size in sizes], levels)
    return found | {"saved": saved([below(size, CLEAR_SCORE) for size in sizes], levels), "skewness": skewness}


def _mean_tests(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = values.mean(axis=1)
    centred = values - mean[:, None]
    variance = np.einsum("ij,ij->i", centred, centred) / values.shape[1]
    skew = np.einsum("ij,ij,ij->i", centred, centred, centred) / values.shape[1] / variance**1.5
    return mean, np.sqrt(variance / (values.shape[1] - 1)), skew


def p_below(t: np.ndarray, skewness: np.ndarray, n: int) -> np.ndarray:
    """`Difference`'s p-value of many samples at once."""
    return np.asarray(stdtr(n - 1, np.maximum(t, hall(t, skewness, n))))  # type: ignore[arg-type]


def rates(world: str, p_values: Sequence[np.ndarray], levels: Mapping[int, float]) -> Row:
    """Share of rejections at the last look alone, and at any look of the sequential check."""
    ever = np.any([p < level for p, level in zip(p_values, levels.values(), strict=True)], axis=0)
    return {f"{world}": float((p_values[-1] < ALPHA).mean()), f"{world}_sequential": float(ever.mean())}


def saved(p_values: Sequence[np.ndarray], levels: Mapping[int, float]) -> float:
    """Mean share of the questions that are not judged."""
    sizes = list(levels)
    stopped = np.full(len(p_values[0]), sizes[-1])
    for p, size in reversed(list(zip(p_values, sizes, strict=True))):
        stopped = np.where(p < levels[size], size, stopped)
    return 1.0 - float(stopped.mean()) / sizes[-1]


# AlpacaEval


def alpacaeval(folder: Path, repeats: int) -> dict[str, Row]:
    """Pair -> its rates; no change is counted in both directions at once."""
    arms, generator = {name: annotations(folder, name) for name in MODELS}, np.random.default_rng(1)
    return {
        f"{one} - {other}": calibrate_lc(Mixed.of(arms[one], arms[other]), repeats, generator)
        for one, other in itertools.combinations(arms, 2)
    }


def annotations(folder: Path, model: str) -> dict[int, tuple[float, float]]:
    """Question -> (win probability, length difference)."""
    from seft_bench.stats.alpacaeval import win_probabilities

    rows = rows_of(folder / "alpaca_eval" / "annotations" / f"{model}.jsonl.gz")
    wins = win_probabilities([row["preference"] for row in rows])
    return {row["index"]: (float(win), float(row["len_1"] - row["len_2"])) for row, win in zip(rows, wins, strict=True)}


class Mixed:
    """Two models whose answers may change sides: rows 0..n-1 are the first model's, n..2n-1 the second's.

    The worse model (by LC) comes first, so that the candidate loses where nobody changes sides.
    """

    def __init__(self, first: Comparisons, second: Comparisons) -> None:
        self.n = first.wins.size
        joined = [
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("wins", "length_difference", "difficulty")
        ]
        self.data = Comparisons(*joined, first.gamed)

    @classmethod
    def of(cls, one: dict[int, tuple[float, float]], other: dict[int, tuple[float, float]]) -> Mixed:
        from seft_bench.data.official import gamed_data, instruction_difficulties
        from seft_bench.stats.lc_regression import GamedRows

        questions, difficulties, rows = sorted(set(one) & set(other)), instruction_difficulties(), gamed_data()
        difficulty = np.array([difficulties[question] for question in questions])
        gamed = GamedRows(np.tanh(rows.std_length_difference), np.array(rows.difficulty), np.array(rows.preference))
        arms = [
            Comparisons(*np.array([arm[question] for question in questions]).T, difficulty, gamed)
            for arm in (one, other)
        ]
        return cls(*sorted(arms, key=lambda arm: length_controlled(arm).win_rate))

    def counts(self, units: np.ndarray, swapped: np.ndarray) -> np.ndarray:
        """Count each row of the candidate, shape (repeats, 2n); the baseline's are the same with halves changed."""
        rows = units + self.n * swapped + 2 * self.n * np.arange(len(units))[:, None]
        return np.bincount(rows.ravel(), minlength=2 * self.n * len(units)).reshape(len(units), -1).astype(np.float64)

    def population(self, swap: float) -> tuple[float, float, float]:
        """Return LC difference, standard error and skewness of all n questions that change sides with `swap`."""
        counts = np.repeat([1.0 - swap, swap], self.n)[None, :]
        delta, error, skew = self.tested(counts, size=self.n)
        return float(delta[0]), float(error[0]) * math.sqrt((self.n - 1) / self.n), float(skew[0])

    def swap_for(self, loss: float) -> float:
        """Return the probability of changing sides at which the population's LC difference is -loss."""
        return float(brentq(lambda swap: self.population(swap)[0] + loss, 0.0, 0.5, xtol=1e-6))

    def tested(self, counts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Delta, sandwich standard error and skewness of each row of counts, as `lc_difference` does."""
        value, influence = influences(self.data, counts)
        other, of_baseline = influences(self.data, np.roll(counts, self.n, axis=1))
        together = influence - np.roll(of_baseline, self.n, axis=1)
        square = (counts * together**2).sum(axis=1)
        skew = (counts * together**3).sum(axis=1) / size / (square / size) ** 1.5
        return value - other, np.sqrt(square * size / (size - 1)), skew


def influences(data: Comparisons, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit LC as `length_control.length_controlled` does, for many sets of counts.

    Returns:
        LC, shape (repeats,), and the influence of each row's count, shape (repeats, rows).
    """
    length = length_feature(data.length_difference, counts)
    weights, hessian = _fitted(data, length, counts)
    difficulty, difference = data.difficulty, data.length_difference
    total = counts.sum(axis=1, keepdims=True)
    level = sigmoid(weights[:, 1:2] * difficulty + weights[:, 2:])
    predicted = sigmoid(weights[:, :1] * length + weights[:, 1:2] * difficulty + weights[:, 2:])
    residual, curvature = data.wins - predicted, predicted * (1.0 - predicted)
    mean = (counts * difference).sum(axis=1, keepdims=True) / total
    squares = (difference - mean) ** 2
    variance = (counts * squares).sum(axis=1, keepdims=True) / (total - 1.0)
    deviation = np.sqrt(variance)
    slope = -(difference / variance) * (1.0 - length**2)
    along = counts * curvature * weights[:, :1] * slope
    effect = np.stack(
        [(counts * residual * slope - along * length).sum(axis=1), -(along @ difficulty), -along.sum(axis=1)], axis=1
    )
    change = (squares - (counts * squares).sum(axis=1, keepdims=True) / total) / (2.0 * deviation * (total - 1.0))
    steep = counts * level * (1.0 - level)
    direction = np.stack(
        [np.zeros(len(counts)), (steep @ difficulty) / total[:, 0], steep.sum(axis=1) / total[:, 0]], axis=1
    )
    active = weights != 0.0  # a coefficient at 0 stays there
    hessian = np.where(active[:, :, None] & active[:, None, :], hessian, np.eye(3))
    direction = np.where(active, direction, 0.0)
    pulled = np.linalg.solve(hessian, direction[..., None])[..., 0]  # H^-1 is symmetric: one solve for all rows
    scores = residual * (pulled[:, :1] * length + pulled[:, 1:2] * difficulty + pulled[:, 2:])
    through = (
        scores
        - (counts * scores).sum(axis=1, keepdims=True) / total
        + change * (effect * pulled).sum(axis=1, keepdims=True)
    )
    value = (counts * level).sum(axis=1) / total[:, 0]
    return 100.0 * value, 100.0 * ((level - value[:, None]) / total + through)


def _fitted(data: Comparisons, length: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and Hessians of every set of counts, by quick Newton steps.

    Where a sign changes on the way, the package's own solver is used.
    """

    def problems(chosen: Any) -> Problems:
        return Problems(data, length[chosen], counts[chosen], np.ones((1, data.gamed.preference.size)), DECLARED_C)

    mean = counts.mean(axis=0, keepdims=True)
    start = solve(
        Problems(
            data,
            length_feature(data.length_difference, mean),
            mean,
            np.ones((1, data.gamed.preference.size)),
            DECLARED_C,
        )
    )[0]
    weights, hessian = _newton(data, length, counts, start)
    changed = (
        (np.sign(weights) != np.sign(start)).any(axis=1) | ~np.isfinite(weights).all(axis=1) | (start == 0.0).any()
    )
    if changed.any():
        weights[changed] = solve(problems(changed))
        hessian[changed] = evaluate(problems(changed), weights[changed], 0.0).hessian
    return weights, hessian


def _newton(
    data: Comparisons, length: np.ndarray, counts: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Newton steps with the start's signs, which is exact where they stay so."""
    weights, penalty = np.tile(start, (len(counts), 1)), np.sign(start) / DECLARED_C
    gamed = np.stack([data.gamed.tanh_length, data.gamed.difficulty], axis=1)
    products = np.stack([gamed[:, 0] ** 2, gamed[:, 0] * gamed[:, 1], gamed[:, 1] ** 2], axis=1)
    own = np.stack([data.difficulty, np.ones(data.wins.size)], axis=1)
    squares = np.stack([data.difficulty**2, data.difficulty, np.ones(data.wins.size)], axis=1)
    for _ in range(30):
        predicted = sigmoid(weights[:, :1] * length + weights[:, 1:2] * data.difficulty + weights[:, 2:])
        pull, curvature = counts * (predicted - data.wins), counts * predicted * (1.0 - predicted)
        extra = sigmoid(weights[:, :2] @ gamed.T)
        gradient = np.column_stack([(pull * length).sum(axis=1), pull @ own]) + penalty
        gradient[:, :2] += GAMED_WEIGHT * ((extra - data.gamed.preference) @ gamed)
        by_length = curvature * length
        a, (b, c), d = (by_length * length).sum(axis=1), (by_length @ own).T, curvature @ squares
        e = GAMED_WEIGHT * ((extra * (1.0 - extra)) @ products)
        entries = [a + e[:, 0], b + e[:, 1], c, b + e[:, 1], d[:, 0] + e[:, 2], d[:, 1], c, d[:, 1], d[:, 2]]
        hessian = np.stack(entries, axis=1).reshape(-1, 3, 3)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        weights = weights - step
        if float(np.abs(step).max()) < 1e-7:
            break
    return weights, hessian


def calibrate_lc(mixed: Mixed, repeats: int, generator: np.random.Generator) -> Row:
    """Return rates of checks whose candidate is worse by nothing, by the margin, and by the promised loss.

    The last is the smallest loss that the formula promises to find.
    """
    sizes = look_sizes(mixed.n)
    levels = dict(zip(sizes, levels_for(sizes, ALPHA), strict=True))
    apart = -mixed.population(0.0)[0]
    none = _simulated(mixed, 0.5, sizes, repeats, generator)
    found = rates("no_change", [p_below(d / e, g, n) for n, (d, e, g) in none.items()], levels)
    mirrored = rates("no_change", [p_below(-d / e, -g, n) for n, (d, e, g) in none.items()], levels)
    found = {name: (value + mirrored[name]) / 2 for name, value in found.items()}
    if apart > LC_MARGIN:
        drawn = _simulated(mixed, mixed.swap_for(LC_MARGIN), sizes, repeats, generator)
        found |= rates("margin", [p_below(-(d + LC_MARGIN) / e, -g, n) for n, (d, e, g) in drawn.items()], levels)
    if apart > _promised(mixed, 0.0):
        drawn = _simulated(mixed, _swap_for_the_promised_loss(mixed), sizes, repeats, generator)
        found |= rates("power", [p_below(d / e, g, n) for n, (d, e, g) in drawn.items()], levels)
    if apart >= CLEAR_LC:
        drawn = _simulated(mixed, 0.0, sizes, max(100, repeats // 10), generator)
        found["saved"] = saved([p_below(d / e, g, n) for n, (d, e, g) in drawn.items()], levels)
    return found | {"apart": apart, "skewness": mixed.population(0.0)[2]}


def _swap_for_the_promised_loss(mixed: Mixed) -> float:
    """By iteration, not by one root: where a coefficient is exactly 0 the sandwich formula of the population jumps."""
    swap = 0.5
    for _ in range(5):
        swap = mixed.swap_for(_promised(mixed, swap))
    return swap


def _promised(mixed: Mixed, swap: float) -> float:
    delta, error, skewness = mixed.population(swap)
    return minimal_effect(Difference(delta, error, mixed.n, skewness, ""))


def _simulated(
    mixed: Mixed, swap: float, sizes: Sequence[int], repeats: int, generator: np.random.Generator
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Look -> (Delta, standard error, skewness) of every repeat."""
    found: dict[int, list[tuple[np.ndarray, ...]]] = {size: [] for size in sizes}
    for first in range(0, repeats, _BATCH):
        batch = min(_BATCH, repeats - first)
        units = generator.integers(0, mixed.n, (batch, mixed.n))
        swapped = generator.random((batch, mixed.n)) < swap
        for size in sizes:
            found[size].append(mixed.tested(mixed.counts(units[:, :size], swapped[:, :size]), size))
    return {size: tuple(np.concatenate(column) for column in zip(*parts, strict=True)) for size, parts in found.items()}  # type: ignore[misc]


# The table


COLUMNS = ("no_change", "margin", "power", "no_change_sequential", "margin_sequential", "power_sequential", "saved")


def summary(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return the mean over the pairs that have a figure, and the worst of them.

    The worst is the largest error, the power furthest from 0.80, the least saved.
    """
    values = {column: [row[column] for row in rows.values() if column in row] for column in COLUMNS}
    worst = {
        column: max(found, key=lambda value: abs(value - 0.8))
        if "power" in column
        else min(found)
        if column == "saved"
        else max(found)
        for column, found in values.items()
        if found
    }
    return {"all": {column: float(np.mean(found)) for column, found in values.items() if found}, "worst pair": worst}


def print_table(suite: str, rows: Mapping[str, Row], repeats: int) -> None:
    print(
        f"{suite}: {len(rows)} pairs, {repeats:,} repeats each; standard error of one pair's 0.05: "
        f"{math.sqrt(0.05 * 0.95 / repeats):.4f}"
    )
    print(f"{'':62}" + "".join(f"{name.replace('_sequential', ', seq.').replace('_', ' '):>16}" for name in COLUMNS))
    for pair, row in [*sorted(rows.items()), *summary(rows).items()]:
        print(f"{pair:62}" + "".join(f"{row[name]:16.4f}" if name in row else f"{'-':>16}" for name in COLUMNS))


if __name__ == "__main__":
    main()
