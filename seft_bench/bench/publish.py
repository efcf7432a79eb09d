"""The outcome of a bench, written: tables, findings, pictures, and what the revisers did."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench.bench.budget import budget_record
from seft_bench.bench.events import Failure
from seft_bench.bench.matrix import Cell, results_of
from seft_bench.bench.resolved import Bench
from seft_bench.bench.sheets import sheets_of
from seft_bench.bench.study import study_of, write_study
from seft_bench.config import MatrixConfig, TinyworldConfig, tinyworld_settings
from seft_bench.data.tinyworld import annotated_types
from seft_bench.files import read_json, read_jsonl, write_atomic, write_json
from seft_bench.records import Result
from seft_bench.report.annotation import Annotated, annotation_table
from seft_bench.report.arms import by_group
from seft_bench.report.cost_figure import cost_pictures
from seft_bench.report.figures import score_curves
from seft_bench.report.render import RENDERERS
from seft_bench.report.revisions import Revisions, revision_findings, revision_table
from seft_bench.report.sheets import STYLES
from seft_bench.report.tables import Table
from seft_bench.results import read_results, slug
from seft_bench.stages.diagnostics import GOOD_GRADE


@dataclass(frozen=True)
class Benched:
    """The outcome of a bench.

    Attributes:
        results: all of the matrix.
        findings: what they say.
        failures: of cells, and of the controls.
        written: files.
        ran: number of cells that were run and did not fail.
    """

    results: Sequence[Result]
    findings: Sequence[str]
    failures: Sequence[Failure]
    written: Sequence[Path]
    ran: int


def publish(bench: Bench, failures: Sequence[Failure], ran: int, left_out: Collection[str]) -> Benched:
    """Write tables, findings and pictures of the results at hand, but for those of the cells `left_out`.

    Equal results give equal bytes.
    """
    from seft_bench.report.leaderboard import findings

    matrix, results = bench.matrix, bench.results
    everything = [result for result in read_results(results) if result.model.partition("/")[0] not in left_out]
    found = results_of(matrix, {suite.name for suite in bench.suites}, everything)
    sheets = sheets_of(matrix, found, everything)
    if not found:
        return Benched([], [], failures, [], ran)
    revisions = _read_revisions(bench)
    said = [*findings(found), *revision_findings(revisions, GOOD_GRADE)]
    written = [results / f"leaderboard.{suffix}" for suffix in STYLES.values()]
    for style, path in zip(STYLES, written, strict=True):
        write_atomic(path, sheets.text(style))
    if revisions:
        written += _write_tables("revisions", revision_table(revisions, GOOD_GRADE), results)
    annotated = annotated_of(bench)
    if annotated:
        written += _write_tables("annotation", annotation_table(found, annotated), results)
    if annotated and (study := study_of(bench, annotated)):
        written += write_study(results, matrix.name, found, study)
    pictures = {
        results / f"curves{'-' if group else ''}{slug(group) if group else ''}.png": members
        for group, members in by_group(found).items()
    }
    for path, members in pictures.items():
        score_curves(members, path)
    costs = cost_pictures(results, found)
    shown = {CURVES: [path.name for path in pictures], "Score against cost": [path.name for path in costs]}
    write_atomic(results / "findings.md", _findings_page(matrix, said, shown))
    write_json(results / "matrix.json", matrix.as_row() | budget_record(matrix))
    written += [results / "findings.md", *pictures, *costs]
    return Benched(sheets.results, said, failures, written, ran)


def _read_revisions(bench: Bench) -> list[Revisions]:
    """Read what each row's revise stages did, over the matrix's seeds; only rows of which every seed is there."""
    seeds: dict[tuple[str, str], list[Cell]] = {}
    for cell in bench.cells:
        seeds.setdefault((cell.group_name, cell.row.name), []).append(cell)
    order = [row.name for row in bench.matrix.rows]
    found = []
    for (group, row), members in sorted(seeds.items(), key=lambda item: order.index(item[0][1])):
        own = [bench.results_folder(cell) for cell in members]
        label = (members[0].row.label or row) + (f" ({group})" if group else "")
        names = sorted({path.stem for folder in own for path in folder.glob("revised-*.jsonl")})
        found += [
            _revisions_of(row, label, name, own)
            for name in names
            if all((folder / f"{name}.jsonl").exists() for folder in own)
        ]
    return found


def _revisions_of(row: str, label: str, stage: str, folders: Sequence[Path]) -> Revisions:
    graded = [read_jsonl(folder / f"{stage}.jsonl", "graded revisions", allow_empty=True) for folder in folders]
    summaries = [read_json(folder / "diagnostics.json", "diagnostics")[stage]["diagnostics"] for folder in folders]
    return Revisions(row, label, stage, graded, [{**summary, **summary["grades"]["all"]} for summary in summaries])


def _write_tables(name: str, table: Table, results: Path) -> list[Path]:
    paths = [results / f"{name}.{STYLES[style]}" for style in ("md", "csv")]
    for style, path in zip(("md", "csv"), paths, strict=True):
        write_atomic(path, RENDERERS[style](table))
    return paths


def annotated_of(bench: Bench) -> Annotated | None:
    """Gather what the suites ask and the data sets annotate.

    None where no data set says how much is annotated, and rows are not to be compared (`compare`).
    """
    said = any(isinstance(data, TinyworldConfig) for data in bench.matrix.all_data)
    if not said and not bench.matrix.compare:
        return None
    types = {
        suite.name: {question.id: str(question.metadata["task"]) for question in suite.questions}
        for suite in bench.suites
        if all("task" in question.metadata for question in suite.questions)
    }
    groups = {
        cell.group_name: annotated_types(settings)
        for cell in bench.cells
        if (settings := tinyworld_settings(cell.data))
    }
    return Annotated(types, groups)


CURVES = "Scores against training step and unannotated prompts"


def _findings_page(matrix: MatrixConfig, said: Sequence[str], pictures: Mapping[str, Sequence[str]]) -> str:
    """Return the page that says in words what the tables say."""
    lines = "\n".join(f"- {sentence}" for sentence in said)
    shown = "\n\n".join(f"![{title}]({name})" for title, names in pictures.items() for name in names)
    return f"# What the figures of {matrix.name} say\n\n{lines}\n\n{shown}\n"
