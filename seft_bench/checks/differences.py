"""The tested quantity: the primary metric of two models or methods as a paired difference.

With where it lies: by category and by question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from seft_bench.checks.arms import Pair
from seft_bench.checks.methods import MethodPair
from seft_bench.config import SuiteConfig
from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.stats.seeds import grid
from seft_bench.suites import Suite, load_suite, open_suite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from seft_bench.stats.length_control import Comparisons
    from seft_bench.stats.paired import Difference

MARGINS = {"lc_win_rate": 3.0, "win_rate": 3.0, "score": 0.5}
"""Metric -> the largest loss that does not matter: points of a win rate, points of a grade."""

TITLES = {"lc_win_rate": "LC win rate", "win_rate": "win rate", "score": "score"}
SHOWN_QUESTIONS = 10


@dataclass(frozen=True)
class Measured:
    """One pair's primary metric on both sides.

    Attributes:
        metric: "lc_win_rate", "win_rate" or "score".
        candidate, baseline: its value on the questions that both have.
        by_question: question id -> candidate - baseline, in the metric's units; of LC in points of the plain win
            probability, as a regression's figure has no share of a single question.
        error_of: standard error of the mean difference of some questions, at least two.
    """

    pair: Pair | MethodPair
    metric: str
    candidate: float
    baseline: float
    difference: Difference
    by_question: Mapping[str, float]
    error_of: Callable[[Sequence[str]], float]

    @property
    def name(self) -> str:
        return f"{self.pair.name}: {TITLES[self.metric]}"


@dataclass(frozen=True)
class CategoryDifference:
    """Mean difference of one category's questions; `standard_error` is None for a single question."""

    category: str
    n: int
    delta: float
    standard_error: float | None


def measure(pair: Pair, suite: Suite) -> Measured:
    """Measure the suite's primary metric: LC (else the win rate) of pairwise suites, the mean score of graded ones."""
    from seft_bench.stats.length_control import length_controlled
    from seft_bench.stats.paired import lc_difference, mean_difference

    questions = pair.questions
    if len(questions) < 2:
        raise InputError(
            f"{pair.name}: a check needs at least two questions that both sides have a figure of, there are "
            f"{len(questions)}"
        )
    scale = scale_of(pair.candidate)
    sides = [
        [scale * result.per_question[question] for question in questions] for result in (pair.candidate, pair.baseline)
    ]
    by_question = {question: one - other for question, one, other in zip(questions, *sides, strict=True)}
    arms = comparisons(suite, pair.results, questions)
    if arms is None:
        metric, difference = plain_metric(pair.candidate), mean_difference(*sides)
        figures = [sum(side) / len(side) for side in sides]
    else:
        c = common_c(pair.results)
        metric, difference = "lc_win_rate", lc_difference(*arms, c=c)
        figures = [length_controlled(arm, c).win_rate for arm in arms]

    def error_of(some: Sequence[str]) -> float:
        return mean_difference([by_question[question] for question in some], [0.0] * len(some)).standard_error

    return Measured(pair, metric, figures[0], figures[1], difference, by_question, error_of)


def measure_methods(pair: MethodPair, suite: Suite) -> Measured:
    """Measure the primary metric of two methods over questions and training seeds, chosen as `measure` does.

    Each figure is the mean over its side's seeds.

    Raises:
        InputError: fewer than two questions in common.
    """
    from seft_bench.stats.components import components_of
    from seft_bench.stats.crossed import lc_method_difference, method_difference
    from seft_bench.stats.length_control import length_controlled

    questions, paired = pair.questions, pair.is_paired
    if len(questions) < 2:
        raise InputError(
            f"{pair.name}: a check needs at least two questions that every seed of both sides has a figure of, there "
            f"are {len(questions)}"
        )
    candidate, baseline = _grids(pair, questions)
    by_question = dict(zip(questions, (candidate.mean(axis=0) - baseline.mean(axis=0)).tolist(), strict=True))
    found = comparisons(suite, pair.results, questions)
    if found is None:
        metric, difference = plain_metric(pair.results[0]), method_difference(candidate, baseline, paired=paired)
        figures = [float(side.mean()) for side in (candidate, baseline)]
    else:
        arms = found[: len(candidate)], found[len(candidate) :]
        metric, difference = "lc_win_rate", lc_method_difference(*arms, paired=paired, c=common_c(pair.results))
        figures = [fmean(length_controlled(data, common_c(pair.results)).win_rate for data in arm) for arm in arms]

    def error_of(some: Sequence[str]) -> float:
        return math.sqrt(components_of(*_grids(pair, some), paired=paired).variance)

    return Measured(pair, metric, figures[0], figures[1], difference, by_question, error_of)


def _grids(pair: MethodPair, questions: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Figures of both sides, each of shape (seeds, questions), in the metric's unit without length control."""
    scale = scale_of(pair.results[0])
    first, second = (
        grid([result.per_question for result in side.values()], questions, scale)
        for side in (pair.candidate, pair.baseline)
    )
    return first, second


def plain_metric(result: Result) -> str:
    """The main metric where lengths are not controlled."""
    return "score" if "score" in result.metrics else "win_rate"


def scale_of(result: Result) -> float:
    """Turns `Result.per_question` into the metric's unit."""
    return 1.0 if plain_metric(result) == "score" else 100.0


def comparisons(suite: Suite, results: Sequence[Result], questions: Sequence[str]) -> list[Comparisons] | None:
    """Return what LC is fitted on, of each result; None where the suite or a result has none."""
    if any(result.metrics.get("lc_win_rate") is None or not result.covariates for result in results):
        return None
    found = [suite.comparisons_of(result, questions) for result in results]
    there = [arm for arm in found if arm is not None]
    return there if len(there) == len(results) else None


def common_c(results: Sequence[Result]) -> float:
    """The C of all fits, or the declared one where they differ (each chosen by cross-validation)."""
    from seft_bench.stats.length_control import DECLARED_C

    chosen = {float(result.metrics.get("lc_c") or DECLARED_C) for result in results}
    return chosen.pop() if len(chosen) == 1 else DECLARED_C


def by_category(measured: Measured, categories: Mapping[str, str]) -> list[CategoryDifference]:
    """Differences by category, the worst first; nothing where the suite has fewer than two categories."""
    groups: dict[str, list[str]] = {}
    for question in measured.by_question:
        groups.setdefault(categories.get(question, ""), []).append(question)
    if len(groups) < 2:
        return []
    rows = [_category(name or "(none)", questions, measured) for name, questions in groups.items()]
    return sorted(rows, key=lambda row: (row.delta, row.category))


def _category(name: str, questions: Sequence[str], measured: Measured) -> CategoryDifference:
    delta = sum(measured.by_question[question] for question in questions) / len(questions)
    return CategoryDifference(name, len(questions), delta, measured.error_of(questions) if len(questions) > 1 else None)


def extremes(measured: Measured, count: int = SHOWN_QUESTIONS) -> tuple[list[str], list[str]]:
    """Ids of the questions where the candidate lost most, and of those where it won most; equal ones are in neither."""
    ordered = sorted(measured.by_question, key=lambda question: (measured.by_question[question], question))
    worst = [question for question in ordered[:count] if measured.by_question[question] < 0]
    best = [question for question in ordered[::-1][:count] if measured.by_question[question] > 0]
    return worst, best


def suite_of(result: Result, named: Mapping[str, Suite]) -> Suite:
    """The suite that the user named, else the one of the result's manifest, else a shipped one.

    Raises:
        InputError: own question sets lie where only the user knows.
    """
    if result.suite in named:
        return named[result.suite]
    recorded = ((result.manifest or {}).get("config") or {}).get("suite")
    if not isinstance(recorded, dict):
        return load_suite(result.suite)
    if recorded.get("source") == "files":
        raise InputError(f"{result.suite} has questions of your own: name its YAML file, `--suite FILE.yaml`")
    return open_suite(SuiteConfig.model_validate(recorded))
