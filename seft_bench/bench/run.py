"""`seft-bench bench` and `demo`: the cells that are missing, judged as they come, then tables, findings and
pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seft_bench.bench import matrix as matrices
from seft_bench.bench.cells import withdraw_changed
from seft_bench.bench.controls import run_controls
from seft_bench.bench.driver import Driver
from seft_bench.bench.executors import EngineSettings, check_engine, run_cells
from seft_bench.bench.matrix import Cell, Failure
from seft_bench.bench.plan import plan_of
from seft_bench.bench.publish import Benched, publish
from seft_bench.bench.shown import summary
from seft_bench.config import MatrixConfig
from seft_bench.console import cells_shown, note
from seft_bench.errors import EXIT_CRASH, EXIT_UNAVAILABLE
from seft_bench.evaluation.spending import agree_to, counted, left_line
from seft_bench.files import held, write_atomic
from seft_bench.inference.budget import Budget
from seft_bench.stages.runs import is_other_run


def bench(
    matrix: MatrixConfig,
    out: Path,
    results: Path,
    engine: EngineSettings | None = None,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    budget_usd: float | None = None,
    yes: bool = False,
) -> Benched:
    """Run what is missing of a matrix and write its tables.

    Args:
        out: runs, stages and answers.
        results: tables, figures and one result.json a row.
        only: patterns of cell names; other cells are left as they are.
        retry_failed: run only cells that failed before.
        budget_usd: the most that judges may be paid; when it is spent, cells are still trained and answered.
        yes: do not ask about the price.

    Raises:
        InputError: the matrix cannot run, or nobody agreed to its price; nothing was started.
    """
    settings = engine or EngineSettings(workers=matrix.workers)
    matrices.check(matrix)
    check_engine(settings, matrix)
    with held(out / ".bench.lock", f"another bench is at work in {out}: wait for it, or give another --out"):
        plan = plan_of(matrix, out, results, only, retry_failed)
        for line in summary(plan):
            note(line)
        agree_to(plan.cost(), budget_usd, yes)
        todo, budget = [state.cell for state in plan.todo], Budget(budget_usd)

        def left() -> str:
            return left_line(plan_of(matrix, out, results, only).cost())

        with counted(budget, left):
            failures = _run(matrix, todo, out, results, settings, budget)
            ran = len(todo) - len(failures)
            failures += run_controls(matrix, out, results, budget)
        if any(failure.exit_status == EXIT_UNAVAILABLE for failure in failures):
            note(left())
        return publish(matrix, results, failures, ran, left_out=_changed(matrix, out))


def _changed(matrix: MatrixConfig, out: Path) -> set[str]:
    """Cells that were not chosen now and were trained with other settings than the matrix has: their figures belong in
    no table of it.
    """
    found = {
        cell.name
        for cell in matrices.cells(matrix)
        if is_other_run(matrices.recipe_of(matrix, cell), out / "cells" / cell.name, matrix.checkpoints)
    }
    if found:
        note(
            f"not in the tables, as they were trained with other settings, data or base: {', '.join(sorted(found))}. "
            "Run them too."
        )
    return found


def _run(
    matrix: MatrixConfig, todo: Sequence[Cell], out: Path, results: Path, settings: EngineSettings, budget: Budget
) -> list[Failure]:
    """Train and answer on the engine, judge here; a failed cell does not stop the others."""
    failures: list[Failure] = []
    if not todo:
        return failures
    by_name = {cell.name: cell for cell in todo}
    driver = Driver(matrix, out, results, budget)
    driver.check_judges()
    for cell in todo:
        withdraw_changed(matrix, cell, out, results)
    with cells_shown(len(todo)) as progress:
        for event in driver.events(run_cells(matrix, todo, out, settings)):
            progress.handle(event)
            if event["event"] == "failed":
                failures.append(Failure(event["cell"], event["message"], event.get("exit_status", EXIT_CRASH)))
                write_atomic(matrices.error_path(out, by_name[event["cell"]]), event["message"])
            elif event["event"] == "done":
                matrices.error_path(out, by_name[event["cell"]]).unlink(missing_ok=True)
    return failures
