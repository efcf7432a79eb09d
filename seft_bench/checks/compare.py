"""From the results of two models to a verdict, with where the differences lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.checks.arms import Pair, find_pairs
from seft_bench.checks.comparable import reasons_not_comparable, remarks
from seft_bench.checks.differences import (
    MARGINS,
    CategoryDifference,
    Measured,
    by_category,
    extremes,
    measure,
    measure_methods,
    suite_of,
)
from seft_bench.checks.methods import MethodPair, are_methods, find_method_pairs, titles_of
from seft_bench.errors import InputError, WithheldError
from seft_bench.records import Question
from seft_bench.results import read_results
from seft_bench.suites import Suite, load_suite

if TYPE_CHECKING:
    from seft_bench.stats.paired import Check


@dataclass(frozen=True)
class Compared:
    """One primary metric with its test and where the difference lies.

    Attributes:
        worst, best: ids of the questions with the largest losses and gains.
        questions: id -> question, for their texts.
    """

    measured: Measured
    check: Check
    categories: Sequence[CategoryDifference]
    worst: Sequence[str]
    best: Sequence[str]
    questions: Mapping[str, Question]


@dataclass(frozen=True)
class Report:
    """Outcome of a check, as the command shows it. `candidate` and `baseline` are names; a method's holds its seeds.

    `notes` say how the verdict came about, one sentence each.
    """

    candidate: str
    baseline: str
    verdict: str
    compared: Sequence[Compared]
    notes: Sequence[str] = field(default_factory=tuple)


def check(
    candidate: str,
    baseline: str,
    results: Path,
    *,
    suites: Sequence[str] = (),
    judge: str = "",
    decoding: str = "",
    base: str = "",
    data: str = "",
    margins: Mapping[str, float] | None = None,
) -> Report:
    """Compare two models, or two methods (rows of a matrix), that are evaluated already; nothing is judged.

    Args:
        base, data: of a matrix with several; they choose between methods only.

    Raises:
        InputError: no results, or none in common.
        WithheldError: the two cannot be compared.
    """
    named = {suite.config.name: suite for suite in map(load_suite, suites)}
    everything, pairs = read_results(results), list[Pair | MethodPair]()
    if are_methods(candidate, baseline, everything):
        pairs += find_method_pairs(candidate, baseline, everything, list(named), judge, decoding, base, data)
    elif base or data:
        raise InputError(
            f"--base and --data choose between methods, and {candidate} and {baseline} are no methods of {results}/: "
            "leave them out"
        )
    else:
        pairs += find_pairs(candidate, baseline, everything, results, list(named), judge, decoding)
    refuse_not_comparable(pairs)
    return report_of(pairs, margins or {}, named)


def refuse_not_comparable(pairs: Sequence[Pair | MethodPair]) -> None:
    reasons = [
        f"{pair.name}: {reason}"
        for pair in pairs
        for reason in reasons_not_comparable(pair.results, len(pair.questions))
    ]
    if reasons:
        raise WithheldError("NOT COMPARABLE\n" + "\n".join(f"  {reason}" for reason in reasons))


def report_of(
    pairs: Sequence[Pair | MethodPair],
    margins: Mapping[str, float],
    named: Mapping[str, Suite],
    *,
    alpha: float | None = None,
    regression_alpha: float | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Measure, test, and say where the differences lie.

    Args:
        margins: metric, suite or "suite, decoding" -> margin, instead of the default.
        named: suites by name, where they are open already.
        alpha, regression_alpha: of a look of a sequential check, see `stats.paired.checked`.
    """
    from seft_bench.stats.paired import ALPHA, checked, verdict

    opened = [(pair, suite_of(pair.results[0], named)) for pair in pairs]
    measured = [
        measure(pair, suite) if isinstance(pair, Pair) else measure_methods(pair, suite) for pair, suite in opened
    ]
    _refuse_unknown_margins(measured, margins)
    tested = checked(
        [(item.name, item.difference, _margin(item, margins)) for item in measured],
        alpha or ALPHA,
        regression_alpha=regression_alpha,
    )
    compared = [
        _compared(item, result, {question.id: question for question in suite.questions()})
        for item, result, (_, suite) in zip(measured, tested, opened, strict=True)
    ]
    said = [f"{pair.name}: {remark}" for pair in pairs for remark in (*pair.remarks, *remarks(pair.results))]
    return Report(*_titles(pairs), verdict(tested), compared, (*notes, *said))


def _titles(pairs: Sequence[Pair | MethodPair]) -> tuple[str, str]:
    methods = [pair for pair in pairs if isinstance(pair, MethodPair)]
    first = pairs[0]
    return (first.candidate.model, first.baseline.model) if isinstance(first, Pair) else titles_of(methods)


def _margin(item: Measured, margins: Mapping[str, float]) -> float:
    named = [margins[name] for name in (item.pair.name, item.pair.results[0].suite, item.metric) if name in margins]
    return named[0] if named else MARGINS[item.metric]


def _refuse_unknown_margins(measured: Sequence[Measured], margins: Mapping[str, float]) -> None:
    known = {name for item in measured for name in (item.pair.name, item.pair.results[0].suite, item.metric)}
    unknown = sorted(set(margins) - known)
    if unknown:
        raise InputError(
            f"--margin {unknown[0]}: no metric of this check; its suites and metrics are {'; '.join(sorted(known))}"
        )


def _compared(item: Measured, tested: Check, questions: Mapping[str, Question]) -> Compared:
    worst, best = extremes(item)
    categories = by_category(item, {question.id: question.category for question in questions.values()})
    return Compared(item, tested, categories, worst, best, questions)
