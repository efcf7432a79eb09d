"""The driver of a matrix: judges and scores each cell when its answers are there, while others are still being trained.

One thread judges, so that a slow judge keeps no worker waiting; the main thread follows the executor.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator

from seft_bench.bench.cells import judge_answers
from seft_bench.bench.events import Answered, DriverEvent, Failure, Finished, Progressed, Tick, failure_of
from seft_bench.bench.executors import TICK_SECONDS, Events
from seft_bench.bench.judges_at_work import JudgesAtWork
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.inference.budget import Budget


class Driver:
    """Judges the cells of one bench; what that costs counts into the budget."""

    def __init__(self, bench: Bench, budget: Budget) -> None:
        self._bench, self._budget = bench, budget
        self._cells = {cell.name: cell for cell in bench.cells}
        self._answered: queue.SimpleQueue[Cell | None] = queue.SimpleQueue()  # None: nothing more comes
        self._said: queue.SimpleQueue[DriverEvent] = queue.SimpleQueue()

    def events(self, executor: Events) -> Generator[DriverEvent, None, None]:
        """Yield the executor's events, with a cell finished or failed in place of answered.

        Closing it closes the executor.
        """
        # a daemon: Ctrl-C must not wait for a judge; what arrived is stored
        thread = threading.Thread(target=self._judge, daemon=True)
        thread.start()
        waiting = 0
        with contextlib.closing(executor):
            for event in executor:
                if isinstance(event, Answered):
                    waiting += 1
                    self._answered.put(self._cells[event.cell])
                elif not isinstance(event, Tick):
                    yield event
                for said in self._heard(block=False):
                    waiting -= isinstance(said, Finished | Failure)
                    yield said
            while waiting:
                for said in self._heard(block=True):
                    waiting -= isinstance(said, Finished | Failure)
                    yield said
            self._answered.put(None)
            thread.join()

    def _heard(self, block: bool) -> Iterator[DriverEvent]:
        """Yield what the judging thread said since; with `block` after a moment's wait for more."""
        try:
            yield self._said.get(block, TICK_SECONDS if block else None)
            while True:
                yield self._said.get(block=False)
        except queue.Empty:
            return

    def _judge(self) -> None:
        """Judge cell after cell, in a thread of its own with judges of its own."""
        with contextlib.closing(JudgesAtWork(self._bench, self._budget)) as judges:
            while (cell := self._answered.get()) is not None:
                self._said.put(self._outcome(cell, judges))

    def _outcome(self, cell: Cell, judges: JudgesAtWork) -> Finished | Failure:
        def report(what: str, done: int, total: int) -> None:
            self._said.put(Progressed(cell.name, what, done, total))

        try:
            judge_answers(self._bench, cell, judges.judge_of, report)
        except Exception as error:
            return failure_of(cell.name, error)
        return Finished(cell.name)
