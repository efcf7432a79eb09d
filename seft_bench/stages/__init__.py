"""Runs the stages of a method: training through `training`, sampling and revising through `generators`.

A stage's folder is named by the hash of everything that decides its outcome, so methods with equal stages share them, a
finished stage is never run again, and a killed one goes on. This package is the only one that reaches `training`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.checkpoints import fingerprint
from seft_bench.config import EngineName
from seft_bench.console import says_who
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_once, sha256_file, sha256_json, write_json
from seft_bench.records import Base, Data, Model, Output, Row, Source
from seft_bench.stages import door
from seft_bench.stages.check import check_data
from seft_bench.stages.common import Find, StageRun, Workshop
from seft_bench.stages.costs import gpus_in_use, stage_costs
from seft_bench.stages.engines import Engine
from seft_bench.stages.graders import judge_identity
from seft_bench.stages.helpers import with_helpers
from seft_bench.stages.pair import run_pair
from seft_bench.stages.revise import run_revise
from seft_bench.stages.sample import run_sample
from seft_bench.stages.score import run_score
from seft_bench.stages.to_grade import Grading, check_graders
from seft_bench.stages.train import run_train

if TYPE_CHECKING:
    from seft_bench.stages.door import distributed
    from seft_bench.stages.door import stages as kinds

__all__ = ["StageRun", "Workshop", "folder_name", "grading_of", "run_stage", "run_stages", "stage_identity"]

FORMAT = 2
"""Raised when a change of the code changes what a stage makes: old folders are then not taken for new ones."""

_file_hash = read_once(sha256_file)


def run_stages(stages: Sequence[kinds.Stage], shop: Workshop) -> list[StageRun]:
    """Run a method's stages in order, once their data are checked; finished ones are taken as they are."""
    grading = grading_of(stages, shop)
    check_data(stages, grading.left, lambda source: _find(source, {}, shop), shop.progress)
    shop.processes.from_main(lambda: check_graders(grading))
    done: dict[str, StageRun] = {}
    for stage in stages:
        done[stage.name] = run_stage(stage, done, shop)
    return list(done.values())


def grading_of(stages: Sequence[kinds.Stage], shop: Workshop) -> Grading:
    """Return what is left to do of the stages, as far as grading them goes."""
    folders = _folders(stages, shop)
    left = [stage for stage in stages if not (folders[stage.name] / "stage.json").exists()]
    return Grading(stages, left, folders, lambda source: _find(source, {}, shop), shop.graders)


def _folders(stages: Sequence[kinds.Stage], shop: Workshop) -> dict[str, Path]:
    """Return each stage's folder: its name follows from what goes in, be it there or not."""
    names: dict[str, str] = {}
    for stage in stages:
        names[stage.name] = folder_name(stage, _identity(stage, names, shop))
    return {stage: shop.folder / name for stage, name in names.items()}


def _identity(stage: kinds.Stage, names: Mapping[str, str], shop: Workshop) -> Row:
    """Return a stage's identity, given the folder names of the stages before it."""
    grader = door.stages.grader_of(stage)
    graded = {"judge": judge_identity(grader)} if grader else {}
    return graded | stage_identity(
        stage, lambda source: _fingerprint(source, names, shop), shop.seed, shop.diagnostics_judge, shop.engine.name
    )


def run_stage(stage: kinds.Stage, done: Mapping[str, StageRun], shop: Workshop) -> StageRun:
    """Run one stage, or take it as it is where it is finished."""
    identity = _identity(stage, {name: run.folder.name for name, run in done.items()}, shop)
    folder = shop.folder / folder_name(stage, identity)
    processes = shop.processes
    lock, busy = shop.folder / ".locks" / folder.name, says_who(f"makes the stage {folder.name}")
    with processes.locked(lock, busy):  # a second run that needs the same stage waits for it
        if not processes.from_main((folder / "stage.json").exists):
            folder.mkdir(parents=True, exist_ok=True)
            clock = _Clock(processes)
            outcome = _run(stage, lambda source: _find(source, done, shop), folder, shop)
            seconds = clock.read()
            if processes.is_main:
                costs = stage_costs(stage, lambda data: _data_file(shop, data.name), outcome, seconds)
                named = {"identity": identity, "name": stage.name, "kind": stage.kind}
                write_json(folder / "stage.json", {**named, **seconds, **outcome, **costs})
    return StageRun(stage, folder, read_json(folder / "stage.json", "record of a stage"))


def _run(stage: kinds.Stage, find: Find, folder: Path, shop: Workshop) -> Row:
    """Run what the stage's kind says; return what its record shall say beyond times."""
    if stage.kind == "train":
        shop.engine.release()  # a training wants all memory
        return run_train(stage, find, folder, shop)
    if stage.kind == "pair":
        return shop.processes.from_main(lambda: run_pair(stage, find, folder))

    def work(engine: Engine) -> Row:
        return _run_between_trainings(stage, find, folder, replace(shop, engine=engine)) | engine.facts()

    shop.engine.make_room()
    return with_helpers(shop.processes, shop.engine, work)


def _run_between_trainings(
    stage: kinds.Sample | kinds.Score | kinds.Revise, find: Find, folder: Path, shop: Workshop
) -> Row:
    if stage.kind == "sample":
        return run_sample(stage, find, folder, shop)
    if stage.kind == "score":
        return run_score(stage, find, folder, shop)
    return run_revise(stage, find, folder, shop)


class _Clock:
    """CPU time of a stage in all processes, its wall time in this one, and how many of them hold a GPU."""

    def __init__(self, processes: distributed.Processes) -> None:
        self._processes = processes
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def read(self) -> Row:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "cpu_seconds": self._processes.total(time.process_time() - self._cpu),
            "wall_seconds": time.monotonic() - self._wall,
            "gpus": round(self._processes.total(gpus_in_use())),
            "peak_rss_megabytes": peak,
        }


# Names: everything that decides a stage's outcome


def stage_identity(
    stage: kinds.Stage,
    fingerprint: Callable[[Source], str],
    seed: int,
    diagnostics_judge: str | None,
    engine: EngineName = "transformers",
) -> Row:
    """Gather all that decides a stage's outcome: kind, settings, seed, the contents of its inputs, and the engine.

    The first engine is not named, as it came before the others.
    """
    named = {} if engine == "transformers" or stage.kind in ("train", "pair") else {"engine": engine}
    return {
        "format": FORMAT,
        "kind": stage.kind,
        "settings": stage.settings_row(),
        "seed": seed,
        "inputs": {role: fingerprint(source) for role, source in sorted(stage.inputs.items())},
        "diagnostics_judge": diagnostics_judge if stage.kind == "revise" else None,
        **named,
    }


def folder_name(stage: kinds.Stage, identity: Row) -> str:
    return f"{stage.name}-{sha256_json(identity)[:10]}"


def _fingerprint(source: Source, names: Mapping[str, str], shop: Workshop) -> str:
    match source:
        case Base():
            return fingerprint(shop.base)
        case Data(name):
            return _file_hash(_data_file(shop, name))
        case Output(name):
            return names[name]
        case Model(name):
            return fingerprint(shop.ready[name])


# Places: where the inputs lie


def _find(source: Source | None, done: Mapping[str, StageRun], shop: Workshop) -> Path:
    match source:
        case Base():
            return shop.base
        case Data(name):
            return _data_file(shop, name)
        case Output(name):
            return done[name].output
        case Model(name):
            return shop.ready[name]
        case None:
            raise TypeError("the stage was built without an input that its settings need")


def _data_file(shop: Workshop, name: str) -> Path:
    path = shop.data / f"{name}.jsonl"
    if not path.is_file():
        there = ", ".join(sorted(child.name for child in shop.data.glob("*.jsonl"))) or "no .jsonl file"
        raise InputError(
            f"data set {name!r} not found: {path}. In {shop.data}: {there}. docs/data.md says what each data set holds."
        )
    return path
