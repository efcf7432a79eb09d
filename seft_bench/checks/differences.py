"""What is tested: a pair's primary metric as a paired difference, and where the difference lies (categories, questions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seft_bench.checks.arms import Pair
from seft_bench.config import SuiteConfig
from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.suites import Suite, load_suite, open_suite

if TYPE_CHECKING:
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
        metric: "lc_win_rate", "win_rate" or "score". candidate, baseline: its value on the questions that both have.
        by_question: question id -> candidate - baseline, in the metric's units; of LC in points of the plain win probability, as a regression's
            figure has no share of a single question.
    """

    pair: Pair
    metric: str
    candidate: float
    baseline: float
    difference: Difference
    by_question: Mapping[str, float]

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
    """The primary metric of the suite: LC (else the win rate) of pairwise suites, the mean score of graded ones."""
    from seft_bench.stats.length_control import length_controlled
    from seft_bench.stats.paired import lc_difference, mean_difference

    questions = pair.questions
    if len(questions) < 2:
        raise InputError(f"{pair.name}: a check needs at least two questions that both sides have a figure of, there are {len(questions)}")
    scale = 1.0 if _is_graded(pair.candidate) else 100.0
    sides = [[scale * result.per_question[question] for question in questions] for result in (pair.candidate, pair.baseline)]
    by_question = {question: one - other for question, one, other in zip(questions, *sides, strict=True)}
    arms = None if _is_graded(pair.candidate) else [_comparisons(suite, result, questions) for result in (pair.candidate, pair.baseline)]
    if arms is not None and arms[0] is not None and arms[1] is not None:
        c = _common_c(pair)
        metric, difference = "lc_win_rate", lc_difference(arms[0], arms[1], c=c)
        figures = [length_controlled(arm, c).win_rate for arm in arms if arm is not None]
    else:
        metric, difference = ("score" if arms is None else "win_rate"), mean_difference(*sides)
        figures = [sum(side) / len(side) for side in sides]
    return Measured(pair, metric, figures[0], figures[1], difference, by_question)


def _is_graded(result: Result) -> bool:
    return "score" in result.metrics


def _comparisons(suite: Any, result: Result, questions: Sequence[str]) -> Comparisons | None:
    """What LC is fitted on; None where the suite or the result has none."""
    if result.metrics.get("lc_win_rate") is None or not result.covariates:
        return None
    found: Comparisons = suite.comparisons_of(result, questions)
    return found


def _common_c(pair: Pair) -> float:
    """The C of both fits, or the declared one where they differ (each chosen by cross-validation)."""
    from seft_bench.stats.length_control import DECLARED_C

    chosen = {float(result.metrics.get("lc_c") or DECLARED_C) for result in (pair.candidate, pair.baseline)}
    return chosen.pop() if len(chosen) == 1 else DECLARED_C


def by_category(measured: Measured, categories: Mapping[str, str]) -> list[CategoryDifference]:
    """Differences by category, the worst first; nothing where the suite has fewer than two categories."""
    from seft_bench.stats.paired import mean_difference

    groups: dict[str, list[float]] = {}
    for question, value in measured.by_question.items():
        groups.setdefault(categories.get(question, ""), []).append(value)
    if len(groups) < 2:
        return []
    rows = [
        CategoryDifference(
            name or "(none)", len(values), sum(values) / len(values), mean_difference(values, [0.0] * len(values)).standard_error if len(values) > 1 else None
        )
        for name, values in groups.items()
    ]
    return sorted(rows, key=lambda row: (row.delta, row.category))


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
