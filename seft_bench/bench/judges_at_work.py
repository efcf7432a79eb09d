"""The judges that a bench asks: checked before anything is trained, then opened by the thread that judges."""

from __future__ import annotations

from collections.abc import Sequence

from seft_bench.bench.cells import checkpoints_of
from seft_bench.bench.finished import is_finished
from seft_bench.bench.resolved import Bench, MatrixSuite
from seft_bench.evaluation.plan import check_judge
from seft_bench.evaluation_files import evaluation_files
from seft_bench.inference.budget import Budget, meter
from seft_bench.inference.store import ResponseStore
from seft_bench.judges import Judge, open_judge
from seft_bench.subjects import Subject


class JudgesAtWork:
    """Judges with the response store, each opened when it is first asked for; what they are paid counts.

    They belong to the thread that opens them, as a store's connection does.
    """

    def __init__(self, bench: Bench, budget: Budget) -> None:
        self._bench, self._budget = bench, budget
        self._opened: dict[str, Judge] = {}

    def judge_of(self, name: str) -> Judge:
        if name not in self._opened:
            store = self._bench.places.store
            store.parent.mkdir(parents=True, exist_ok=True)
            judge = self._opened[name] = open_judge(self._bench.judge_configs[name], store)
            meter(judge.client, judge.price, self._budget)
        return self._opened[name]

    def close(self) -> None:
        """Stop the servers of ours that judges started."""
        for judge in self._opened.values():
            judge.close()


def check_judges(bench: Bench, budget: Budget) -> None:
    """Ask every judge whether it can do its part, before anything is trained; not where all verdicts are at hand.

    Raises:
        InputError: a key is missing, a model is not there, official data is not, or the store cannot be used.
        ServiceUnavailableError: a judge cannot be reached.
    """
    _check_store(bench)
    subjects = _unfinished_subjects(bench)
    for suite in bench.suites:
        for name in suite.judges:
            judge = bench.judges[name]
            meter(judge.client, judge.price, budget)
            if subjects is None or not _are_judged(bench, subjects, suite, judge):
                check_judge(judge, suite.suite)


def _check_store(bench: Bench) -> None:
    if any(judge.client for judge in bench.judges.values()):
        bench.places.store.parent.mkdir(parents=True, exist_ok=True)
        ResponseStore(bench.places.store).close()


def _unfinished_subjects(bench: Bench) -> list[Subject] | None:
    """Return the checkpoints of all unfinished cells; None where one of them is still to be trained."""
    subjects: list[Subject] = []
    for cell in bench.cells:
        if is_finished(bench, cell):
            continue
        run = bench.trained_run(cell)
        if run is None:
            return None
        subjects += checkpoints_of(cell, run)
    return subjects


def _are_judged(bench: Bench, subjects: Sequence[Subject], suite: MatrixSuite, judge: Judge) -> bool:
    """Are all of a judge's verdicts on these subjects at hand?"""
    return all(
        files.is_judged(judge)
        for subject in subjects
        for files in evaluation_files(subject, suite.suite, bench.places, questions=suite.questions)
    )
