"""All tables of a matrix: its rows with seeds aggregated, its controls at the foot, published figures below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seft_bench.bench.budget import budget_note
from seft_bench.bench.matrix import idle_rows, results_of
from seft_bench.config import MatrixConfig, load_suite
from seft_bench.files import read_json
from seft_bench.records import Result, run_of
from seft_bench.report.arms import is_control
from seft_bench.report.leaderboard import Plan
from seft_bench.report.published_files import load_published
from seft_bench.report.sheets import Sheets, no_results
from seft_bench.results import read_results
from seft_bench.subjects import CONTROL_PREFIX


def matrix_sheets(matrix: MatrixConfig, results: Path) -> Sheets:
    """The tables of a matrix's rows over all seeds in the folder, its controls, and published figures that it names.

    Raises:
        InputError: no result of the matrix, or a suite or published figures that cannot be read.
    """
    everything = read_results(results)
    trained = {result.run.seed for result in everything if result.run is not None and not is_control(result)}
    seeds = trained | _asked_seeds(matrix, results)
    with_all_seeds = matrix.model_copy(update={"seeds": sorted(seeds)})
    suites = {load_suite(name).name for name in matrix.suites}
    sheets = sheets_of(with_all_seeds, results_of(with_all_seeds, suites, everything), everything)
    if not sheets.results:
        raise no_results(results)
    return sheets


def sheets_of(matrix: MatrixConfig, rows: Sequence[Result], results: Sequence[Result]) -> Sheets:
    """The tables of a matrix with exactly its seeds.

    Args:
        rows: the results of its cells, in order (`matrix.results_of`).
        results: all results, among which those of its controls are found; others are left out.

    Raises:
        InputError: the published figures that it names cannot be read.
    """
    labels = {row.name: row.label or row.name for row in matrix.rows}
    plan = Plan(labels, matrix.seeds, budget_note(matrix), idle_rows(matrix))
    published = load_published(matrix.published) if matrix.published else []
    return Sheets([*rows, *_control_results(matrix, rows, results)], plan, published)


def _asked_seeds(matrix: MatrixConfig, results: Path) -> set[int]:
    """The seeds that the last `bench` of this matrix was asked for.

    One of them without a result is missing, and the table says so.
    """
    path = results / "matrix.json"
    if not path.exists():
        return set()
    record = read_json(path, "record of a matrix")
    return {int(seed) for seed in record.get("seeds", ())} if record.get("name") == matrix.name else set()


def _control_results(matrix: MatrixConfig, rows: Sequence[Result], results: Sequence[Result]) -> list[Result]:
    """The results of a matrix's controls on the suites of its rows' results, in its order; others are left out."""
    suites = {result.suite for result in rows}
    order = {CONTROL_PREFIX + name: index for index, name in enumerate(matrix.controls)}
    own = [
        result for result in results if is_control(result) and run_of(result).row in order and result.suite in suites
    ]
    return sorted(own, key=lambda result: (order[run_of(result).row], result.suite, result.decoding, result.judge_id))
