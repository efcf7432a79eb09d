"""Ties of a plain table: the models it does not tell apart, by intervals of differences paired by question.

Pure, and closed forms only: fast for many models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from seft_bench.records import Result
from seft_bench.report.arms import LC, excludes_zero, overlap
from seft_bench.stats.intervals import Interval, t_quantile


def ends(result: Result, metric: str) -> tuple[float | None, float | None]:
    """The 95 % interval over questions of a metric, where there is one."""
    metrics = result.metrics
    if metrics.get(f"{metric}_low") is not None:
        return metrics[f"{metric}_low"], metrics[f"{metric}_high"]
    if metric == "win_rate" and metrics.get("win_rate_se") is not None and result.n_scored > 1:
        margin = t_quantile(result.n_scored - 1) * metrics["win_rate_se"]
        return metrics["win_rate"] - margin, metrics["win_rate"] + margin
    prefix = {"score": "", LC.key: "lc_"}.get(metric)
    return (None, None) if prefix is None else (metrics.get(f"{prefix}low"), metrics.get(f"{prefix}high"))


def paired_by_question(first: Result, second: Result) -> Interval | None:
    """Return the mean of first - second over the questions that both have, with Student's t on the differences.

    None where they share none.

    In the unit of `Result.per_question`. Without `per_question` (a result read without its questions.json) nothing can
    be paired.
    """
    gaps = [
        value - second.per_question[question]
        for question, value in sorted(first.per_question.items())
        if question in second.per_question
    ]
    if not gaps:
        return None
    mean = math.fsum(gaps) / len(gaps)
    if len(gaps) < 2:
        return Interval(mean, None, None, "no interval: one question")
    error = math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))
    margin = t_quantile(len(gaps) - 1) * error
    return Interval(
        mean,
        mean - margin,
        mean + margin,
        f"95 % interval by Student's t of {len(gaps)} differences paired by question",
    )


def lc_paired(first: Result, second: Result) -> Interval | None:
    """Return the difference of two length-controlled win rates with its interval by the sandwich formula.

    None where the questions are not the same.
    """
    ours, theirs = (result.covariates.get("lc_influence", {}) for result in (first, second))
    if len(ours) < 2 or ours.keys() != theirs.keys():
        return None
    n = len(ours)
    mean = first.metrics[LC.key] - second.metrics[LC.key]
    error = math.sqrt(math.fsum((value - theirs[question]) ** 2 for question, value in ours.items()) * n / (n - 1))
    margin = t_quantile(n - 1) * error
    return Interval(
        mean, mean - margin, mean + margin, f"95 % interval by the sandwich formula over {n} questions, paired"
    )


def tied_with(best: Result, others: Sequence[Result], metric: str) -> list[Result]:
    """Those that the interval of the difference to the best does not tell apart from it."""
    return [other for other in others if not _told_apart(best, other, metric)]


def not_above(members: Sequence[Result], controls: Sequence[Result], metric: str) -> list[str]:
    """Say of each control which models are not shown to be above it.

    What the judge says of those is worth little.
    """
    sentences = []
    for control in controls:
        below = [member for member in members if not _above(member, control, metric)]
        if below:
            names = f": {', '.join(sorted(member.model for member in below))}" if len(below) <= 5 else ""
            sentences.append(f"{len(below)} of {len(members)} models are not shown to be above {control.model}{names}.")
    return sentences


def _above(member: Result, control: Result, metric: str) -> bool:
    ours, theirs = member.metrics.get(metric), control.metrics.get(metric)
    return ours is not None and theirs is not None and ours > theirs and _told_apart(member, control, metric)


def _told_apart(first: Result, second: Result, metric: str) -> bool:
    """Return whether the two are told apart; where nothing can be compared, no tie is claimed.

    LC is no mean over questions: its difference goes by the influences of the same questions, and without them by the
    joint width of both intervals.
    """
    if first.metrics.get(metric) is None or second.metrics.get(metric) is None:
        return True
    if metric == LC.key and (gap := lc_paired(first, second)):
        return excludes_zero(gap)
    if metric == LC.key:
        return not overlap(*(Interval(result.metrics[metric], *ends(result, metric), "") for result in (first, second)))
    gap = paired_by_question(first, second)
    return gap is None or excludes_zero(gap)
