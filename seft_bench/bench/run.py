"""`seft-bench bench` and `demo`: the cells that are missing, judged as they come, then tables, findings and pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench.bench import matrix as matrices
from seft_bench.bench.cells import withdraw_changed
from seft_bench.bench.controls import run_controls
from seft_bench.bench.driver import Driver
from seft_bench.bench.engines import EngineSettings, check_engine, run_cells
from seft_bench.bench.matrix import Cell, Failure
from seft_bench.bench.plan import plan_of
from seft_bench.bench.shown import summary
from seft_bench.config import MatrixConfig
from seft_bench.console import cells_shown, note
from seft_bench.diagnostics import GOOD_GRADE
from seft_bench.errors import EXIT_CRASH, EXIT_UNAVAILABLE
from seft_bench.files import held, read_json, read_jsonl, write_atomic, write_json
from seft_bench.judges.budget import Budget
from seft_bench.money.spending import agree_to, counted, left_line
from seft_bench.records import Result
from seft_bench.report.arms import by_group
from seft_bench.report.figures import score_curves
from seft_bench.report.render import RENDERERS
from seft_bench.report.revisions import Revisions, revision_findings, revision_table
from seft_bench.results import read_results, slug
from seft_bench.runs import is_other_run
from seft_bench.sheets import STYLES, sheets_of


@dataclass(frozen=True)
class Benched:
    """What a bench left behind: all results of the matrix, what they say, the cells that failed, the files written, the cells run."""

    results: Sequence[Result]
    findings: Sequence[str]
    failures: Sequence[Failure]
    written: Sequence[Path]
    ran: int


def bench(
    matrix: MatrixConfig,
    out: Path,
    results: Path,
    engine: EngineSettings | None = None,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    budget_usd: float | None = None,
    yes: bool = False,
) -> Benched:
    """Run what is missing of a matrix and write its tables.

    Args:
        out: runs, stages and answers. results: tables, figures and one result.json a row.
        only: patterns of cell names; other cells are left as they are. retry_failed: run only cells that failed before.
        budget_usd: the most that judges may be paid; when it is spent, cells are still trained and answered. yes: do not ask about the price.

    Raises:
        InputError: the matrix cannot run, or nobody agreed to its price; nothing was started.
    """
    settings = engine or EngineSettings(workers=matrix.workers)
    matrices.check(matrix)
    check_engine(settings, matrix)
    with held(out / ".bench.lock", f"another bench is at work in {out}: wait for it, or give another --out"):
        plan = plan_of(matrix, out, results, only, retry_failed)
        for line in summary(plan):
            note(line)
        agree_to(plan.cost(), budget_usd, yes)
        todo, budget = [state.cell for state in plan.todo], Budget(budget_usd)

        def left() -> str:
            return left_line(plan_of(matrix, out, results, only).cost())

        with counted(budget, left):
            failures = _run(matrix, todo, out, results, settings, budget)
            ran = len(todo) - len(failures)
            failures += run_controls(matrix, out, results, budget)
        if any(failure.exit_status == EXIT_UNAVAILABLE for failure in failures):
            note(left())
        return publish(matrix, results, failures, ran, left_out=_changed(matrix, out))


def _changed(matrix: MatrixConfig, out: Path) -> set[str]:
    """Cells that were not chosen now and were trained with other settings than the matrix has: their figures belong in no table of it."""
    found = {cell.name for cell in matrices.cells(matrix) if is_other_run(matrices.recipe_of(matrix, cell), out / "cells" / cell.name, matrix.checkpoints)}
    if found:
        note(f"not in the tables, as they were trained with other settings, data or base: {', '.join(sorted(found))}. Run them too.")
    return found


def _run(matrix: MatrixConfig, todo: Sequence[Cell], out: Path, results: Path, settings: EngineSettings, budget: Budget) -> list[Failure]:
    """Train and answer on the engine, judge here; a failed cell does not stop the others."""
    failures: list[Failure] = []
    if not todo:
        return failures
    by_name = {cell.name: cell for cell in todo}
    driver = Driver(matrix, out, results, budget)
    driver.check_judges()
    for cell in todo:
        withdraw_changed(matrix, cell, out, results)
    with cells_shown(len(todo)) as progress:
        for event in driver.events(run_cells(matrix, todo, out, settings)):
            progress.handle(event)
            if event["event"] == "failed":
                failures.append(Failure(event["cell"], event["message"], event.get("exit_status", EXIT_CRASH)))
                write_atomic(matrices.error_path(out, by_name[event["cell"]]), event["message"])
            elif event["event"] == "done":
                matrices.error_path(out, by_name[event["cell"]]).unlink(missing_ok=True)
    return failures


def publish(matrix: MatrixConfig, results: Path, failures: Sequence[Failure] = (), ran: int = 0, left_out: Collection[str] = ()) -> Benched:
    """Tables, findings and the picture of the results at hand, but for those of the cells `left_out`. Equal results give equal bytes."""
    from seft_bench.leaderboard import findings

    everything = [result for result in read_results(results) if result.model.partition("/")[0] not in left_out]
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
    pictures = {results / f"curves{'-' if group else ''}{slug(group) if group else ''}.png": members for group, members in by_group(found).items()}
    write_atomic(results / "findings.md", _findings_page(matrix, said, [path.name for path in pictures]))
    write_json(results / "matrix.json", matrix.as_row())
    for path, members in pictures.items():
        score_curves(members, path)
    written += [results / "findings.md", *pictures]
    return Benched(sheets.results, said, failures, written, ran)


def _read_revisions(matrix: MatrixConfig, results: Path) -> list[Revisions]:
    """What each row's revise stages did, over the matrix's seeds; only rows of which every seed is there."""
    seeds: dict[tuple[str, str], list[Cell]] = {}
    for cell in matrices.cells(matrix):
        seeds.setdefault((", ".join(cell.group.values()), cell.row.name), []).append(cell)
    found = []
    for (group, row), members in sorted(seeds.items(), key=lambda item: [seed.name for seed in matrix.rows].index(item[0][1])):
        own = [results / "cells" / cell.name for cell in members]
        label = (members[0].row.label or row) + (f" ({group})" if group else "")
        names = sorted({path.stem for folder in own for path in folder.glob("revised-*.jsonl")})
        found += [_revisions_of(row, label, name, own) for name in names if all((folder / f"{name}.jsonl").exists() for folder in own)]
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


def _findings_page(matrix: MatrixConfig, said: Sequence[str], pictures: Sequence[str]) -> str:
    """What the table says in words."""
    lines = "\n".join(f"- {sentence}" for sentence in said)
    shown = "\n\n".join(f"![Scores against training step and unannotated prompts]({name})" for name in pictures)
    return f"# What the figures of {matrix.name} say\n\n{lines}\n\n{shown}\n"
