"""The files of a run's folder: all that is ever removed of it. What makes a new file there lists it here."""

from __future__ import annotations

import re
from pathlib import Path

from seft_bench.checkpoints.holds import ANSWERING, CHECKPOINT, EVENT_FILES, STATE
from seft_bench.checkpoints.steps import read_object
from seft_bench.config import ROLES
from seft_bench.ownership import Holds, Kind, is_file, saved_in_steps
from seft_bench.stages.common import OUTPUTS

LOGS = ("train.jsonl", "validation.jsonl")
"""Logs of the policy's training, each joined over all rounds."""
PUBLISHED = (*LOGS, "recipe.yaml", "diagnostics.json", "manifest.json")
"""Files of a finished run beside its checkpoints, in the order in which they may go."""

RUN_LOCK = ".run.lock"

CHECKPOINTS: Holds = saved_in_steps(ANSWERING)
_MERGED: Holds = {r"[0-9a-f]{16}|\.writing-[0-9a-f]{16}": CHECKPOINT, r"\.[0-9a-f]{16}\.lock": is_file}
_STAGE: Holds = {
    r"stage\.json|run\.json|summary\.json|\.lock|\.merged-base\.lock": is_file,
    r"(training_rows|learnt_rows|held_out_rows|train|timings|validation|sampled)\.jsonl": is_file,
    r"(revision_grades|judgments|replies)\.jsonl": is_file,
    "|".join(map(re.escape, OUTPUTS.values())): is_file,
    "checkpoints": CHECKPOINTS,
    "state": saved_in_steps(STATE),
    "reference": {r"[0-9a-f]{32}\.safetensors": is_file},
    r"merged-base|\.writing-merged-base": CHECKPOINT,
    "tensorboard": EVENT_FILES,
}
_STAGE_NAME = r"[\w.-]+-[0-9a-f]{10}"
STAGES: Holds = {_STAGE_NAME: _STAGE, r"\.locks": {_STAGE_NAME: is_file}, r"merged-[a-z0-9_]{8}": _MERGED}
"""Finished and unfinished stages, which several runs may share."""

_DATA_SET: Holds = {rf"({'|'.join(ROLES)})\.jsonl|manifest\.json": is_file}
_BASES: Holds = {
    r"\.locks": {_STAGE_NAME: is_file},
    rf"{_STAGE_NAME}|\.{_STAGE_NAME}\.partial": {**CHECKPOINT, r".+": Path.is_symlink},
}
_BLANK, _DATA_SETS = r"tinyworld-v\d+-blank", r"tinyworld-v\d+-seed\d+|[0-9a-f]{16}"
DATA: Holds = {
    r"\.locks": {rf"{_BLANK}|{_DATA_SETS}": is_file},
    _BLANK: CHECKPOINT,
    _DATA_SETS: _DATA_SET,
    "bases": _BASES,
}
"""Data sets and bases that were made for the stages."""


def _is_recorded(folder: Path) -> bool:
    """Tell a run of older code: by its manifest, by its stages, or by checkpoints whose publishing was killed."""
    stages = folder / "stages"
    if (stages / ".locks").is_dir() or any(stages.glob("*/stage.json")):
        return True
    manifest = read_object(folder / "manifest.json")
    if "checkpoints" in manifest and "config" in manifest:
        return True
    saved = folder.glob("checkpoints/step-*/checkpoint.json")
    return any({"step", "steps", "tokens"} <= set(read_object(path)) for path in saved)


RUN = Kind(
    "run",
    {
        "|".join(map(re.escape, (RUN_LOCK, *PUBLISHED))): is_file,
        "checkpoints": CHECKPOINTS,
        "stages": STAGES,
        "data": DATA,
        "vllm-logs": {r"vllm-\d{8}T\d{6}-\d+\.log": is_file, r"merged-[a-z0-9_]{8}": _MERGED},
    },
    _is_recorded,
)
"""The folder of `train`, and of a cell of a matrix."""
