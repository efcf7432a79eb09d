"""`seft-bench bench` and `demo`: the plan, the cells that are missing, then tables, findings and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench import matrix as matrices
from seft_bench.config import MatrixConfig
from seft_bench.console import cells_shown, note
from seft_bench.files import write_atomic, write_json
from seft_bench.pipeline import read_results
from seft_bench.records import Result


@dataclass(frozen=True)
class Benched:
    """What a bench left behind: all results of the matrix, the table as text, and the cells that failed."""

    results: Sequence[Result]
    table: str
    findings: Sequence[str]
    failures: Sequence[matrices.Failure]
    written: Sequence[Path]
    ran: int


def bench(matrix: MatrixConfig, out: Path, results: Path, workers: int | None = None) -> Benched:
    """Run what is missing of a matrix and write its tables.

    Args:
        out: runs, stages and answers. results: tables, figures and one result.json a row.

    Raises:
        InputError: the matrix cannot run; nothing was started.
    """
    matrices.check(matrix)
    plan = matrices.cells(matrix)
    todo = [cell for cell in plan if not matrices.is_finished(matrix, cell, out)]
    note(f"{matrix.name}: {len(plan)} cells, {len(plan) - len(todo)} finished already, {len(todo)} to run in {out}")
    failures = _run(matrix, todo, out, results, workers or matrix.workers)
    return publish(matrix, results, failures, ran=len(todo) - len(failures))


def _run(matrix: MatrixConfig, todo: Sequence[matrices.Cell], out: Path, results: Path, workers: int) -> list[matrices.Failure]:
    failures = []
    if not todo:
        return failures
    with cells_shown(len(todo)) as progress:
        for event in matrices.run_cells(matrix, todo, out, results, workers):
            progress.handle(event)
            if event["event"] == "failed":
                failures.append(matrices.Failure(event["cell"], event["message"]))
                write_atomic(out / "cells" / (event["cell"] or "workers") / "error.txt", event["message"])
    return failures


def publish(matrix: MatrixConfig, results: Path, failures: Sequence[matrices.Failure] = (), ran: int = 0) -> Benched:
    """Tables, findings and pictures of the results at hand. Equal results give equal bytes."""
    from seft_bench import leaderboard

    found = matrices.of_matrix(matrix, read_results(results))
    if not found:
        return Benched([], "", [], failures, [], ran)
    table = leaderboard.method_table(found)
    findings = leaderboard.findings(found)
    text = leaderboard.to_markdown(table)
    written = [
        _write(results / "leaderboard.md", _page(matrix, text, findings)),
        _write(results / "leaderboard.csv", leaderboard.to_csv(table)),
        _write(results / "leaderboard.html", leaderboard.to_html(table)),
        _write(results / "leaderboard.tex", leaderboard.to_latex(table)),
        _write(results / "leaderboard.json", leaderboard.to_json(table)),
    ]
    write_json(results / "matrix.json", matrix.model_dump(mode="json"))
    return Benched(found, text, findings, failures, [*written, *_pictures(found, results)], ran)


def _write(path: Path, text: str) -> Path:
    write_atomic(path, text)
    return path


def _page(matrix: MatrixConfig, table: str, findings: Sequence[str]) -> str:
    """The table, what it says in words, and the picture."""
    said = "\n".join(f"- {sentence}" for sentence in findings)
    return f"{table}\n## What the figures say\n\n{said}\n\n![Scores of {matrix.name}](curves.png)\n"


def _pictures(found: Sequence[Result], results: Path) -> list[Path]:
    from seft_bench.report.figures import score_curves

    score_curves(found, results / "curves.png")
    return [results / "curves.png"]
