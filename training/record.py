"""The record of a run in its folder: which run it is, what it cost, what came out."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from seft_bench.checkpoints import fingerprint
from seft_bench.errors import InputError
from seft_bench.files import read_json, sha256_file, sha256_json, write_json
from seft_bench.records import Row

from .data import DataCounts
from .distributed import ALONE, Processes
from .settings import TrainJob


@dataclass(frozen=True)
class TrainSummary:
    """The report of a finished run, also in summary.json.

    Attributes:
        epochs: passes over the data, a part counts as a part.
        tokens, labelled_tokens: seen over all steps, both sides of pairs, padding not counted.
        cpu_seconds, wall_seconds: spent in `train`, added up over resumed runs (work lost to a kill is not in it).
        peak_rss_megabytes: of the process, so it includes what ran in it before.
        stopped_early_at: the step after which the held-out loss was no longer waited for; None after all steps.
        online: prompts, answers and their tokens that were drawn; None where the data's own were learnt.
        validation: number of held-out examples, the best and the last measurement on them; None without any.
        peak_gpu_megabytes: of tensors on its GPU, since this run began; None without one.
        checkpoints: folders in the order of their steps.
        final_loss: of the last step.
        processes: that trained together, at the end.
        sharding: "none" of one process, "ddp", or "fsdp".
        ranks: of each process its number, process id, machine, device, and how many parameters it held.
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
    peak_gpu_megabytes: float | None = None
    stopped_early_at: int | None = None
    validation: Row | None = None
    online: Row | None = None
    processes: int = 1
    sharding: str = "none"
    ranks: tuple[Row, ...] = ()


def save_summary(out: Path, summary: TrainSummary) -> None:
    """Write summary.json, which marks the run as finished; checkpoints by name, so that the folder can be moved."""
    write_json(
        out / "summary.json",
        {**dataclasses.asdict(summary), "checkpoints": [path.name for path in summary.checkpoints]},
    )


def load_summary(out: Path) -> TrainSummary | None:
    """Read the summary of a finished run; None where it is not finished."""
    if not (out / "summary.json").exists():
        return None
    row = read_json(out / "summary.json", "summary of a run")
    checkpoints = tuple(out / "checkpoints" / name for name in row["checkpoints"])
    given = {**row, "data": DataCounts(**row["data"]), "checkpoints": checkpoints, "ranks": tuple(row.get("ranks", ()))}
    return TrainSummary(**given)


def finished_summary(out: Path) -> TrainSummary | None:
    """Return the summary of a run that is finished and still has its checkpoints; None otherwise."""
    summary = load_summary(out)
    return summary if summary and all(folder.is_dir() for folder in summary.checkpoints) else None


@dataclass(frozen=True)
class Identity:
    """The settings and contents that make two runs the same.

    Attributes:
        settings: of the job, see `TrainJob.as_row`.
        model, data, reference: fingerprints of the inputs; None where no reference was given.
    """

    settings: Row
    model: str
    data: str
    reference: str | None

    @property
    def frozen(self) -> str:
        """Fingerprint of the reference model, which is the start where none was given."""
        return self.reference or self.model

    @property
    def hash(self) -> str:
        return str(self.as_row()["hash"])

    def as_row(self) -> Row:
        inputs = {"model": self.model, "data": self.data, "reference": self.reference}
        row = {"settings": self.settings, "inputs": inputs}
        return row | {"hash": sha256_json(row)}


def identify(model_folder: Path, data_file: Path, job: TrainJob, reference_folder: Path | None) -> Identity:
    """Fingerprint what a run starts from; a checkpoint that is both start and reference is read once.

    Raises:
        InputError: there is no data file.
    """
    if not data_file.is_file():
        raise InputError(f"training data not found: {data_file}")
    model = fingerprint(model_folder)
    reference = None
    if reference_folder:
        reference = model if reference_folder == model_folder else fingerprint(reference_folder)
    return Identity(job.as_row(), model, sha256_file(data_file), reference)


def check_same_run(out: Path, identity: Identity) -> None:
    """Refuse to mix two runs in one folder; where nothing was kept yet, there is nothing to mix."""
    if not (out / "run.json").exists() or not ((out / "state").exists() or (out / "summary.json").exists()):
        return
    recorded, asked = read_json(out / "run.json", "record of a run"), identity.as_row()
    if recorded["hash"] == asked["hash"]:
        return
    before, now = ({**side["settings"], **side["inputs"]} for side in (recorded, asked))
    changed = ", ".join(key for key in now if sha256_json(now[key]) != sha256_json(before.get(key)))
    raise InputError(
        f"{out} holds a run with another {changed}. Give the new run another folder, or remove {out} to train again."
    )


def peak_rss_megabytes() -> float:
    """Peak memory of this process."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def peak_gpu_megabytes() -> float | None:
    """Peak memory of this process's tensors on its GPU since it was last forgotten; None where it uses none."""
    import torch

    if not torch.cuda.is_initialized():
        return None
    allocated: int = torch.cuda.max_memory_allocated()
    return round(allocated / (1 << 20), 1)


def forget_gpu_peak() -> None:
    """Measure the peak from here on."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _larger(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


class Clock:
    """CPU seconds of all processes, wall seconds and peak memory of this one, added up over resumes."""

    def __init__(self, processes: Processes = ALONE) -> None:
        self.processes = processes
        self.cpu_start, self.wall_start = time.process_time(), time.monotonic()
        self.before: Row = {"cpu_seconds": 0.0, "wall_seconds": 0.0, "peak_rss_megabytes": 0.0}
        forget_gpu_peak()

    def add(self, facts: Row) -> None:
        """Count what the killed run had spent up to its saved state."""
        self.before = {key: facts.get(key) for key in (*self.before, "peak_gpu_megabytes")}

    def facts(self) -> Row:
        cpu = self.processes.total(time.process_time() - self.cpu_start)
        return {
            "cpu_seconds": round(self.before["cpu_seconds"] + cpu, 3),
            "wall_seconds": round(self.before["wall_seconds"] + time.monotonic() - self.wall_start, 3),
            "peak_rss_megabytes": _larger(self.before["peak_rss_megabytes"], peak_rss_megabytes()),
            "peak_gpu_megabytes": _larger(self.before.get("peak_gpu_megabytes"), peak_gpu_megabytes()),
        }
