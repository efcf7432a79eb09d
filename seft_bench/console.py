"""Notes and progress bars for people who wait, on stderr. stdout is the data."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with (what is under way, how many are done, how many there are)."""

Watch = Callable[[str, int, int, str], None]
"""Called after a step of a training with (stage, steps done, steps in all, the step's figures in words)."""

SAFE_CONTROLS = "\n\t"


def plain(text: str) -> str:
    """Text without terminal escapes and other control characters: model output and file names are not ours."""
    return "".join(
        character if character.isprintable() or character in SAFE_CONTROLS else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def note(text: str) -> None:
    """One line for the user, on stderr; of processes that train together the first one speaks for all."""
    if speaks():
        complain(text)


def complain(text: str) -> None:
    """As `note`, whichever process it is that something went wrong in."""
    print(plain(text), file=sys.stderr, flush=True)


def says_who(what: str) -> Callable[[str], None]:
    """Return what to do where another process holds a lock: say who, and that this one waits."""

    def say(holder: str) -> None:
        if _SAYS["who is waited for"]:
            note(f"another command {what} ({holder}): waiting for it")

    return say


_SAYS = {"who is waited for": True}


def wait_silently() -> None:
    """Say nothing of locks in this process from now on: the workers of one command wait for each other all the time."""
    _SAYS["who is waited for"] = False


def speaks() -> bool:
    """Return whether this process is alone, or the first of those that torchrun started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"


@contextmanager
def steps_shown() -> Iterator[Progress]:
    """Progress of one thing after another: a bar on a terminal, a line for each finished thing elsewhere."""
    if not (sys.stderr.isatty() and speaks()):
        yield _line_when_done
        return
    with _bars() as bars:
        yield _Bars(bars).show


class TrainingLines:
    """Progress of trainings where there is no terminal: a line every so often, and one for each finished thing."""

    EVERY_SECONDS = 30.0

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def watch(self, what: str, done: int, total: int, figures: str) -> None:
        """Say the figures of a step, if it is time or the last step."""
        now = self._seconds()
        if done == total:
            note(f"  {what}: {done} steps done, {figures}")
        elif now - self._said.setdefault(what, now) >= self.EVERY_SECONDS:
            self._said[what] = now
            note(f"  {what}: step {done} of {total}, {figures}")

    def progress(self, what: str, done: int, total: int) -> None:
        """Say that something else than a training is done."""
        _line_when_done(what, done, total)


class TrainingBars:
    """Progress of trainings on a terminal: a bar, and below it the figures of the last step."""

    def __init__(self, bars: _Bars, figures: Any) -> None:
        self._bars, self._figures = bars, figures

    def watch(self, what: str, done: int, total: int, figures: str) -> None:
        """Move the bar, and replace the figures."""
        self._figures.plain = f"  {plain(figures)}" if done < total else ""
        self._bars.show(what, done, total)

    def progress(self, what: str, done: int, total: int) -> None:
        """Move the bar of something else than a training."""
        self._bars.show(what, done, total)


@contextmanager
def training_shown() -> Iterator[TrainingLines | TrainingBars]:
    """Progress of a method's stages, with the figures of those that train."""
    if not (sys.stderr.isatty() and speaks()):
        yield TrainingLines()
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    bars, figures = _bars(), Text()
    with Live(Group(bars, figures), console=Console(stderr=True), transient=True, redirect_stdout=False):
        yield TrainingBars(_Bars(bars), figures)


def _line_when_done(what: str, done: int, total: int) -> None:
    if done == total:
        note(f"  {what}: {done} done")


class _Bars:
    """One bar for each thing that is under way; it disappears when the thing is done."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def show(self, what: str, done: int, total: int, key: str = "") -> None:
        key = key or what
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(plain(what), total=total)
        self._bars.update(self._tasks[key], description=plain(what), completed=done, total=total)
        if done >= total and key == what:
            self._bars.remove_task(self._tasks.pop(key))

    def drop(self, key: str) -> None:
        if key in self._tasks:
            self._bars.remove_task(self._tasks.pop(key))


def _bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


class CellProgress:
    """Progress of a matrix: a bar over all cells, and one for each cell that is running."""

    def __init__(self, bars: Any | None, total: int) -> None:
        self._bars, self._total, self._done = bars, total, 0

    def under_way(self, cell: str, what: str, done: int, total: int) -> None:
        """Show how far a cell is."""
        if self._bars:
            self._bars.show(f"{cell}: {what}", done, total, key=cell)

    def ended(self, cell: str, error: str | None = None) -> None:
        """Count a cell that is done, or failed with an error of which the last line is shown."""
        self._done += 1
        if self._bars:
            self._bars.drop(cell)
            self._bars.show("cells", self._done, self._total, key="cells")
        outcome = "done" if error is None else f"FAILED: {error.strip().splitlines()[-1]}"
        note(f"[{self._done}/{self._total}] {cell} {outcome}")


@contextmanager
def cells_shown(total: int) -> Iterator[CellProgress]:
    if not sys.stderr.isatty():
        yield CellProgress(None, total)
        return
    with _bars() as bars:
        yield CellProgress(_Bars(bars), total)
