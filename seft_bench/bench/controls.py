"""The controls of a matrix: evaluated once, without a worker, as rows like all others."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from seft_bench import pipeline
from seft_bench.bench.events import Failure
from seft_bench.bench.finished import stands, write_record
from seft_bench.bench.judges_at_work import JudgesAtWork
from seft_bench.bench.resolved import Bench, MatrixSuite
from seft_bench.console import Progress, note, steps_shown
from seft_bench.errors import SeftBenchError
from seft_bench.files import read_json, sha256_json
from seft_bench.inference.budget import Budget
from seft_bench.records import Result
from seft_bench.subjects import Subject, control_subject


def control_subjects(bench: Bench) -> list[Subject]:
    return [control_subject(name) for name in bench.matrix.controls]


def are_evaluated(bench: Bench) -> bool:
    """Are the results of all controls of a matrix there?"""
    path = _record_path(bench)
    if not bench.matrix.controls or not path.exists():
        return not bench.matrix.controls
    return stands(read_json(path, "record of the controls"), _identity(bench), bench.results)


def _record_path(bench: Bench) -> Path:
    return bench.out / "controls.json"


def _identity(bench: Bench) -> str:
    return sha256_json([bench.measured_by, [subject.fingerprint for subject in control_subjects(bench)]])


def run_controls(bench: Bench, budget: Budget) -> list[Failure]:
    """Evaluate a matrix's controls once a suite, in this process, unless they are there.

    Args:
        budget: what their judges are paid counts into it.

    Returns:
        the failure, where there is one (a judge that is gone): it must not keep the cells from their tables, and what
            the judge said is kept.
    """
    if are_evaluated(bench):
        return []
    try:
        _run(bench, budget)
    except SeftBenchError as error:
        return [Failure("controls", str(error), error.exit_status)]
    return []


def _run(bench: Bench, budget: Budget) -> None:
    subjects = control_subjects(bench)
    scored: list[Result] = []
    with steps_shown() as progress:
        for suite in bench.suites:
            scored += _evaluate(bench, suite, subjects, budget, progress)
    write_record(_record_path(bench), _identity(bench), scored, bench.results)
    note(f"{bench.matrix.name}: {len(subjects)} controls without a model evaluated on {len(bench.suites)} suites")


def _evaluate(
    bench: Bench, suite: MatrixSuite, subjects: Sequence[Subject], budget: Budget, progress: Progress
) -> list[Result]:
    """Evaluate on one suite, with judges whose servers are stopped before the next suite's start."""
    with contextlib.closing(JudgesAtWork(bench, budget)) as judges:
        return [
            result
            for judge in map(judges.judge_of, suite.judges)
            for subject in subjects
            for result in pipeline.evaluate(subject, suite.suite, judge, bench.places, progress=progress)
        ]
