"""A matrix: rows (methods with settings) x seeds, each trained and then evaluated at every saved checkpoint.

A cell is one row and one seed. Cells run in worker processes that stay alive, because importing torch and transformers
costs more than training a small model; cells meet at files, so a killed matrix goes on where it stopped.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.config import MatrixConfig, MatrixRow, RecipeConfig
from seft_bench.errors import SeftBenchError
from seft_bench.files import sha256_json, write_json
from seft_bench.records import Result, to_row

Event = dict[str, Any]
"""{"cell", "event": "progress" | "done" | "failed", ...}"""


@dataclass(frozen=True)
class Cell:
    """One row and one seed of a matrix."""

    row: MatrixRow
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row.name}-seed{self.seed}"


@dataclass(frozen=True)
class Failure:
    """A cell that ended with an error: the message, with a traceback where it is a defect of ours."""

    cell: str
    message: str


def cells(matrix: MatrixConfig) -> list[Cell]:
    """All cells, seed by seed, in the order of the rows: rows that others build on come first."""
    return [Cell(row, seed) for seed in matrix.seeds for row in matrix.rows]


def recipe_of(matrix: MatrixConfig, cell: Cell) -> RecipeConfig:
    return RecipeConfig(name=cell.name, method=cell.row.method, base=matrix.base, data=matrix.data, seed=cell.seed, settings=cell.row.settings)


def check(matrix: MatrixConfig) -> None:
    """Refuse a matrix that cannot run, before anything is trained: methods, settings, suites, judges, base.

    Raises:
        InputError: the first thing that is wrong.
    """
    from seft_bench.config import load_judge
    from seft_bench.datasets import open_base
    from seft_bench.published import load_published
    from seft_bench.stages import training
    from seft_bench.suites import load_suite

    open_base(matrix.base)
    for row in matrix.rows:
        training("methods").build_stages(row.method, row.settings, matrix.checkpoints)
    for name in matrix.suites:
        load_judge(matrix.judge or load_suite(name).config.default_judge)
    if matrix.diagnostics_judge:
        load_judge(matrix.diagnostics_judge)
    if matrix.published:
        load_published(matrix.published)


def is_finished(matrix: MatrixConfig, cell: Cell, out: Path, results: Path) -> bool:
    """Was this very cell, with these settings and suites, trained and evaluated already, and are its results in `results`?"""
    from seft_bench.files import read_json

    path = _done_path(out, cell)
    if not path.exists():
        return False
    record = read_json(path, "record of a cell")
    return record.get("identity") == _identity(matrix, cell) and all((results / name / "questions.json").exists() for name in record["results"])


def _done_path(out: Path, cell: Cell) -> Path:
    return out / "cells" / cell.name / "cell.json"


def _identity(matrix: MatrixConfig, cell: Cell) -> str:
    shared = matrix.model_dump(mode="json", exclude={"rows", "seeds", "workers", "name", "description", "controls", "published"})
    return sha256_json([shared, cell.row.model_dump(mode="json"), cell.seed])


def run_cell(matrix: MatrixConfig, cell: Cell, out: Path, results: Path, progress: Callable[[str, int, int], None]) -> list[Result]:
    """Train one cell and evaluate every checkpoint of it on every suite."""
    from seft_bench import pipeline
    from seft_bench.results import result_folder
    from seft_bench.runs import run_facts

    run = pipeline.train(
        recipe_of(matrix, cell),
        out / "cells" / cell.name,
        stages_folder=out / "stages",
        checkpoints=matrix.checkpoints,
        diagnostics_judge=matrix.diagnostics_judge,
        progress=progress,
    )
    places = pipeline.Places(out, results, out / "store.sqlite")
    scored: list[Result] = []
    for checkpoint in run.checkpoints:
        facts = run_facts(
            cell.row.name,
            cell.row.label or cell.row.name,
            cell.row.role,
            run.manifest["config"],
            run.manifest["cost"],
            checkpoint.name,
            checkpoint == run.checkpoints[-1],
        )
        subject = pipeline.checkpoint_subject(checkpoint, f"{cell.name}/{checkpoint.name}", facts)
        for name in matrix.suites:
            scored += _evaluate(matrix, name, subject, places, cell.seed, progress)
    _publish_records(run, out / "stages", results / "cells" / cell.name)
    names = [str(result_folder(results, result).relative_to(results)) for result in scored]
    write_json(_done_path(out, cell), {"identity": _identity(matrix, cell), "results": names})
    return scored


def _publish_records(run: Any, stages: Path, target: Path) -> None:
    """How a run was made and what it says of its reviser, beside the results: manifest, summary, and the grades of every draft."""
    from seft_bench.files import write_atomic

    for name in ("manifest.json", "diagnostics.json"):
        write_atomic(target / name, (run.folder / name).read_text(encoding="utf-8"))
    for name in run.manifest["stages"]:
        grades = stages / name / "revision_grades.jsonl"
        if grades.exists():
            write_atomic(target / f"{name.rpartition('-')[0]}.jsonl", grades.read_text(encoding="utf-8"))


def _evaluate(matrix: MatrixConfig, suite_name: str, subject: Any, places: Any, seed: int, progress: Callable[[str, int, int], None]) -> list[Result]:
    from seft_bench import pipeline
    from seft_bench.config import load_judge
    from seft_bench.engines import closed_at_the_end, in_turn
    from seft_bench.judges import open_judge
    from seft_bench.suites import load_suite

    suite = load_suite(suite_name)
    judge = open_judge(load_judge(matrix.judge or suite.config.default_judge), places.store)
    scored: list[Result] = []
    with closed_at_the_end(None, [judge]):
        for *_, steps in in_turn([subject], [suite], [judge], pipeline.STEPS, None):
            scored += pipeline.evaluate(subject, suite, judge, places, steps=steps, seed=seed, progress=progress)
    return scored


def of_matrix(matrix: MatrixConfig, results: Sequence[Result]) -> list[Result]:
    """The results of a matrix's cells, in the order of its rows, seeds and steps; others are left out."""
    order = {row.name: index for index, row in enumerate(matrix.rows)}
    own = [result for result in results if result.run.get("row") in order and result.run.get("seed") in matrix.seeds]
    return sorted(own, key=lambda result: (order[result.run["row"]], result.run["seed"], result.run["step"], result.suite, result.decoding))


# Running cells, one or several at a time


def run_cells(matrix: MatrixConfig, todo: Sequence[Cell], out: Path, results: Path, workers: int) -> Iterator[Event]:
    """Run cells in `workers` processes; yields what happens. A failed cell does not stop the others.

    Closing the iterator (Ctrl-C) ends the workers; what they had finished stays.
    """
    context = multiprocessing.get_context("spawn")  # fork and torch's threads do not go together
    tasks: Any = context.SimpleQueue()
    events: Any = context.Queue()
    for cell in todo:
        tasks.put((cell.row.model_dump(), cell.seed))
    count = min(workers, len(todo))
    for _ in range(count):
        tasks.put(None)
    arguments = (matrix.model_dump(mode="json"), str(out), str(results), tasks, events, max(1, (os.cpu_count() or 1) // count) if count else 1)
    processes = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield from _follow(processes, events, len(todo))
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _follow(processes: Sequence[Any], events: Any, count: int) -> Iterator[Event]:
    ended = 0
    while ended < count:
        try:
            event: Event = events.get(timeout=1.0)
        except queue.Empty:
            if any(process.is_alive() for process in processes):
                continue
            yield {"cell": "", "event": "failed", "message": "the worker processes ended without a word (killed, or out of memory); run the same command again"}
            return
        ended += event["event"] in ("done", "failed")
        yield event


def _work(matrix_values: dict[str, Any], out: str, results: str, tasks: Any, events: Any, threads: int) -> None:
    """A worker: takes cells until there are none left."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it ends the workers
    _limit_threads(threads)
    matrix = MatrixConfig.model_validate(matrix_values)
    for row, seed in iter(tasks.get, None):
        cell = Cell(MatrixRow.model_validate(row), seed)
        events.put(_outcome(matrix, cell, Path(out), Path(results), events))


def _limit_threads(threads: int) -> None:
    """Processes that share cores must not each use all of them. Small models are fastest on one thread."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _outcome(matrix: MatrixConfig, cell: Cell, out: Path, results: Path, events: Any) -> Event:
    def report(what: str, done: int, total: int) -> None:
        events.put({"cell": cell.name, "event": "progress", "what": what, "done": done, "total": total})

    try:
        scored = run_cell(matrix, cell, out, results, report)
    except SeftBenchError as error:
        return {"cell": cell.name, "event": "failed", "message": str(error)}
    except Exception:
        return {"cell": cell.name, "event": "failed", "message": traceback.format_exc()}
    return {"cell": cell.name, "event": "done", "results": [to_row(result) for result in scored]}
