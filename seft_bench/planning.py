"""The plan of a matrix: its cells, what is there of each already, what failed, and what the judges would be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench import matrix as matrices
from seft_bench import pipeline
from seft_bench.cells import checkpoints_of, places_of
from seft_bench.config import MatrixConfig
from seft_bench.matrix import Cell, judge_names
from seft_bench.records import Answer
from seft_bench.runs import is_other_run, matching_run
from seft_bench.subjects import control_subject

if TYPE_CHECKING:
    from seft_bench.money.estimate import Estimate
    from seft_bench.money.matrices import PerVerdict
    from seft_bench.probing import Hours


@dataclass(frozen=True)
class Part:
    """How much of something is there."""

    at_hand: int
    wanted: int

    @property
    def missing(self) -> int:
        return self.wanted - self.at_hand

    def __add__(self, other: Part) -> Part:
        return Part(self.at_hand + other.at_hand, self.wanted + other.wanted)

    def __str__(self) -> str:
        return f"{self.at_hand}/{self.wanted}"


@dataclass(frozen=True)
class CellState:
    """One cell and what is there of it.

    Attributes:
        answers: over checkpoints, suites and decodings. verdicts: judge -> the same for its verdicts.
        error: of its last run, "" where that was fine or there was none.
        is_changed: it was trained with other settings or another number of checkpoints, and will be trained again.
    """

    cell: Cell
    is_finished: bool
    is_trained: bool
    answers: Part
    verdicts: Mapping[str, Part]
    error: str
    is_changed: bool = False

    @property
    def state(self) -> str:
        return "finished" if self.is_finished else "failed" if self.error else "to run"


@dataclass(frozen=True)
class BenchPlan:
    """All chosen cells, and those that a run would do.

    Attributes:
        controls: judge -> verdicts of controls that are not evaluated yet. prices: judge -> what one of its verdicts takes.
    """

    name: str
    cells: Sequence[CellState]
    todo: Sequence[CellState]
    controls: Mapping[str, Part]
    prices: Mapping[str, PerVerdict]

    def verdicts(self) -> dict[str, Part]:
        """Judge -> verdicts of the cells to run and of the controls."""
        return {judge: sum((state.verdicts[judge] for state in self.todo), self.controls[judge]) for judge in self.prices}

    def cost(self) -> Estimate:
        """What the judges would be asked and what that costs, one line a judge."""
        from seft_bench.money.estimate import Estimate

        return Estimate([self.prices[judge].line(judge, self.name, part.wanted, part.at_hand) for judge, part in self.verdicts().items()])


def plan_of(matrix: MatrixConfig, out: Path, results: Path, only: Sequence[str] = (), retry_failed: bool = False) -> BenchPlan:
    """Look at what is there; nothing is loaded, sent or written.

    Args:
        only: patterns of cell names. retry_failed: of the cells that are not finished only those that failed.

    Raises:
        InputError: the matrix cannot run.
    """
    matrices.check(matrix)
    suites = [_Suite(matrix, name, out) for name in matrix.suites]
    states = [_state(matrix, cell, out, results, suites) for cell in matrices.chosen(matrices.cells(matrix), only)]
    todo = [state for state in states if not state.is_finished and (state.error or not retry_failed)]
    controls = _controls(matrix, out, results, suites)
    return BenchPlan(matrix.name, states, todo, controls, _prices(suites, list(controls)))


def _prices(suites: Sequence[_Suite], judges: Sequence[str]) -> dict[str, PerVerdict]:
    from seft_bench.money.matrices import per_verdict

    own = {name: [suite for suite in suites if name in suite.judges] for name in judges}
    return {name: per_verdict([(suite.suite, suite.requests) for suite in of_judge], of_judge[0].judges[name]) for name, of_judge in own.items()}


def _controls(matrix: MatrixConfig, out: Path, results: Path, suites: Sequence[_Suite]) -> dict[str, Part]:
    """Judge -> verdicts of the controls; none where these are evaluated."""
    from seft_bench.controls import are_evaluated

    found = {name: Part(0, 0) for suite in suites for name in suite.judges}
    if are_evaluated(matrix, out, results):
        return found
    for subject in map(control_subject, matrix.controls):
        for suite in suites:
            for decoding in pipeline.decodings(subject, suite.suite):
                for name, part in _parts(subject, suite, decoding, out, results, 0)[1].items():
                    found[name] += part
    return found


class _Suite:
    """A suite with its judges, and how many requests an answered one makes."""

    def __init__(self, matrix: MatrixConfig, name: str, out: Path) -> None:
        from seft_bench.config import load_judge
        from seft_bench.judges import open_judge
        from seft_bench.suites import load_suite

        self.suite = load_suite(name)
        self.questions = self.suite.questions()
        self.decodings = list(self.suite.config.decodings)
        # no store: looking at a plan makes no file
        self.judges: dict[str, Any] = {judge: open_judge(load_judge(judge), None) for judge in judge_names(matrix, self.suite)}
        stand_ins = {question.id: Answer(name, question.id, "", ("",) * len(question.turns)) for question in self.questions}
        self.requests = len(self.suite.requests(self.questions, stand_ins))


def _state(matrix: MatrixConfig, cell: Cell, out: Path, results: Path, suites: Sequence[_Suite]) -> CellState:
    error, recipe, folder = matrices.error_path(out, cell), matrices.recipe_of(matrix, cell), out / "cells" / cell.name
    run = matching_run(recipe, folder, matrix.checkpoints)
    own = list(checkpoints_of(cell, run)) if run else [None] * matrix.checkpoints
    parts = [_parts(subject, suite, decoding, out, results, cell.seed) for subject in own for suite in suites for decoding in suite.decodings]
    verdicts: dict[str, Part] = {}
    for _, judged in parts:
        for name, part in judged.items():
            verdicts[name] = verdicts.get(name, Part(0, 0)) + part
    return CellState(
        cell,
        matrices.is_finished(matrix, cell, out, results),
        run is not None,
        sum((answers for answers, _ in parts), Part(0, 0)),
        verdicts,
        error.read_text(encoding="utf-8").strip() if error.exists() else "",
        is_other_run(recipe, folder, matrix.checkpoints),
    )


def _parts(subject: Any, suite: _Suite, decoding: str, out: Path, results: Path, seed: int) -> tuple[Part, dict[str, Part]]:
    """Answers and verdicts of one checkpoint (None: not trained yet) on one suite and decoding."""
    if subject is None:
        return Part(0, len(suite.questions)), {name: Part(0, suite.requests) for name in suite.judges}
    places = places_of(out, results)
    answers = pipeline.answered(subject, suite.suite, decoding, places, seed)
    asked = suite.suite.requests(suite.questions, answers)
    judged = {}
    for name, judge in suite.judges.items():
        unjudged = pipeline.unjudged(subject, suite.suite, judge, decoding, places, asked)
        judged[name] = Part(len(asked) - len(unjudged), suite.requests)
    return Part(len(answers), len(suite.questions)), judged


def judge_price(plan: BenchPlan) -> list[str]:
    """What the judges would be asked, one line a judge, and what that costs."""
    lines = []
    for line in plan.cost().lines:
        price = "price unknown" if line.usd is None else f"about {line.usd[0]:.2f} to {line.usd[1]:.2f} USD" if line.asked_model else "runs here, 0 USD"
        lines.append(f"judge {line.by}: {line.wanted - line.at_hand:,} verdicts to ask, {line.at_hand:,} at hand; {price}")
    return lines


# For people and for programs


def summary(plan: BenchPlan) -> list[str]:
    """The plan in a few lines."""
    trained = sum(state.is_trained for state in plan.todo)
    answers = sum((state.answers for state in plan.todo), Part(0, 0))
    changed = [state.cell.name for state in plan.todo if state.is_changed]
    counts = {word: sum(state.state == word for state in plan.cells) for word in ("finished", "failed")}
    failed = f" ({counts['failed']} failed before)" if counts["failed"] else ""
    lines = [f"{plan.name}: {len(plan.cells)} cells, {counts['finished']} finished already, {len(plan.todo)} to run{failed}"]
    if plan.todo:
        lines += [f"{len(changed)} were trained with other settings and are trained again: {', '.join(changed)}"] if changed else []
        lines += [f"of these {trained} are trained, {answers.at_hand:,} of {answers.wanted:,} answers are at hand", *judge_price(plan)]
    return lines


def as_text(plan: BenchPlan, hours: Hours | None = None) -> str:
    """A row a cell, errors of the failed ones, then the summary."""
    rows = [("cell", "method", "trained", "answers", *(f"verdicts: {name}" for name in plan.prices), "state")]
    rows += [_cells(state, list(plan.prices)) for state in plan.cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    errors = [f"{state.cell.name} failed: {state.error.splitlines()[-1]}" for state in plan.cells if state.state == "failed"]
    return "\n".join([*table, *errors, *summary(plan), *(hours.lines() if hours else [])])


def _cells(state: CellState, judges: Sequence[str]) -> tuple[str, ...]:
    verdicts = [str(state.verdicts.get(judge, Part(0, 0))) for judge in judges]
    return (
        state.cell.name,
        state.cell.row.method,
        "yes" if state.is_trained else "otherwise" if state.is_changed else "no",
        str(state.answers),
        *verdicts,
        state.state,
    )


def as_row(plan: BenchPlan, hours: Hours | None = None) -> dict[str, Any]:
    """JSON-ready."""
    cells = [
        {
            "cell": state.cell.name,
            "row": state.cell.row.name,
            "method": state.cell.row.method,
            "base": state.cell.base,
            "data": state.cell.data,
            "seed": state.cell.seed,
            "state": state.state,
            "trained": state.is_trained,
            "trained_otherwise": state.is_changed,
            "answers": vars(state.answers),
            "verdicts": {judge: vars(part) for judge, part in state.verdicts.items()},
            "error": state.error,
        }
        for state in plan.cells
    ]
    judges = {line.by: {"at_hand": line.at_hand, "wanted": line.wanted, "asks_a_server": bool(line.asked_model), "usd": line.usd} for line in plan.cost().lines}
    return {
        "matrix": plan.name,
        "cells": cells,
        "to_run": [state.cell.name for state in plan.todo],
        "judges": judges,
        "hours": hours.as_row() if hours else None,
    }
