"""The commands `demo` and `bench`: a matrix's plan, its run, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seft_bench.cli.options import RUNS
from seft_bench.console import note
from seft_bench.errors import EXIT_CRASH, EXIT_UNAVAILABLE, InputError

if TYPE_CHECKING:
    from seft_bench.bench.events import Failure
    from seft_bench.bench.executors import ExecutorSettings
    from seft_bench.bench.publish import Benched
    from seft_bench.bench.resolved import Bench
    from seft_bench.config import MatrixConfig

WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Cells at a time; default: the matrix's. On a Ray cluster its size decides.")
]


def demo(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 1,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for runs and results.")] = RUNS / "demo",
    workers: WorkersOption = None,
) -> None:
    """Train SEFT and its baselines on the tinyworld, judge every checkpoint, print the leaderboard.

    Needs no GPU, key or network.
    """
    from seft_bench.bench.executors import ExecutorSettings
    from seft_bench.bench.resolved import open_bench
    from seft_bench.bench.run import run_bench

    matrix = _matrix("tinyworld", list(range(seed, seed + seeds)))
    opened = open_bench(matrix, out, out / "results")
    _show_outcome(run_bench(opened, ExecutorSettings(workers=workers or matrix.workers)))


def bench(
    matrix: Annotated[str, typer.Argument(help="A shipped matrix (tinyworld) or a YAML file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for runs; default: runs/<matrix>. With Ray on several machines, one that all of them share."
        ),
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Folder for tables; default: <out>/results.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds instead of the matrix's, as in 0,1,2.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only cells of this name, as in 'seft-*' or '*-seed0'; may be repeated.", show_default="all"),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Run only cells that failed before. Without it they run again too, with all others that are missing.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, what is there already and what failed; run nothing.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Estimate the hours first: train and answer a little of each kind of cell.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan (with --dry-run), or the results, as JSON.")
    ] = False,
    executor: Annotated[
        str, typer.Option(help="Where cells run: local (processes of this machine) or ray (tasks of a Ray cluster).")
    ] = "local",
    engine: Annotated[str | None, typer.Option(hidden=True, help="The former name of --executor.")] = None,
    address: Annotated[
        str, typer.Option(help="Of the Ray cluster; auto: the one that runs here, local: start one.")
    ] = "auto",
    workers: WorkersOption = None,
    cpus_per_cell: Annotated[
        int | None, typer.Option(min=1, help="Cores of a cell; default: the matrix's, else shared out; 1 with Ray.")
    ] = None,
    gpus_per_cell: Annotated[
        float | None, typer.Option(min=0, help="GPUs of a cell; default: the matrix's, else 1 where there are any.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The most that judges may be paid, in US dollars; asks nothing.",
            show_default="no limit",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however much the judges may cost.")] = False,
    retries: Annotated[int, typer.Option(min=0, help="How often a cell runs again whose worker or node was lost.")] = 2,
) -> None:
    """Train and evaluate every cell of a matrix: base x method x data x seed x checkpoint x suite x judge.

    Run again, it does what is missing.
    """
    from seft_bench.bench.executors import ExecutorSettings
    from seft_bench.bench.resolved import open_bench

    chosen = _matrix(matrix, _seeds(seeds))
    folder = out or RUNS / Path(matrix).stem
    settings = ExecutorSettings(
        _executor_name(executor, engine),
        workers or chosen.workers,
        address,
        cpus_per_cell or chosen.cpus_per_cell,
        chosen.gpus_per_cell if gpus_per_cell is None else gpus_per_cell,
        retries,
    )
    opened = open_bench(chosen, folder, results or folder / "results")
    if dry_run or probe:
        _show_plan(opened, only or [], retry_failed, settings if probe else None, as_json)
    if not dry_run:
        from seft_bench.bench.run import run_bench  # tables and pictures, which a plan does without

        _show_outcome(run_bench(opened, settings, only or [], retry_failed, budget, yes), as_json)


def _executor_name(executor: str, engine: str | None) -> str:
    """The executor's name, which --engine gave until it was renamed."""
    if engine is None:
        return executor
    note("--engine of `seft-bench bench` is now called --executor; the old name goes with the next release")
    return engine


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--seeds takes whole numbers separated by commas, as in 0,1,2; got {text!r}") from None


def _matrix(name: str, seeds: list[int] | None) -> MatrixConfig:
    from seft_bench.config import load_matrix

    loaded = load_matrix(name)
    return loaded.model_copy(update={"seeds": seeds}) if seeds else loaded


def _show_plan(
    opened: Bench, only: Sequence[str], retry_failed: bool, probed_on: ExecutorSettings | None, as_json: bool
) -> None:
    """Print the plan, with hours where an executor is given to probe them for."""
    from seft_bench.bench.plan import plan_bench
    from seft_bench.bench.probe import probe_hours
    from seft_bench.bench.shown import plan_row, plan_text

    plan = plan_bench(opened, only, retry_failed)
    hours = probe_hours(opened, plan.todo, probed_on) if probed_on else None
    print(json.dumps(plan_row(plan, hours), indent=1) if as_json else plan_text(plan, hours))


def _show_outcome(done: Benched, as_json: bool = False) -> None:
    """Print figures and findings, note what was written and what failed, and end with the failures' status."""
    from seft_bench.cli.figures import print_json, print_tables
    from seft_bench.report.leaderboard import method_tables

    if as_json:
        print_json(done.results)
    else:
        print_tables(method_tables(done.results) if done.results else [])
        for sentence in done.findings:
            print(f"- {sentence}")
    for path in done.written:
        note(f"written: {path}")
    if not done.ran and not done.failures:
        note("nothing to do: every cell is finished. The table above is from the results at hand.")
    for failure in done.failures:
        note(f"FAILED {failure.cell}: {failure.message}")
    if done.failures:
        note(
            "the other cells are finished; the same command runs the failed ones again, and --retry-failed nothing else"
        )
        raise typer.Exit(exit_status(done.failures))


def exit_status(failures: Sequence[Failure]) -> int:
    """Return the judge's status (6) where it is all that failed: gone, or its budget spent."""
    statuses = {failure.exit_status for failure in failures}
    return EXIT_UNAVAILABLE if statuses == {EXIT_UNAVAILABLE} else EXIT_CRASH
