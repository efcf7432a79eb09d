"""A training run's folder: its checkpoints, log, recipe, diagnostics, and the manifest that marks it finished."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.config import RecipeConfig
from seft_bench.console import note
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_log, write_atomic, write_json, write_jsonl
from seft_bench.manifest import build_manifest
from seft_bench.ownership import remove_listed
from seft_bench.records import COSTS, Output, Row, RunFacts, to_row
from seft_bench.stages import StageRun, door
from seft_bench.stages.costs import total_costs
from seft_bench.stages.holds import CHECKPOINTS, LOGS, PUBLISHED, RUN
from seft_bench.stages.linking import link_folder
from seft_bench.stages.recipes import contents_of


@dataclass(frozen=True)
class TrainedRun:
    """A finished run: its folder, its checkpoints in the order of their steps, and its manifest."""

    folder: Path
    checkpoints: tuple[Path, ...]
    manifest: Mapping[str, Any]


def finished_run(recipe: RecipeConfig, out: Path, checkpoints: int) -> TrainedRun | None:
    """Find the run of this very recipe in `out`; None where there is none yet.

    Args:
        checkpoints: how many are asked for; they decide what the stages save.

    Raises:
        InputError: the folder holds a run of another recipe, or with another number of checkpoints.
    """
    run = _run_in(out)
    if run is None or (what := _other_than(run.manifest, recipe, checkpoints)) is None:
        return run
    raise InputError(
        f"{out} holds a run {what}. Give another --out, or --fresh to start again there. Its recipe: "
        f"{out / 'recipe.yaml'}"
    )


def matching_run(recipe: RecipeConfig, out: Path, checkpoints: int) -> TrainedRun | None:
    """Find the run in `out`; None where there is none yet or one of something else."""
    run = _run_in(out)
    return None if run is None or _other_than(run.manifest, recipe, checkpoints) else run


def is_other_run(recipe: RecipeConfig, out: Path, checkpoints: int) -> bool:
    """Return whether `out` holds a run that is not the one asked for."""
    return _run_in(out) is not None and matching_run(recipe, out, checkpoints) is None


def _run_in(out: Path) -> TrainedRun | None:
    return published_run(out) if (out / "manifest.json").exists() else None


def published_run(out: Path) -> TrainedRun:
    """Read the run that was published in a folder."""
    manifest = read_json(out / "manifest.json", "manifest of a run")
    return TrainedRun(out, tuple(out / "checkpoints" / name for name in manifest["checkpoints"]), manifest)


def _other_than(manifest: Mapping[str, Any], recipe: RecipeConfig, checkpoints: int) -> str | None:
    """Say what tells a run from the one asked for; None where nothing does."""
    if _outcome(manifest["config"]) != _outcome(recipe.as_row()):
        return "of another recipe"
    contents, parents = contents_of(recipe), manifest.get("parents", {})
    known = {role: parents.get(role, parents.get("data", digest)) for role, digest in contents.items()}
    if other := [role for role, digest in contents.items() if known[role] != digest]:
        return f"whose {' and '.join(other)} held something else"
    # Old runs do not say how many were asked for.
    asked = manifest.get("checkpoints_asked", len(manifest["checkpoints"]))
    return None if asked == checkpoints else f"that was asked for {asked} checkpoints, not {checkpoints}"


def _outcome(config: Mapping[str, Any]) -> Row:
    """Leave out what changes nothing that is made, as how a server was started, and null keys, which may be newer."""
    decides = door.settings.without_outcome_stays(config)
    return {key: value for key, value in decides.items() if key != "vllm" and value is not None}


def withdraw_run(out: Path) -> None:
    """Take back a published run whose stages lie elsewhere, so that nothing is lost.

    The manifest goes last, so a killed withdrawal is seen and repeated.
    """
    RUN.mark(out)
    remove_listed(out / "checkpoints", CHECKPOINTS)
    for name in PUBLISHED:
        (out / name).unlink(missing_ok=True)


def publish_run(
    recipe: RecipeConfig,
    out: Path,
    stages: Sequence[StageRun],
    checkpoints: int,
    started_at: str,
    parents: Mapping[str, str],
    data: Mapping[str, Row],
) -> None:
    """Fill the run's folder from its stages; the manifest comes last of all.

    Args:
        stages: all finished stages, the one that trained the policy last.
        checkpoints: how many to publish, evenly spaced over all rounds of the policy.
        parents: hashes of what it was made from.
        data: data set -> where it came from, and what of it was used.
    """
    import yaml

    chain = policy_chain(stages)
    published = [(f"step-{step:06d}", folder) for step, folder in spread_checkpoints(chain, checkpoints)]
    # Without a manifest they may be another recipe's, of a publishing that was killed.
    remove_listed(out / "checkpoints", CHECKPOINTS)
    for name, folder in published:
        link_folder(folder, out / "checkpoints" / name)
    logged = [stage for stage in stages if stage.stage.name == "reviser"] if chain[0].stage.kind == "pair" else chain
    for name in LOGS:
        if rows := _log(logged, name):
            write_jsonl(out / name, rows)
    write_atomic(out / "recipe.yaml", yaml.safe_dump(recipe.as_row(), sort_keys=False))
    write_json(
        out / "diagnostics.json", {stage.stage.name: said for stage in stages if (said := _diagnostics(stage.record))}
    )
    names = [name for name, _ in published]
    manifest = to_row(build_manifest(recipe.as_row(), recipe.seed, started_at, parents=parents))
    manifest |= {
        "checkpoints": names,
        "checkpoints_asked": checkpoints,
        "stages": [stage.folder.name for stage in stages],
        "graded_by": {stage.stage.name: stage.record["graded_by"] for stage in stages if "graded_by" in stage.record},
        "training_rows": {stage.stage.name: stage.record["data"] for stage in stages if "data" in stage.record},
        "cost": run_cost(stages),
        "data": dict(data),
    }
    write_json(out / "manifest.json", manifest)


def policy_chain(stages: Sequence[StageRun]) -> list[StageRun]:
    """Follow the train stages that made the policy, in order: its rounds, without the start that all share.

    Of an aligner, whose policy is not trained, it is the stage that puts the two models together.
    """
    by_name = {stage.stage.name: stage for stage in stages}
    chain = [stages[-1]]
    if chain[0].stage.kind == "pair":
        return chain
    while isinstance(source := chain[0].stage.inputs["model"], Output) and source.stage != "start":
        chain.insert(0, by_name[source.stage])
    return chain


def spread_checkpoints(chain: Sequence[StageRun], count: int) -> list[tuple[int, Path]]:
    """Choose, of the checkpoints of all rounds, the ones nearest to evenly spaced steps.

    Returns:
        Each with its step since the start of the first round.
    """
    found: list[tuple[int, Path]] = []
    before = 0
    for stage in chain:
        found += [
            (before + int(name.rpartition("-")[2]), stage.folder / "checkpoints" / name)
            for name in stage.record["checkpoints"]
        ]
        before += stage.record["steps"]
    nearest = {
        min(found, key=lambda item: (abs(item[0] - before * part / count), -item[0])) for part in range(1, count + 1)
    }
    return sorted(nearest)


def _log(chain: Sequence[StageRun], name: str) -> list[Row]:
    """Join one log of all rounds, with steps counted through; empty where no round has it."""
    rows: list[Row] = []
    before = 0
    for stage in chain:
        logged = read_log(stage.folder / name)
        rows += [{**row, "step": before + row["step"], "stage": stage.stage.name} for row in logged]
        before += stage.record["steps"]
    return rows


GRADING = ("graded_by", "samples_graded", "ungraded_by_status", "prompts_graded_alike")


def _diagnostics(record: Mapping[str, Any]) -> Row:
    """Pick what a stage says of itself: label counts, calibration, keep rate, gain and harm, grades, held-out loss."""
    told = (
        "label_counts",
        "calibration",
        "diagnostics",
        "cut_off_share",
        "validation",
        "held_out_accuracy",
        "stopped_early_at",
        *GRADING,
    )
    return {key: record[key] for key in told if key in record}


def run_cost(stages: Sequence[StageRun]) -> Row:
    """Add up the cost of a run on its own, shared stages included; None is what an older stage's record leaves out."""
    records = [stage.record for stage in stages]
    policy_steps = sum(stage.record["steps"] for stage in policy_chain(stages))
    return total_costs(records) | {
        "policy_steps": policy_steps,
        "cpu_seconds": round(sum(record["cpu_seconds"] for record in records), 2),
    }


def run_facts(
    row: str, label: str, role: str, config: Mapping[str, Any], cost: Mapping[str, Any], checkpoint: str, final: bool
) -> RunFacts:
    """Gather what tables and curves say of the training behind a checkpoint, see `Result.run`."""
    took: dict[str, Any] = {key: cost.get(key) for key in COSTS}
    return RunFacts(
        row,
        label,
        role,
        config["method"],
        config["seed"],
        step=int(checkpoint.rpartition("-")[2]),
        final=final,
        **took,
    )


def check_forgettable(folder: Path) -> None:
    """Refuse to start a run afresh in a folder that holds something and no run.

    Raises:
        InputError: what it holds.
    """
    theirs = _beside(folder)
    if theirs and not RUN.is_ours(folder):
        raise InputError(
            f"--fresh would delete a run in {folder}, which is none of seft-bench; it holds {', '.join(theirs[:8])}. "
            "Delete it yourself, or give another --out."
        )


def forget_run(folder: Path, but: Collection[str] = ()) -> None:
    """Delete what is a run's of its folder, and the folder where nothing else is in it.

    Args:
        but: names of files in it that stay, as a lock that is held.

    Raises:
        InputError: the folder is no run, and not empty.
    """
    check_forgettable(folder)
    RUN.remove(folder, but)
    if left := _beside(folder, {RUN.mark_of(folder).name, *but}):
        note(f"--fresh leaves in {folder} what is not the run's: {', '.join(left[:8])}")


def _beside(folder: Path, names: Collection[str] = ()) -> list[str]:
    return sorted(child.name for child in folder.iterdir() if child.name not in names) if folder.is_dir() else []


_ANY_RUN_HAS_ONE = re.compile(r"(checkpoint|step|epoch)[-_]?\d+|final|last|best|model")


def checkpoint_name(folder: Path) -> str:
    """Name a checkpoint in tables: its folder's, with its run's before it where that says too little.

    One of our runs (or a stage of one) is named run/step; so are trainers' folders like `my-run/checkpoint-500`.
    """
    real = folder if folder.parent.name == "checkpoints" else folder.resolve()
    run = real.parent.parent
    if real.parent.name == "checkpoints" and any((run / name).is_file() for name in ("manifest.json", "stage.json")):
        return f"{run.name}/{real.name}"
    return (
        f"{real.parent.name}/{real.name}" if _ANY_RUN_HAS_ONE.fullmatch(real.name) and real.parent.name else real.name
    )
