"""One cell in two halves: a worker trains and answers, the driver judges and scores.

The driver alone judges, because the response store must not lie on a shared file system and keys stay with the driver;
the halves meet at the run's folder and the files of answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from seft_bench import pipeline
from seft_bench.bench.finished import write_record
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.bench.train_cell import train_cell
from seft_bench.console import Progress, says_who
from seft_bench.errors import InputError
from seft_bench.files import locked, write_atomic
from seft_bench.judges import Judge
from seft_bench.records import Result
from seft_bench.stages.runs import TrainedRun, run_facts
from seft_bench.subjects import Subject, checkpoint_subject


def make_answers(bench: Bench, cell: Cell, progress: Progress) -> None:
    """Do a worker's half: train the cell and answer every suite with every checkpoint.

    What is there already is not made again.
    """
    busy = says_who(f"is at work on cell {cell.name}")  # a worker whose driver was killed
    with locked(bench.lock_path(cell), busy):
        run = train_cell(bench, cell, progress)
        for subject in checkpoints_of(cell, run):
            for suite in bench.suites:
                pipeline.answer(subject, suite.suite, bench.places, cell.seed, progress)


def judge_answers(bench: Bench, cell: Cell, judge_of: Callable[[str], Judge], progress: Progress) -> None:
    """Do the driver's half: judge and score every checkpoint by every judge, then mark the cell as finished.

    Args:
        judge_of: the open judge of a name; one is shared by all cells.

    Raises:
        InputError: the cell was not trained here.
    """
    run = bench.trained_run(cell)
    if run is None:
        raise InputError(
            f"cell {cell.name} has no trained run in {bench.run_folder(cell)}: its worker wrote somewhere else"
        )
    scored: list[Result] = []
    for subject in checkpoints_of(cell, run):
        for suite in bench.suites:
            for name in suite.judges:
                scored += pipeline.evaluate(
                    subject,
                    suite.suite,
                    judge_of(name),
                    bench.places,
                    steps=("judge", "score"),
                    seed=cell.seed,
                    progress=progress,
                )
    _publish_records(run, bench.stages_folder, bench.results_folder(cell))
    write_record(bench.record_path(cell), bench.identity(cell), scored, bench.results)


def checkpoints_of(cell: Cell, run: TrainedRun) -> Iterator[Subject]:
    """Every checkpoint of a trained cell, knowing its training."""
    for checkpoint in run.checkpoints:
        label, is_final = cell.row.label or cell.row.name, checkpoint == run.checkpoints[-1]
        facts = run_facts(
            cell.row.name, label, cell.row.role, run.manifest["config"], run.manifest["cost"], checkpoint.name, is_final
        )
        facts = dataclasses.replace(facts, base=cell.base_name, data=cell.data_name)
        yield checkpoint_subject(checkpoint, f"{cell.name}/{checkpoint.name}", facts)


def _publish_records(run: TrainedRun, stages: Path, target: Path) -> None:
    """Copy beside the results how a run was made and what it says of its reviser: manifest, summary, graded drafts."""
    for name in ("manifest.json", "diagnostics.json"):
        write_atomic(target / name, (run.folder / name).read_text(encoding="utf-8"))
    for name in run.manifest["stages"]:
        grades = stages / name / "revision_grades.jsonl"
        if grades.exists():
            write_atomic(target / f"{name.rpartition('-')[0]}.jsonl", grades.read_text(encoding="utf-8"))
