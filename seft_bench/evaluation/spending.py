"""An eye on money, around all that asks a server: say what it may cost, ask, keep to the budget, say what it cost."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from seft_bench.console import Progress, note
from seft_bench.errors import InputError
from seft_bench.evaluation.cost_estimate import Estimate, estimate_cost, estimate_grading
from seft_bench.evaluation.cost_table import total_line
from seft_bench.evaluation.plan import Plan, evaluate_all, probe
from seft_bench.generators import Generator
from seft_bench.inference.budget import Budget, BudgetSpentError, meter
from seft_bench.inference.prices import how_to_price
from seft_bench.judges import Judge
from seft_bench.records import Result
from seft_bench.stages.graders import Graders, LeftToGrade
from seft_bench.subjects import Subject

DoneT = TypeVar("DoneT")

LIMIT_VARIABLE = "SEFT_BENCH_ASK_ABOVE_USD"
ASK_ABOVE_USD = 5.0


def agree(plan: Plan, budget_usd: float | None, yes: bool) -> None:
    """Say what the command may cost, and ask where that is much; nothing was sent before.

    Raises:
        InputError: a budget over an unknown price, a cost above the limit that nobody agreed to, or the answer no.
    """
    if not _may_cost(plan):
        return
    agree_to(estimate_cost(plan), budget_usd, yes)


def agree_to(found: Estimate, budget_usd: float | None, yes: bool) -> None:
    """As `agree`, to an estimate; a budget is the consent to spend up to it.

    Raises:
        InputError: as there.
    """
    if unknown := found.unknown:
        note(
            f"price unknown: {unknown[0].price.source}; {sum(line.to_ask for line in unknown)} requests are not in the "
            "estimate"
        )
    judged = [line for line in unknown if line.work == "judge"]
    if budget_usd is not None and judged:
        raise InputError(f"--budget cannot be kept: {judged[0].price.source}. {how_to_price(judged[0].asked_model)}")
    if budget_usd is None and not yes and found.usd[1] > (limit := _limit_usd()):
        _ask(found, limit)


def _may_cost(plan: Plan) -> bool:
    """Is there a server that could be asked for money? Without one there is nothing to count."""
    judged = "judge" in plan.steps and any(judge.client for judge in plan.judges)
    return judged or ("answer" in plan.steps and any(subject.server for subject in plan.subjects))


def _limit_usd() -> float:
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        return float(text) if text else ASK_ABOVE_USD
    except ValueError:
        raise InputError(f"{LIMIT_VARIABLE} is an amount in US dollars such as 5, not {text!r}") from None


def _ask(found: Estimate, limit_usd: float) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(
            f"{total_line(found)}, above {limit_usd:g} USD ({LIMIT_VARIABLE}), and there is no terminal to ask on. "
            "Run it with --yes, or with a --budget; --dry-run shows where the money would go."
        )
    print(f"{total_line(found)}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InputError("not started, nothing was sent. --dry-run shows where the money would go.")


def evaluate_within_budget(plan: Plan, budget_usd: float | None, progress: Progress) -> list[Result]:
    """Probe the judges and evaluate the plan within the budget.

    Raises:
        BudgetSpentError: it is spent; what arrived is kept.
    """
    return within_budget(plan, budget_usd, lambda metered: evaluate_all(metered, progress))


def within_budget(plan: Plan, budget_usd: float | None, work: Callable[[Plan], DoneT]) -> DoneT:
    """Probe the judges, then do some work of the plan, with everything that costs money counted.

    At the end what was paid is said.

    Raises:
        BudgetSpentError: the budget is spent; what arrived is kept.
    """
    budget = Budget(budget_usd)
    metered = _metered(plan, budget)

    def left() -> str:
        return left_line(estimate_cost(plan))

    with counted(budget, left):
        probe(metered)
        return work(metered)


@contextlib.contextmanager
def within(budget_usd: float | None, judge: Judge, left: Callable[[], Estimate]) -> Iterator[None]:
    """Everything that the judge is asked inside counts into the budget, and what it cost is said at the end.

    Args:
        left: the estimate of what is still to ask, for the message when the budget is spent.

    Raises:
        BudgetSpentError: it is spent; what arrived is kept.
    """
    budget = Budget(budget_usd)
    meter(judge.client, judge.price, budget)
    with counted(budget, lambda: left_line(left())):
        yield


@contextlib.contextmanager
def paid_training(budget_usd: float | None, yes: bool, store: Path) -> Iterator[Graders]:
    """Yield what opens judges of samples for one training: it says what servers would be asked, and asks, as `agree`.

    At the end what was paid is said.

    Raises:
        BudgetSpentError: the budget is spent; what arrived is kept.
    """
    budget = Budget(budget_usd)
    looked: list[LeftToGrade] = []

    def agree_to_grading(left: LeftToGrade) -> None:
        looked.append(left)
        found = estimate_grading(left())
        if any(line.to_ask for line in found.lines):
            note(f"grading samples: {total_line(found)}")
        agree_to(found, budget_usd, yes)

    graders = Graders(store, budget, agree_to_grading)
    with contextlib.closing(graders), counted(budget, lambda: left_line(estimate_grading(looked[-1]()))):
        yield graders


@contextlib.contextmanager
def counted(budget: Budget, left: Callable[[], str]) -> Iterator[None]:
    """At the end say what went from the budget; and where it is spent, what is left to do."""
    try:
        yield
    except BudgetSpentError as error:
        raise BudgetSpentError(
            f"{error} {left()} What arrived is kept; the same command with a larger --budget goes on."
        ) from None
    finally:
        if budget.spent_usd:
            note(f"paid by this command: {budget.said()}")
        if budget.unpriced:
            note(f"paid by this command: {budget.unpriced} replies at an unknown price")


def left_line(left: Estimate) -> str:
    """Say what an estimate leaves to do, for people."""
    answers, judgments = left.to_ask("answer"), left.to_ask("judge")
    low, high = left.usd
    parts = [f"{answers} answers" if answers else "", f"{judgments} judgments"]
    return f"Left: {' and '.join(part for part in parts if part)}, about {low:.2f} to {high:.2f} USD."


def _metered(plan: Plan, budget: Budget) -> Plan:
    """Return the plan, with everything that costs money counting into one budget."""
    for judge in plan.judges:
        meter(judge.client, judge.price, budget)
    return dataclasses.replace(plan, subjects=_metered_subjects(plan.subjects, budget))


def _metered_subjects(subjects: Sequence[Subject], budget: Budget) -> list[Subject]:
    return [_metered_subject(subject, budget) if subject.server else subject for subject in subjects]


def _metered_subject(subject: Subject, budget: Budget) -> Subject:
    def load() -> Generator:
        generator = subject.open_generator()
        meter(generator.client, subject.price, budget)
        return generator

    return dataclasses.replace(subject, open_generator=load)
