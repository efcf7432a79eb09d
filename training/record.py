"""What a run's folder says about the run: which one it is, what it cost, what came out."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from seft_bench.errors import InputError
from seft_bench.files import read_json, sha256_file, sha256_folder, sha256_json, write_json
from seft_bench.records import Row

from .data import DataCounts
from .settings import TrainSettings


@dataclass(frozen=True)
class TrainSummary:
    """What a finished run reports, also in summary.json.

    Attributes:
        epochs: passes over the data, a part counts as a part.
        tokens, labelled_tokens: seen over all steps, both sides of pairs, padding not counted.
        cpu_seconds, wall_seconds: spent in `train`, added up over resumed runs (work lost to a kill is not in it).
        peak_rss_megabytes: of the process, so it includes what ran in it before.
        checkpoints: folders in the order of their steps.
        final_loss: of the last step.
    """

    steps: int
    epochs: float
    tokens: int
    labelled_tokens: int
    data: DataCounts
    cpu_seconds: float
    wall_seconds: float
    peak_rss_megabytes: float
    checkpoints: tuple[Path, ...]
    final_loss: float


def save_summary(out: Path, summary: TrainSummary) -> None:
    """Write summary.json, which marks the run as finished; checkpoints by name, so that the folder can be moved."""
    write_json(
        out / "summary.json",
        {**dataclasses.asdict(summary), "checkpoints": [path.name for path in summary.checkpoints]},
    )


def load_summary(out: Path) -> TrainSummary | None:
    """The summary of a finished run, None where it is not finished."""
    if not (out / "summary.json").exists():
        return None
    row = read_json(out / "summary.json", "summary of a run")
    checkpoints = tuple(out / "checkpoints" / name for name in row["checkpoints"])
    return TrainSummary(**{**row, "data": DataCounts(**row["data"]), "checkpoints": checkpoints})


def identity_of(model_folder: Path, data_file: Path, settings: TrainSettings, reference_folder: Path | None) -> Row:
    """What makes two runs the same: settings, start model, data, reference."""
    if not data_file.is_file():
        raise InputError(f"training data not found: {data_file}")
    reference = sha256_folder(reference_folder) if reference_folder else None
    inputs = {"model": sha256_folder(model_folder), "data": sha256_file(data_file), "reference": reference}
    identity = {"settings": dataclasses.asdict(settings), "inputs": inputs}
    return identity | {"hash": sha256_json(identity)}


def check_same_run(out: Path, identity: Row) -> None:
    """Refuse to mix two runs in one folder; where nothing was kept yet, there is nothing to mix."""
    if not (out / "run.json").exists() or not ((out / "state").exists() or (out / "summary.json").exists()):
        return
    recorded = read_json(out / "run.json", "record of a run")
    if recorded["hash"] == identity["hash"]:
        return
    before, now = ({**side["settings"], **side["inputs"]} for side in (recorded, identity))
    changed = ", ".join(key for key in now if sha256_json(now[key]) != sha256_json(before.get(key)))
    raise InputError(
        f"{out} holds a run with another {changed}. Give the new run another folder, or remove {out} to train again."
    )


class Clock:
    """CPU and wall seconds and peak memory of a run, added up over resumes."""

    def __init__(self) -> None:
        self.cpu_start, self.wall_start = time.process_time(), time.monotonic()
        self.before = {"cpu_seconds": 0.0, "wall_seconds": 0.0, "peak_rss_megabytes": 0.0}

    def add(self, facts: Row) -> None:
        self.before = {key: facts[key] for key in self.before}

    def facts(self) -> dict[str, float]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        return {
            "cpu_seconds": round(self.before["cpu_seconds"] + time.process_time() - self.cpu_start, 3),
            "wall_seconds": round(self.before["wall_seconds"] + time.monotonic() - self.wall_start, 3),
            "peak_rss_megabytes": round(max(self.before["peak_rss_megabytes"], peak), 1),
        }
