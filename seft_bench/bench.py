"""`seft-bench bench` and `demo`: the plan, the cells that are missing, then tables, findings and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench import matrix as matrices
from seft_bench.config import MatrixConfig
from seft_bench.console import cells_shown, note
from seft_bench.controls import run_controls
from seft_bench.diagnostics import GOOD_GRADE
from seft_bench.files import read_json, read_jsonl, write_atomic, write_json
from seft_bench.records import Result
from seft_bench.report.figures import score_curves
from seft_bench.report.render import RENDERERS
from seft_bench.report.revisions import Revisions, revision_findings, revision_table
from seft_bench.results import read_results
from seft_bench.sheets import STYLES, sheets_of


@dataclass(frozen=True)
class Benched:
    """What a bench left behind: all results of the matrix, what they say, the cells that failed, the files written, the cells run."""

    results: Sequence[Result]
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
    todo = [cell for cell in plan if not matrices.is_finished(matrix, cell, out, results)]
    note(f"{matrix.name}: {len(plan)} cells, {len(plan) - len(todo)} finished already, {len(todo)} to run in {out}")
    failures = _run(matrix, todo, out, results, workers or matrix.workers)
    ran = len(todo) - len(failures)
    failures += run_controls(matrix, out, results)
    return publish(matrix, results, failures, ran)


def _run(matrix: MatrixConfig, todo: Sequence[matrices.Cell], out: Path, results: Path, workers: int) -> list[matrices.Failure]:
    failures: list[matrices.Failure] = []
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
    """Tables, findings and the picture of the results at hand. Equal results give equal bytes."""
    from seft_bench.leaderboard import findings

    everything = read_results(results)
    found, sheets = matrices.of_matrix(matrix, everything), sheets_of(matrix, everything)
    if not found:
        return Benched([], [], failures, [], ran)
    revisions = _read_revisions(matrix, results)
    said = [*findings(found), *revision_findings(revisions, GOOD_GRADE)]
    written = [results / f"leaderboard.{suffix}" for suffix in STYLES.values()]
    for style, path in zip(STYLES, written, strict=True):
        write_atomic(path, sheets.text(style))
    if revisions:
        written += _write_revisions(revisions, results)
    write_atomic(results / "findings.md", _findings_page(matrix, said))
    write_json(results / "matrix.json", matrix.model_dump(mode="json"))
    score_curves(found, results / "curves.png")
    return Benched(sheets.results, said, failures, [*written, results / "findings.md", results / "curves.png"], ran)


def _read_revisions(matrix: MatrixConfig, results: Path) -> list[Revisions]:
    """What each row's revise stages did, over the matrix's seeds; only rows of which every seed is there."""
    folders = {cell.name: results / "cells" / cell.name for cell in matrices.cells(matrix)}
    found = []
    for row in matrix.rows:
        own = [folders[cell.name] for cell in matrices.cells(matrix) if cell.row == row]
        names = sorted({path.stem for folder in own for path in folder.glob("revised-*.jsonl")})
        found += [_revisions_of(row.name, row.label or row.name, name, own) for name in names if all((folder / f"{name}.jsonl").exists() for folder in own)]
    return found


def _revisions_of(row: str, label: str, stage: str, folders: Sequence[Path]) -> Revisions:
    graded = [read_jsonl(folder / f"{stage}.jsonl", "graded revisions", allow_empty=True) for folder in folders]
    summaries = [read_json(folder / "diagnostics.json", "diagnostics")[stage]["diagnostics"] for folder in folders]
    return Revisions(row, label, stage, graded, [{**summary, **summary["grades"]["all"]} for summary in summaries])


def _write_revisions(revisions: Sequence[Revisions], results: Path) -> list[Path]:
    table = revision_table(revisions, GOOD_GRADE)
    paths = [results / f"revisions.{STYLES[style]}" for style in ("md", "csv")]
    for style, path in zip(("md", "csv"), paths, strict=True):
        write_atomic(path, RENDERERS[style](table))
    return paths


def _findings_page(matrix: MatrixConfig, said: Sequence[str]) -> str:
    """What the table says in words."""
    lines = "\n".join(f"- {sentence}" for sentence in said)
    return f"# What the figures of {matrix.name} say\n\n{lines}\n\n![Scores against training step and unannotated prompts](curves.png)\n"
