"""The driver of a matrix: judges and scores each cell when its answers are there, while others are still being trained.

One thread judges, so that a slow judge keeps no worker waiting; the main thread follows the engine.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from seft_bench.bench.executors import TICK_SECONDS, Event, failed
from seft_bench.bench.matrix import cells, find_cell, is_finished, judge_names, recipe_of
from seft_bench.config import MatrixConfig
from seft_bench.evaluation.plan import check_judge
from seft_bench.evaluation_files import evaluation_files
from seft_bench.inference.budget import Budget, meter
from seft_bench.judges import Judge
from seft_bench.suites import Suite


class Driver:
    """Judges the cells of one matrix; what that costs counts into the budget."""

    def __init__(self, matrix: MatrixConfig, out: Path, results: Path, budget: Budget) -> None:
        from seft_bench.bench.cells import places_of

        self._matrix, self._out, self._results, self._budget = matrix, out, results, budget
        self._places = places_of(out, results)
        self._answered: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # None: nothing more comes
        self._said: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def check_judges(self) -> None:
        """Ask every judge whether it can do its part, before anything is trained; not where all verdicts are at hand.

        Raises:
            InputError: a key is missing, a model is not there, or official data is.
            ServiceUnavailableError: a judge cannot be reached.
        """
        from seft_bench.suites import load_suite

        open_judge = _judges(self._places.store, {}, self._budget)
        for suite in map(load_suite, self._matrix.suites):
            for name in judge_names(self._matrix, suite):
                judge = open_judge(name)
                if not self._all_judged(suite, judge):
                    check_judge(judge, suite)

    def _all_judged(self, suite: Suite, judge: Judge) -> bool:
        from seft_bench.bench.cells import checkpoints_of
        from seft_bench.stages.runs import matching_run

        for cell in cells(self._matrix):
            if is_finished(self._matrix, cell, self._out, self._results):
                continue
            run = matching_run(recipe_of(self._matrix, cell), self._out / "cells" / cell.name, self._matrix.checkpoints)
            if run is None:
                return False
            for subject in checkpoints_of(cell, run):
                if not all(files.is_judged(judge) for files in evaluation_files(subject, suite, self._places)):
                    return False
        return True

    def events(self, engine: Iterator[Event]) -> Iterator[Event]:
        """The engine's events, with "done" or "failed" in place of "answered". Closing it closes the engine."""
        thread = threading.Thread(
            target=self._judge, daemon=True
        )  # a daemon: Ctrl-C must not wait for a judge; what arrived is stored
        thread.start()
        waiting = 0
        try:
            for event in engine:
                if event["event"] == "answered":
                    waiting += 1
                    self._answered.put(event["cell"])
                elif event["event"] != "tick":
                    yield event
                for said in self._heard(block=False):
                    waiting -= said["event"] in ("done", "failed")
                    yield said
            while waiting:
                for said in self._heard(block=True):
                    waiting -= said["event"] in ("done", "failed")
                    yield said
            self._answered.put(None)
            thread.join()
        finally:
            getattr(engine, "close", lambda: None)()

    def _heard(self, block: bool) -> Iterator[Event]:
        """What the judging thread said since; with `block` at least a moment's wait for more."""
        try:
            yield self._said.get(block, TICK_SECONDS if block else None)
            while True:
                yield self._said.get(block=False)
        except queue.Empty:
            return

    def _judge(self) -> None:
        """The judging thread: opens its judges itself, as a store's connection belongs to one thread, and stops servers
        of ours at the end.
        """
        opened: dict[str, Judge] = {}
        with contextlib.ExitStack() as stack:
            stack.callback(_close_all, opened)
            while (name := self._answered.get()) is not None:
                self._said.put(self._outcome(name, _judges(self._places.store, opened, self._budget)))

    def _outcome(self, name: str, open_judge: Callable[[str], Judge]) -> Event:
        from seft_bench.bench.cells import judge_answers

        def report(what: str, done: int, total: int) -> None:
            self._said.put({"cell": name, "event": "progress", "what": what, "done": done, "total": total})

        try:
            judge_answers(self._matrix, find_cell(self._matrix, name), self._out, self._results, open_judge, report)
        except Exception as error:
            return failed(name, error)
        return {"cell": name, "event": "done"}


def _close_all(opened: Mapping[str, Judge]) -> None:
    for judge in opened.values():
        judge.close()


def _judges(store: Path, opened: dict[str, Judge], budget: Budget) -> Callable[[str], Judge]:
    """Opens each judge once, and has its spending counted."""
    from seft_bench.config import load_judge
    from seft_bench.judges import open_judge

    def open_once(name: str) -> Judge:
        if name not in opened:
            store.parent.mkdir(parents=True, exist_ok=True)
            opened[name] = open_judge(load_judge(name), store)
            meter(opened[name].client, opened[name].price, budget)
        return opened[name]

    return open_once
