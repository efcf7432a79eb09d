"""Runs the stages of a method: train through `training`, sample and revise through `generators`, score through
likelihoods.

A stage's folder is named by the hash of everything that decides its outcome, so methods with equal stages share them, a
finished stage is never run again, and a killed one goes on. This package is the only one that reaches `training`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from seft_bench.errors import InputError
from seft_bench.files import locked, read_json, sha256_file, sha256_folder, sha256_json, write_json
from seft_bench.records import Row, Stage
from seft_bench.stages.common import OUTPUTS, StageRun, Workshop
from seft_bench.stages.door import training
from seft_bench.stages.revise import run_revise
from seft_bench.stages.sample import run_sample
from seft_bench.stages.score import run_score
from seft_bench.stages.train import run_train

__all__ = ["StageRun", "Workshop", "run_stage", "run_stages", "training"]

FORMAT = 1
"""Raised when a change of the code changes what a stage makes: old folders are then not taken for new ones."""


def run_stages(stages: Sequence[Stage], shop: Workshop) -> list[StageRun]:
    """Run a method's stages in order; finished ones are taken as they are."""
    done: dict[str, StageRun] = {}
    for stage in stages:
        done[stage.name] = run_stage(stage, done, shop)
    return list(done.values())


def run_stage(stage: Stage, done: Mapping[str, StageRun], shop: Workshop) -> StageRun:
    identity = _identity(stage, done, shop)
    folder = shop.folder / f"{stage.name}-{sha256_json(identity)[:10]}"
    with locked(shop.folder / ".locks" / folder.name):  # a second cell that needs the same stage waits for it
        if not (folder / "stage.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            clock = _Clock()
            outcome = RUNNERS[stage.kind](stage, _inputs(stage, done, shop), folder, shop)
            write_json(
                folder / "stage.json",
                {"identity": identity, "name": stage.name, "kind": stage.kind, **clock.read(), **outcome},
            )
    return StageRun(stage, folder, read_json(folder / "stage.json", "record of a stage"))


class _Clock:
    """CPU and wall time of a stage in this process."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def read(self) -> Row:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "cpu_seconds": time.process_time() - self._cpu,
            "wall_seconds": time.monotonic() - self._wall,
            "peak_rss_megabytes": peak,
        }


def _identity(stage: Stage, done: Mapping[str, StageRun], shop: Workshop) -> Row:
    """All that decides a stage's outcome: kind, settings, seed, and the contents of its inputs."""
    inputs = {role: _fingerprint(source, done, shop) for role, source in sorted(stage.inputs.items())}
    judge = shop.diagnostics_judge if stage.kind == "revise" else None
    return {
        "format": FORMAT,
        "kind": stage.kind,
        "settings": dict(stage.settings),
        "seed": shop.seed,
        "inputs": inputs,
        "diagnostics_judge": judge,
    }


def _fingerprint(source: str, done: Mapping[str, StageRun], shop: Workshop) -> str:
    kind, _, name = source.partition(":")
    if kind == "stage":
        return done[name].folder.name
    return _folder_hash(shop.base) if kind == "base" else _file_hash(_data_file(shop, name))


@lru_cache(maxsize=64)
def _folder_hash(folder: Path) -> str:
    return sha256_folder(folder)


@lru_cache(maxsize=64)
def _file_hash(path: Path) -> str:
    return sha256_file(path)


def _data_file(shop: Workshop, name: str) -> Path:
    path = shop.data / f"{name}.jsonl"
    if not path.is_file():
        there = ", ".join(sorted(child.name for child in shop.data.glob("*.jsonl"))) or "no .jsonl file"
        raise InputError(
            f"data set {name!r} not found: {path}. In {shop.data}: {there}. docs/data.md says what each data set holds."
        )
    return path


def _inputs(stage: Stage, done: Mapping[str, StageRun], shop: Workshop) -> dict[str, Path]:
    """Role -> folder of a model, or file of rows."""
    return {role: _resolve(role, source, done, shop) for role, source in stage.inputs.items()}


def _resolve(role: str, source: str, done: Mapping[str, StageRun], shop: Workshop) -> Path:
    kind, _, name = source.partition(":")
    if kind == "base":
        return shop.base
    if kind == "data":
        return _data_file(shop, name)
    run = done[name]
    return run.model if run.stage.kind == "train" else run.folder / OUTPUTS[run.stage.kind]


RUNNERS: dict[str, Callable[[Stage, Mapping[str, Path], Path, Workshop], Row]] = {
    "train": run_train,
    "sample": run_sample,
    "score": run_score,
    "revise": run_revise,
}
"""Kind of a stage -> what runs it; each returns what the stage's record shall say beyond times."""
