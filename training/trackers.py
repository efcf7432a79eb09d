"""Figures of a run for TensorBoard, Weights & Biases and Trackio, through their own libraries.

What they are told never decides anything: one that fails is left out from there on, with one note, and training goes
on. They are given figures and the run's settings, and no key: their libraries read their own from the environment.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from seft_bench.console import note
from seft_bench.errors import InputError
from seft_bench.records import Row

from .settings import TrackerName

PROJECT = "seft-bench"

EVENTS = "tensorboard"
"""Folder of TensorBoard's event files, in the folder of the stage."""

INSTALL: dict[TrackerName, str] = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
"""Tracker -> the package to install, which has the name of the module to import."""


@dataclass(frozen=True)
class Tracked:
    """The run that is told of.

    Attributes:
        folder: of the run alone; its name is the run's.
        key: tells the run from all others, also in another folder of that name.
        settings: what the trackers show beside the figures.
        done: steps that an earlier, killed process took.
    """

    folder: Path
    key: str
    settings: Row
    done: int = 0


class Tracker(Protocol):
    """Takes figures by their names."""

    def log(self, figures: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class _Tensorboard:
    """Event files in the run's folder; those of steps that a killed run must take again are hidden."""

    def __init__(self, run: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run.folder / EVENTS), purge_step=run.done + 1 if run.done else None)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of the project "seft-bench", which goes on where a killed one stopped."""

    def __init__(self, run: Tracked) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=PROJECT,
            name=run.folder.name,
            id=run.key,
            resume="allow",
            dir=str(run.folder),
            config=dict(run.settings),
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """A run of the project "seft-bench" on this machine (or where TRACKIO_SPACE_ID says)."""

    def __init__(self, run: Tracked) -> None:
        import trackio

        self._library: Any = trackio
        trackio.init(project=PROJECT, name=run.folder.name, config=dict(run.settings), resume="allow")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._library.log(dict(figures), step=step)

    def close(self) -> None:
        self._library.finish()


TRACKERS: dict[TrackerName, Callable[[Tracked], Tracker]] = {
    "tensorboard": _Tensorboard,
    "wandb": _Wandb,
    "trackio": _Trackio,
}


def is_installed(name: TrackerName) -> bool:
    return importlib.util.find_spec(INSTALL[name]) is not None


def chosen_trackers(report_to: Sequence[TrackerName] | None) -> list[TrackerName]:
    """Return the trackers to tell: those asked for, and of its own accord TensorBoard where it is installed.

    Raises:
        InputError: one that was asked for is not installed.
    """
    if report_to is None:
        return ["tensorboard"] if is_installed("tensorboard") else []
    if absent := [name for name in report_to if not is_installed(name)]:
        raise InputError(
            f"report_to names {', '.join(absent)}, which is not installed: pip install "
            f"{' '.join(INSTALL[name] for name in absent)}, or leave it out of report_to"
        )
    return list(dict.fromkeys(report_to))


class Trackers:
    """All trackers of one run; each fails alone."""

    def __init__(self, names: Sequence[TrackerName], run: Tracked) -> None:
        """Open them."""
        self._open: dict[TrackerName, Tracker] = {}
        for name in names:
            self._try(name, partial(self._start, name, run))

    def _start(self, name: TrackerName, run: Tracked) -> None:
        self._open[name] = TRACKERS[name](run)

    def log(self, group: str, figures: Mapping[str, Any], step: int) -> None:
        """Tell the figures of one step, as "group/name"; what is no number is left out."""
        told = {
            f"{group}/{name}": float(value)
            for name, value in figures.items()
            if isinstance(value, int | float) and name != "step"
        }
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.log, told, step))

    def close(self) -> None:
        """Let every tracker write what it has kept back."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.close)

    def _try(self, name: TrackerName, call: Callable[[], None]) -> None:
        """Leave a tracker out once it has failed: its libraries raise whatever they like.

        Its message is not repeated, because it may hold a key.
        """
        try:
            call()
        except Exception as error:
            self._open.pop(name, None)
            note(f"{name} failed ({type(error).__name__}): training goes on without it")
