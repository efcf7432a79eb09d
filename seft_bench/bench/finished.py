"""The record that a finished evaluation leaves, when it still stands, and how it is taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.bench.holds import RECORDS
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.console import says_who
from seft_bench.files import locked, read_json, write_json
from seft_bench.ownership import remove_listed
from seft_bench.records import Result
from seft_bench.results import RESULT, result_folder
from seft_bench.stages.runs import withdraw_run


def is_finished(bench: Bench, cell: Cell) -> bool:
    """Was this very cell, with these settings and suites, trained and evaluated, and are its results there?"""
    path = bench.record_path(cell)
    return path.exists() and stands(read_json(path, "record of a cell"), bench.identity(cell), bench.results)


def stands(record: Mapping[str, Any], identity: str, results: Path) -> bool:
    """Is a record (`write_record`) of what is asked for now, with all its results there?"""
    return record.get("identity") == identity and all(
        (results / name / "questions.json").exists() for name in record["results"]
    )


def write_record(path: Path, identity: str, scored: Sequence[Result], results: Path) -> None:
    """Write down which results an evaluation left, and of what."""
    names = [str(result_folder(results, result).relative_to(results)) for result in scored]
    write_json(path, {"identity": identity, "results": names})


def withdraw_changed(bench: Bench, cell: Cell) -> None:
    """Take back what a cell with other settings, checkpoints, base or data left: its run and its results.

    Stages, answers and verdicts stay: with the old settings again, nothing is trained or paid for twice.
    """
    if not bench.is_changed(cell):
        return
    with locked(bench.lock_path(cell), says_who(f"is at work on cell {cell.name}")):
        record = bench.record_path(cell)
        for name in read_json(record, "record of a cell")["results"] if record.exists() else ():
            remove_listed(bench.results / name, RESULT)
        remove_listed(bench.results_folder(cell), RECORDS)
        record.unlink(missing_ok=True)
        withdraw_run(bench.run_folder(cell))
