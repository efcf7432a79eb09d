"""One cell in two halves: a worker trains and answers, the driver judges and scores.

The driver alone judges, because the response store must not lie on a shared file system and keys stay with the driver;
the halves meet at the run's folder and the files of answers.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from seft_bench import pipeline
from seft_bench.bench.matrix import Cell, done_path, identity, judge_names, recipe_of, write_record
from seft_bench.config import MatrixConfig
from seft_bench.console import Progress
from seft_bench.errors import InputError
from seft_bench.evaluation_files import Places
from seft_bench.files import locked, read_json, write_atomic
from seft_bench.inference.store import store_path
from seft_bench.judges import Judge
from seft_bench.records import Result
from seft_bench.stages.runs import TrainedRun, is_other_run, matching_run, run_facts, withdraw_run
from seft_bench.subjects import Subject, checkpoint_subject


def make_answers(matrix: MatrixConfig, cell: Cell, out: Path, progress: Progress) -> None:
    """A worker's half: train the cell and answer every suite with every checkpoint.

    What is there already is not made again.
    """
    from seft_bench.suites import load_suite

    with locked(out / "cells" / ".locks" / cell.name):  # a worker whose driver was killed may still be at it
        run = pipeline.train(
            recipe_of(matrix, cell),
            out / "cells" / cell.name,
            stages_folder=out / "stages",
            checkpoints=matrix.checkpoints,
            diagnostics_judge=matrix.diagnostics_judge,
            progress=progress,
        )
        places = places_of(out, out / "results")
        for subject in checkpoints_of(cell, run):
            for name in matrix.suites:
                pipeline.answer(subject, load_suite(name), places, cell.seed, progress)


def judge_answers(
    matrix: MatrixConfig, cell: Cell, out: Path, results: Path, open_judge: Callable[[str], Judge], progress: Progress
) -> list[Result]:
    """The driver's half: judge and score every checkpoint by every judge, then mark the cell as done.

    Args:
        open_judge: the judge of a name; one is shared by all cells.

    Raises:
        InputError: the cell was not trained here.
    """
    from seft_bench.suites import load_suite

    run = matching_run(recipe_of(matrix, cell), out / "cells" / cell.name, matrix.checkpoints)
    if run is None:
        raise InputError(
            f"cell {cell.name} has no trained run in {out / 'cells' / cell.name}: its worker wrote somewhere else"
        )
    places, scored = places_of(out, results), []
    for subject in checkpoints_of(cell, run):
        for suite in map(load_suite, matrix.suites):
            for name in judge_names(matrix, suite):
                judge = open_judge(name)
                scored += pipeline.evaluate(
                    subject, suite, judge, places, steps=("judge", "score"), seed=cell.seed, progress=progress
                )
    _publish_records(run, out / "stages", results / "cells" / cell.name)
    write_record(done_path(out, cell), identity(matrix, cell), scored, results)
    return scored


def withdraw_changed(matrix: MatrixConfig, cell: Cell, out: Path, results: Path) -> None:
    """Take back the run and the results of a cell whose settings, checkpoints, base or data changed since, if there are
    any.

    Stages, answers and verdicts stay: with the old settings again, nothing is trained or paid for twice.
    """
    folder = out / "cells" / cell.name
    if not is_other_run(recipe_of(matrix, cell), folder, matrix.checkpoints):
        return
    with locked(out / "cells" / ".locks" / cell.name):
        record = done_path(out, cell)
        for name in read_json(record, "record of a cell")["results"] if record.exists() else ():
            shutil.rmtree(results / name, ignore_errors=True)
        shutil.rmtree(results / "cells" / cell.name, ignore_errors=True)
        record.unlink(missing_ok=True)
        withdraw_run(folder)


def places_of(out: Path, results: Path) -> Places:
    """Where a bench reads and writes; the store elsewhere where SEFT_BENCH_STORE says so, as `out` may be on a shared
    file system.
    """
    return Places(out, results, store_path(out))


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
    """How a run was made and what it says of its reviser, beside the results: manifest, summary, and the grades of
    every draft.
    """
    for name in ("manifest.json", "diagnostics.json"):
        write_atomic(target / name, (run.folder / name).read_text(encoding="utf-8"))
    for name in run.manifest["stages"]:
        grades = stages / name / "revision_grades.jsonl"
        if grades.exists():
            write_atomic(target / f"{name.rpartition('-')[0]}.jsonl", grades.read_text(encoding="utf-8"))
