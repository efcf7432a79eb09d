"""The plan of a matrix: its cells, what is there of each already, what failed, and what the judges would be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.bench import matrix as matrices
from seft_bench.bench.cells import checkpoints_of, places_of
from seft_bench.bench.matrix import Cell, judge_names
from seft_bench.config import MatrixConfig
from seft_bench.evaluation_files import EvaluationFiles, evaluation_files
from seft_bench.judges import Judge
from seft_bench.records import Answer
from seft_bench.stages.runs import is_other_run, matching_run
from seft_bench.subjects import control_subject

if TYPE_CHECKING:
    from seft_bench.bench.judging_cost import PerVerdict
    from seft_bench.evaluation.cost_estimate import Estimate


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
        answers: over checkpoints, suites and decodings.
        verdicts: judge -> the same for its verdicts.
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
        controls: judge -> verdicts of controls that are not evaluated yet.
        prices: judge -> what one of its verdicts takes.
    """

    name: str
    cells: Sequence[CellState]
    todo: Sequence[CellState]
    controls: Mapping[str, Part]
    prices: Mapping[str, PerVerdict]

    def verdicts(self) -> dict[str, Part]:
        """Judge -> verdicts of the cells to run and of the controls."""
        return {
            judge: sum((state.verdicts[judge] for state in self.todo), self.controls[judge]) for judge in self.prices
        }

    def cost(self) -> Estimate:
        """What the judges would be asked and what that costs, one line a judge."""
        from seft_bench.evaluation.cost_estimate import Estimate

        return Estimate(
            [
                self.prices[judge].line(judge, self.name, part.wanted, part.at_hand)
                for judge, part in self.verdicts().items()
            ]
        )


def plan_of(
    matrix: MatrixConfig, out: Path, results: Path, only: Sequence[str] = (), retry_failed: bool = False
) -> BenchPlan:
    """Look at what is there; nothing is loaded, sent or written.

    Args:
        only: patterns of cell names.
        retry_failed: of the cells that are not finished only those that failed.

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
    from seft_bench.bench.judging_cost import per_verdict

    own = {name: [suite for suite in suites if name in suite.judges] for name in judges}
    return {
        name: per_verdict([(suite.suite, suite.requests) for suite in of_judge], of_judge[0].judges[name])
        for name, of_judge in own.items()
    }


def _controls(matrix: MatrixConfig, out: Path, results: Path, suites: Sequence[_Suite]) -> dict[str, Part]:
    """Judge -> verdicts of the controls; none where these are evaluated."""
    from seft_bench.bench.controls import are_evaluated

    found = {name: Part(0, 0) for suite in suites for name in suite.judges}
    if are_evaluated(matrix, out, results):
        return found
    for subject in map(control_subject, matrix.controls):
        for suite in suites:
            for files in evaluation_files(subject, suite.suite, places_of(out, results)):
                for name, part in _parts(files, suite)[1].items():
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
        self.judges: dict[str, Judge] = {
            judge: open_judge(load_judge(judge), None) for judge in judge_names(matrix, self.suite)
        }
        stand_ins = {
            question.id: Answer(name, question.id, "", ("",) * len(question.turns)) for question in self.questions
        }
        self.requests = len(self.suite.requests(self.questions, stand_ins))


def _state(matrix: MatrixConfig, cell: Cell, out: Path, results: Path, suites: Sequence[_Suite]) -> CellState:
    error, recipe, folder = matrices.error_path(out, cell), matrices.recipe_of(matrix, cell), out / "cells" / cell.name
    run = matching_run(recipe, folder, matrix.checkpoints)
    if run:
        places, subjects = places_of(out, results), list(checkpoints_of(cell, run))
        parts = [
            _parts(files, suite)
            for subject in subjects
            for suite in suites
            for files in evaluation_files(subject, suite.suite, places, cell.seed)
        ]
    else:
        parts = [_nothing(suite) for suite in suites for _ in suite.decodings] * matrix.checkpoints
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


def _nothing(suite: _Suite) -> tuple[Part, dict[str, Part]]:
    """As `_parts`, of a checkpoint that is not trained yet."""
    return Part(0, len(suite.questions)), {name: Part(0, suite.requests) for name in suite.judges}


def _parts(files: EvaluationFiles, suite: _Suite) -> tuple[Part, dict[str, Part]]:
    """Return the answers of one evaluation that are there, and each judge's verdicts."""
    answers = files.drawn_answers()
    asked = files.requests(answers)
    judged = {
        name: Part(len(asked) - len(files.unjudged(judge, asked)), suite.requests)
        for name, judge in suite.judges.items()
    }
    return Part(len(answers), len(suite.questions)), judged
