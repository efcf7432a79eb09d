"""`seft-bench bench` and `demo`: the missing cells, judged as they come, then tables, findings and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from seft_bench.bench.controls import run_controls
from seft_bench.bench.driver import Driver
from seft_bench.bench.events import DriverEvent, Failure, Finished, Progressed, RunsAgain
from seft_bench.bench.executors import ExecutorSettings, check_executor, run_cells
from seft_bench.bench.finished import withdraw_changed
from seft_bench.bench.grading_cost import check_budget
from seft_bench.bench.holds import BENCH
from seft_bench.bench.judges_at_work import check_judges
from seft_bench.bench.matrix import Cell
from seft_bench.bench.plan import plan_bench
from seft_bench.bench.publish import Benched, publish
from seft_bench.bench.resolved import Bench
from seft_bench.bench.shown import summary
from seft_bench.console import CellProgress, cells_shown, note
from seft_bench.errors import EXIT_UNAVAILABLE
from seft_bench.evaluation.spending import agree_to, counted, left_line
from seft_bench.files import held, write_atomic
from seft_bench.inference.budget import Budget
from seft_bench.results import RESULTS, changing


def run_bench(
    bench: Bench,
    executor: ExecutorSettings | None = None,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    budget_usd: float | None = None,
    yes: bool = False,
) -> Benched:
    """Run what is missing of a matrix and write its tables.

    Args:
        only: patterns of cell names; other cells are left as they are.
        retry_failed: run only cells that failed before.
        budget_usd: the most that judges may be paid; when it is spent, cells are still trained and answered.
        yes: do not ask about the price.

    Raises:
        InputError: the executor cannot run it, or nobody agreed to its price; nothing was started.
    """
    settings = executor or ExecutorSettings(workers=bench.matrix.workers)
    check_executor(settings, bench)
    BENCH.check(bench.out)
    RESULTS.check(bench.results, "--results")
    busy = f"another bench is at work in {bench.out}: wait for it, or give another --out"
    with held(bench.out / ".bench.lock", busy):
        plan = plan_bench(bench, only, retry_failed)
        for line in summary(plan):
            note(line)
        check_budget(plan.grading, budget_usd)
        agree_to(plan.cost(), budget_usd, yes)
        BENCH.mark(bench.out)
        RESULTS.mark(bench.results)
        todo, budget = [state.cell for state in plan.todo], Budget(budget_usd)

        def left() -> str:
            return left_line(plan_bench(bench, only).cost())

        with counted(budget, left):
            failures = _run(bench, todo, settings, budget)
            ran = len(todo) - len(failures)
            failures += run_controls(bench, budget)
        if any(failure.exit_status == EXIT_UNAVAILABLE for failure in failures):
            note(left())
        with changing(bench.results):
            return publish(bench, failures, ran, left_out=_changed(bench))


def _run(bench: Bench, todo: Sequence[Cell], settings: ExecutorSettings, budget: Budget) -> list[Failure]:
    """Train and answer on the executor, judge here; a failed cell does not stop the others."""
    failures: list[Failure] = []
    if not todo:
        return failures
    events = run_cells(bench, todo, settings)  # what cannot be placed is refused before anything is asked or removed
    check_judges(bench, budget)
    for cell in todo:
        withdraw_changed(bench, cell)
    errors = {cell.name: bench.error_path(cell) for cell in todo}
    with cells_shown(len(todo)) as progress:
        for event in Driver(bench, budget).events(events):
            _show(event, progress)
            if isinstance(event, Failure):
                failures.append(event)
                write_atomic(errors[event.cell], event.message)
            elif isinstance(event, Finished):
                errors[event.cell].unlink(missing_ok=True)
    return failures


def _show(event: DriverEvent, progress: CellProgress) -> None:
    match event:
        case Progressed(cell, what, done, total):
            progress.under_way(cell, what, done, total)
        case RunsAgain(cell, message):
            note(f"{cell} runs again: {message}")
        case Finished(cell):
            progress.ended(cell)
        case Failure(cell, message):
            progress.ended(cell, message)


def _changed(bench: Bench) -> set[str]:
    """Return the cells that were not chosen now and were trained with other settings than the matrix has.

    Their figures belong in no table of it.
    """
    found = {cell.name for cell in bench.cells if bench.is_changed(cell)}
    if found:
        note(
            f"not in the tables, as they were trained with other settings, data or base: {', '.join(sorted(found))}. "
            "Run them too."
        )
    return found
