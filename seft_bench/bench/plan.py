"""The plan of a matrix: its cells, what is there of each already, what failed, and what the judges would be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from seft_bench.bench.budget import budget_lines
from seft_bench.bench.cells import checkpoints_of
from seft_bench.bench.controls import are_evaluated, control_subjects
from seft_bench.bench.finished import is_finished
from seft_bench.bench.grading_cost import grading_cost
from seft_bench.bench.judging_cost import PerVerdict, per_verdict
from seft_bench.bench.matrix import Cell, chosen_cells
from seft_bench.bench.resolved import Bench, MatrixSuite
from seft_bench.evaluation.cost_estimate import Estimate
from seft_bench.evaluation_files import EvaluationFiles, evaluation_files
from seft_bench.subjects import Subject


@dataclass(frozen=True)
class Part:
    """The part of something that is there."""

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
class AtHand:
    """Answers that are there, and each judge's verdicts."""

    answers: Part = Part(0, 0)
    verdicts: Mapping[str, Part] = field(default_factory=dict)

    def __add__(self, other: AtHand) -> AtHand:
        judges = dict.fromkeys([*self.verdicts, *other.verdicts])
        verdicts = {name: _of(self.verdicts, name) + _of(other.verdicts, name) for name in judges}
        return AtHand(self.answers + other.answers, verdicts)


def _of(verdicts: Mapping[str, Part], judge: str) -> Part:
    return verdicts.get(judge, Part(0, 0))


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
        grading: what servers would be asked for samples, while rows train.
        budget: what the matrix's budget makes of its rows, in words.
    """

    name: str
    cells: Sequence[CellState]
    todo: Sequence[CellState]
    controls: Mapping[str, Part]
    prices: Mapping[str, PerVerdict]
    grading: Estimate
    budget: Sequence[str] = ()

    def verdicts(self) -> dict[str, Part]:
        """Judge -> verdicts of the cells to run and of the controls."""
        return {
            judge: sum((state.verdicts[judge] for state in self.todo), self.controls[judge]) for judge in self.prices
        }

    def judging(self) -> Estimate:
        """Return what the judges of the suites would be asked and what that costs, one line a judge."""
        return Estimate(
            [
                self.prices[judge].line(judge, self.name, part.wanted, part.at_hand)
                for judge, part in self.verdicts().items()
            ]
        )

    def cost(self) -> Estimate:
        """Return all that servers would be asked: by suites, and by trainings."""
        return Estimate([*self.judging().lines, *self.grading.lines])


def plan_bench(bench: Bench, only: Sequence[str] = (), retry_failed: bool = False) -> BenchPlan:
    """Look at what is there; nothing is loaded, sent or written.

    Args:
        only: patterns of cell names.
        retry_failed: of the cells that are not finished only those that failed.

    Raises:
        InputError: a pattern that matches no cell.
    """
    states = [_state(bench, cell) for cell in chosen_cells(bench.cells, only)]
    todo = [state for state in states if not state.is_finished and (state.error or not retry_failed)]
    grading = grading_cost(bench, [state.cell for state in todo if not state.is_trained])
    budget = budget_lines(bench.matrix)
    return BenchPlan(bench.matrix.name, states, todo, _controls(bench), _prices(bench), grading, budget)


def _prices(bench: Bench) -> dict[str, PerVerdict]:
    own = {name: [suite for suite in bench.suites if name in suite.judges] for name in bench.judge_names}
    return {
        name: per_verdict([(suite.suite, suite.request_count) for suite in suites], bench.judges[name])
        for name, suites in own.items()
    }


def _controls(bench: Bench) -> dict[str, Part]:
    """Judge -> verdicts of the controls; none where these are evaluated."""
    subjects = [] if are_evaluated(bench) else control_subjects(bench)
    found = _sum(_at_hand(bench, subject, suite) for subject in subjects for suite in bench.suites)
    return {name: _of(found.verdicts, name) for name in bench.judge_names}


def _state(bench: Bench, cell: Cell) -> CellState:
    error, run = bench.error_path(cell), bench.trained_run(cell)
    if run:
        found = _sum(
            _at_hand(bench, subject, suite, cell.seed)
            for subject in checkpoints_of(cell, run)
            for suite in bench.suites
        )
    else:
        one_checkpoint = [_nothing(suite) for suite in bench.suites for _ in suite.decodings]
        found = _sum(one_checkpoint * bench.matrix.checkpoints)
    return CellState(
        cell,
        is_finished=is_finished(bench, cell),
        is_trained=run is not None,
        answers=found.answers,
        verdicts=found.verdicts,
        error=error.read_text(encoding="utf-8").strip() if error.exists() else "",
        is_changed=bench.is_changed(cell),
    )


def _sum(parts: Iterable[AtHand]) -> AtHand:
    return sum(parts, AtHand())


def _nothing(suite: MatrixSuite) -> AtHand:
    """Count what a checkpoint that is not trained yet has in one decoding."""
    return AtHand(Part(0, len(suite.questions)), {name: Part(0, suite.request_count) for name in suite.judges})


def _at_hand(bench: Bench, subject: Subject, suite: MatrixSuite, seed: int = 0) -> AtHand:
    """Count what one subject has on one suite, over its decodings."""
    everything = evaluation_files(subject, suite.suite, bench.places, seed, suite.questions)
    return _sum(_in_one_decoding(bench, files, suite) for files in everything)


def _in_one_decoding(bench: Bench, files: EvaluationFiles, suite: MatrixSuite) -> AtHand:
    answers = files.drawn_answers()
    asked = files.requests(answers)
    judged = {name: len(asked) - len(files.unjudged(bench.judges[name], asked)) for name in suite.judges}
    verdicts = {name: Part(count, suite.request_count) for name, count in judged.items()}
    return AtHand(Part(len(answers), len(suite.questions)), verdicts)
