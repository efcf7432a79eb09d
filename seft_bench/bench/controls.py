"""The controls of a matrix: evaluated once, without a worker, as rows like all others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seft_bench import pipeline
from seft_bench.bench.cells import places_of
from seft_bench.bench.matrix import Failure, judge_names, measured_by, stands, write_record
from seft_bench.config import MatrixConfig
from seft_bench.console import Progress, note, steps_shown
from seft_bench.errors import SeftBenchError
from seft_bench.evaluation_files import Places
from seft_bench.files import read_json, sha256_json
from seft_bench.inference.budget import Budget, meter
from seft_bench.records import Result, run_of
from seft_bench.report.arms import is_control
from seft_bench.subjects import CONTROL_PREFIX, Subject, control_subject


def are_evaluated(matrix: MatrixConfig, out: Path, results: Path) -> bool:
    """Are the results of all controls of a matrix there?"""
    done = _record(out)
    if not matrix.controls or not done.exists():
        return not matrix.controls
    return stands(read_json(done, "record of the controls"), _identity(matrix), results)


def _record(out: Path) -> Path:
    return out / "controls.json"


def _identity(matrix: MatrixConfig) -> str:
    return sha256_json([measured_by(matrix), [control_subject(name).fingerprint for name in matrix.controls]])


def run_controls(matrix: MatrixConfig, out: Path, results: Path, budget: Budget) -> list[Failure]:
    """Evaluate a matrix's controls once a suite, in this process; nothing is asked or written again when they are
    there.

    Args:
        budget: what their judges are paid counts into it.

    Returns:
        the failure, where there is one (a judge that is gone): it must not keep the cells from their tables, and what
            the judge said is kept.
    """
    if are_evaluated(matrix, out, results):
        return []
    try:
        _run(matrix, out, results, budget)
    except SeftBenchError as error:
        return [Failure("controls", str(error), error.exit_status)]
    return []


def _run(matrix: MatrixConfig, out: Path, results: Path, budget: Budget) -> None:
    subjects, places = [control_subject(name) for name in matrix.controls], places_of(out, results)
    scored: list[Result] = []
    with steps_shown() as progress:
        for suite_name in matrix.suites:
            scored += _evaluate(matrix, suite_name, subjects, places, budget, progress)
    write_record(_record(out), _identity(matrix), scored, results)
    note(f"{matrix.name}: {len(subjects)} controls without a model evaluated on {len(matrix.suites)} suites")


def _evaluate(
    matrix: MatrixConfig,
    suite_name: str,
    subjects: Sequence[Subject],
    places: Places,
    budget: Budget,
    progress: Progress,
) -> list[Result]:
    from seft_bench.config import load_judge
    from seft_bench.evaluation.engines import closed_at_the_end
    from seft_bench.judges import open_judge
    from seft_bench.suites import load_suite

    suite = load_suite(suite_name)
    judges = [open_judge(load_judge(name), places.store) for name in judge_names(matrix, suite)]
    for judge in judges:
        meter(judge.client, judge.price, budget)
    with closed_at_the_end(None, judges):
        return [
            result
            for judge in judges
            for subject in subjects
            for result in pipeline.evaluate(subject, suite, judge, places, progress=progress)
        ]


def of_matrix(matrix: MatrixConfig, rows: Sequence[Result], results: Sequence[Result]) -> list[Result]:
    """The results of a matrix's controls on the suites of its rows' results, in its order; others are left out."""
    suites = {result.suite for result in rows}
    order = {CONTROL_PREFIX + name: index for index, name in enumerate(matrix.controls)}
    own = [
        result for result in results if is_control(result) and run_of(result).row in order and result.suite in suites
    ]
    return sorted(own, key=lambda result: (order[run_of(result).row], result.suite, result.decoding, result.judge_id))
