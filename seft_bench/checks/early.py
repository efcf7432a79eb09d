"""A check that judges on the way, look by look, and stops as soon as the verdict is clear.

Questions are judged in a random order of their own (seeded, categories in turn), the same for both models. Each look
has a significance level such that all looks together keep the error rate of a check that judges everything
(`stats.sequential`).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence

from seft_bench import pipeline
from seft_bench.checks.arms import Pair
from seft_bench.checks.compare import Report, refuse_not_comparable, report_of
from seft_bench.console import Progress
from seft_bench.errors import InputError, unknown_name
from seft_bench.evaluation.plan import Plan
from seft_bench.evaluation_files import Places, evaluation_files
from seft_bench.judges import Judge
from seft_bench.records import Question, Result
from seft_bench.subjects import Subject
from seft_bench.suites import Suite, open_suite


@dataclasses.dataclass(frozen=True)
class Task:
    """One suite with its judge, and both models."""

    suite: Suite
    judge: Judge
    candidate: Subject
    baseline: Subject


def tasks_of(plan: Plan, candidate: str, baseline: str, decoding: str = "") -> list[Task]:
    """One task a suite, with this decoding only where one is named.

    Raises:
        InputError: one of the two names is not one model, or no such decoding.
    """
    if len(plan.subjects) != 2:
        found = ", ".join(subject.model_id for subject in plan.subjects)
        raise InputError(
            f"a sequential check takes one model on each side; {candidate} and {baseline} hold {len(plan.subjects)}: "
            f"{found}"
        )
    return [
        Task(_with_decoding(suite, decoding) if decoding else suite, judge, *plan.subjects)
        for suite, judge in plan.suites
    ]


def _with_decoding(suite: Suite, decoding: str) -> Suite:
    known = suite.config.decodings
    if decoding not in known:
        raise unknown_name(f"decoding of {suite.config.name}", decoding, known)
    return open_suite(suite.config.model_copy(update={"decodings": {decoding: known[decoding]}}))


def check_early(
    tasks: Sequence[Task], places: Places, margins: Mapping[str, float], *, seed: int = 0, progress: Progress
) -> Report:
    """Answer and judge both models on more and more questions until the verdict is clear.

    What was judged stays: a later `eval` asks for the rest only. The figures of a part are shown, never written into
    the results.
    """
    from seft_bench.stats.paired import ALPHA
    from seft_bench.stats.sequential import levels_for, look_sizes

    named = {task.suite.config.name: task.suite for task in tasks}
    orders = [_order(task.suite.questions(), seed) for task in tasks]
    sizes = [look_sizes(len(order)) for order in orders]
    looks = max(len(of_suite) for of_suite in sizes)
    columns = sum(len(evaluation_files(task.candidate, task.suite, places)) for task in tasks)
    for look in range(looks):
        parts = [order[: of_suite[min(look, len(of_suite) - 1)]] for order, of_suite in zip(orders, sizes, strict=True)]
        pairs = [
            pair
            for task, part in zip(tasks, parts, strict=True)
            for pair in _judged(task, part, places, seed, progress)
        ]
        refuse_not_comparable(pairs)
        level, regression_level = (levels_for(max(sizes, key=len), alpha)[look] for alpha in (ALPHA, ALPHA / columns))
        notes = _notes(parts, orders, level, look, looks)
        report = report_of(pairs, margins, named, alpha=level, regression_alpha=regression_level, notes=notes)
        if report.verdict != "INCONCLUSIVE":
            break
    return report


def _order(questions: Sequence[Question], seed: int) -> list[Question]:
    """A random order in which every category comes in turn, so that each look sees all of them."""
    shuffled = sorted(questions, key=lambda question: random.Random(f"check/{seed}/{question.id}").random())
    places: dict[str, int] = {}
    ranked = []
    for question in shuffled:
        places[question.category] = places.get(question.category, -1) + 1
        ranked.append((places[question.category], question))
    return [question for _, question in sorted(ranked, key=lambda item: item[0])]


def _judged(task: Task, part: Sequence[Question], places: Places, seed: int, progress: Progress) -> list[Pair]:
    """Both models' results on a part of the questions, one pair a decoding."""
    sides = [
        pipeline.evaluate(subject, task.suite, task.judge, places, seed=seed, progress=progress, questions=part)
        for subject in (task.candidate, task.baseline)
    ]
    by_decoding: dict[str, Result] = {result.decoding: result for result in sides[1]}
    return [Pair(result, by_decoding[result.decoding]) for result in sides[0] if result.decoding in by_decoding]


def _notes(
    parts: Sequence[Sequence[Question]], orders: Sequence[Sequence[Question]], level: float, look: int, looks: int
) -> list[str]:
    judged, total = sum(len(part) for part in parts), sum(len(order) for order in orders)
    saved = f"{1 - judged / total:.0%} of the judgments were saved" if judged < total else "nothing was saved"
    return [
        f"Sequential: look {look + 1} of {looks} at {judged} of {total} questions a model, losses of the margin tested "
        f"at {level:.4f}; {saved}."
    ]
