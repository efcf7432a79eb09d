"""The command `train`: a recipe's run, its checkpoints on stdout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seft_bench.cli.options import RUNS, RecipeArgument
from seft_bench.console import note
from seft_bench.errors import InputError

if TYPE_CHECKING:
    from seft_bench.stages.dry_run import StagePlan
    from seft_bench.stages.runs import TrainedRun


def train(
    recipe: RecipeArgument = "tiny-seft",
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, also settings.KEY=value.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/<name>.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run's own files and start again.")] = False,
    keep_contaminated: Annotated[
        bool, typer.Option("--keep-contaminated", help="Keep training rows that ask what a suite asks.")
    ] = False,
    checkpoints: Annotated[int, typer.Option(min=1, help="Saved checkpoints of each policy stage.")] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what each stage would take; nothing is trained or kept.")
    ] = False,
    probe: Annotated[
        bool, typer.Option(help="With --dry-run: take a few real steps of each training, for its hours.")
    ] = True,
    gpu_memory_gigabytes: Annotated[
        float | None, typer.Option(help="With --dry-run: the GPU to fit, in GB; default: this machine's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print it as JSON.")] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The most that a judge of samples may be paid, in US dollars; asks nothing.",
            show_default="no limit",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however much grading may cost.")] = False,
) -> None:
    """Train a recipe (default: tiny SEFT). Killed, it goes on; finished, it says so.

    `torchrun --nproc_per_node N -m seft_bench train ...` trains on N GPUs.
    """
    from seft_bench import pipeline
    from seft_bench.config import tinyworld_settings, with_contaminated
    from seft_bench.console import training_shown
    from seft_bench.evaluation.spending import paid_training
    from seft_bench.inference.store import store_path
    from seft_bench.stages import door
    from seft_bench.stages.recipes import load_recipe

    processes = door.distributed.launched_processes()
    chosen = load_recipe(recipe, overrides or [])
    if keep_contaminated:
        chosen = chosen.model_copy(update={"data": with_contaminated(chosen.data)})
    if dry_run:
        if processes.size > 1:
            raise InputError("train --dry-run runs in one process: start it without torchrun")
        plans = pipeline.dry_run(chosen, checkpoints, gpu_gigabytes=gpu_memory_gigabytes, probe=probe)
        _print_plan(plans, as_json)
        return
    folder = out or RUNS / chosen.name
    judge = "rubric" if tinyworld_settings(chosen.data) and chosen.method != "pretrain" else None
    with paid_training(budget, yes, store_path(RUNS)) as graders, training_shown() as shown:
        run = pipeline.train(
            chosen,
            folder,
            checkpoints=checkpoints,
            diagnostics_judge=judge,
            progress=shown.progress,
            watch=shown.watch,
            processes=processes,
            fresh=fresh,
            graders=graders,
        )
    if processes.is_main:
        _tell(run)


def _tell(run: TrainedRun) -> None:
    """Print the checkpoints, and say what the run found out, what it cost, and what to do next."""
    from seft_bench.checkpoints.classifiers import is_reward_model
    from seft_bench.files import read_json
    from seft_bench.stages.diagnostics import describe

    for checkpoint in run.checkpoints:
        print(checkpoint)
    for line in describe(read_json(run.folder / "diagnostics.json")):
        note(line)
    cost = run.manifest["cost"]
    note(
        f"{run.manifest['config']['name']}: {cost['policy_steps']} policy steps, {cost['tokens_trained']} tokens "
        f"trained, {cost['cpu_seconds']:.0f} CPU seconds"
    )
    if is_reward_model(run.checkpoints[-1]):
        note(f"judge by it: `kind: reward-model` and `model: {run.checkpoints[-1]}` in a judge's YAML")
    else:
        note(f"evaluate it: seft-bench eval {run.folder} --suite tiny-mtbench --suite tiny-alpacaeval")


def _print_plan(plans: Sequence[StagePlan], as_json: bool) -> None:
    from seft_bench.stages.dry_run_table import plans_row, plans_text

    print(json.dumps(plans_row(plans), indent=1) if as_json else plans_text(plans))
