"""All tables of a matrix: its rows with seeds aggregated, its controls at the foot, the published figures that it
names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seft_bench.bench import controls
from seft_bench.bench.matrix import of_matrix
from seft_bench.config import MatrixConfig
from seft_bench.files import read_json
from seft_bench.records import Result
from seft_bench.report.arms import is_control
from seft_bench.report.leaderboard import Plan
from seft_bench.report.published_files import load_published
from seft_bench.report.sheets import Sheets, no_results
from seft_bench.results import read_results


def matrix_sheets(matrix: MatrixConfig, results: Path) -> Sheets:
    """Of a matrix's rows over all seeds in the folder, its controls, and the published figures that it names.

    Raises:
        InputError: no result of the matrix, or published figures that cannot be read.
    """
    everything = read_results(results)
    trained = {result.run.seed for result in everything if result.run is not None and not is_control(result)}
    seeds = trained | _asked_seeds(matrix, results)
    sheets = sheets_of(matrix.model_copy(update={"seeds": sorted(seeds)}), everything)
    if not sheets.results:
        raise no_results(results)
    return sheets


def sheets_of(matrix: MatrixConfig, results: Sequence[Result]) -> Sheets:
    """Of a matrix with exactly its seeds; other results are left out.

    Raises:
        InputError: the published figures that it names cannot be read.
    """
    found = of_matrix(matrix, results)
    plan = Plan({row.name: row.label or row.name for row in matrix.rows}, matrix.seeds)
    published = load_published(matrix.published) if matrix.published else []
    return Sheets([*found, *controls.of_matrix(matrix, found, results)], plan, published)


def _asked_seeds(matrix: MatrixConfig, results: Path) -> set[int]:
    """Seeds that the last `bench` of this matrix was asked for: one of them without a result is missing, and the table
    says so.
    """
    path = results / "matrix.json"
    if not path.exists():
        return set()
    record = read_json(path, "record of a matrix")
    return {int(seed) for seed in record.get("seeds", ())} if record.get("name") == matrix.name else set()
