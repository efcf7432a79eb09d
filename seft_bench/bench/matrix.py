"""A matrix: bases x data x rows (methods with settings) x seeds, each trained, then evaluated at every checkpoint.

A cell is one row and one seed, on one base and one data set. Everything here follows from the matrix's YAML alone;
`resolved` adds folders, suites and judges.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from seft_bench.bench.budget import budgeted_rows
from seft_bench.config import AnyData, EngineName, MatrixConfig, MatrixRow, RecipeConfig, VLLMConfig, data_label
from seft_bench.errors import InputError
from seft_bench.records import Result, run_of
from seft_bench.results import slug


@dataclass(frozen=True)
class Cell:
    """One row and one seed of a matrix.

    Attributes:
        base, data: as the matrix names them.
        base_name, data_name: what tells the cell from those on another base or data set; "" where the matrix has only
            one.
        engine, vllm: who draws texts between trainings, and how its server is started.
        gpus: processes, with a GPU each, that train it together.
    """

    row: MatrixRow
    seed: int
    base: str
    data: AnyData
    base_name: str = ""
    data_name: str = ""
    engine: EngineName = "transformers"
    vllm: VLLMConfig = field(default_factory=VLLMConfig)
    gpus: int = 1

    @property
    def name(self) -> str:
        return "-".join([*self.group.values(), f"{self.row.name}-seed{self.seed}"])

    @property
    def group(self) -> dict[str, str]:
        """Base and data where the matrix has several: rows are compared within a group."""
        return {key: name for key, name in (("base", self.base_name), ("data", self.data_name)) if name}

    @property
    def group_name(self) -> str:
        """The same as one name, as its results have it (`RunFacts.group`)."""
        return ", ".join(self.group.values())

    @property
    def recipe(self) -> RecipeConfig:
        """The recipe that its worker trains."""
        return RecipeConfig(
            name=self.name,
            method=self.row.method,
            base=self.base,
            data=self.data,
            seed=self.seed,
            settings=self.row.settings,
            engine=self.engine,
            vllm=self.vllm,
        )


def cells_of(matrix: MatrixConfig) -> list[Cell]:
    """All cells, base by base, data by data, seed by seed, in the order of the rows.

    Rows that others build on come first.

    Raises:
        InputError: two bases, data sets or cells would have one name, or rows cannot be brought to the budget.
    """
    bases, data = _names("bases", matrix.all_bases), _names("data", list(map(data_label, matrix.all_data)))
    rows = budgeted_rows(matrix)
    found = [
        Cell(
            row,
            seed,
            base,
            data_set,
            bases[base],
            data[data_label(data_set)],
            matrix.engine,
            matrix.vllm,
            row.gpus or matrix.gpus,
        )
        for base in bases
        for data_set in matrix.all_data
        for seed in matrix.seeds
        for row in rows
        if row.runs_on(data_set)
    ]
    if len({cell.name for cell in found}) < len(found):
        raise InputError(
            f"matrix {matrix.name}: two cells would have one name; rename a row. The rows: "
            f"{', '.join(row.name for row in matrix.rows)}"
        )
    return found


def idle_rows(matrix: MatrixConfig) -> frozenset[tuple[str, str]]:
    """List (base and data, row) of rows that do not run on a data set, as `RunFacts.group` names it."""
    groups: dict[str, set[str]] = {}
    for cell in cells_of(matrix):
        groups.setdefault(cell.group_name, set()).add(cell.row.name)
    return frozenset((group, row.name) for group, rows in groups.items() for row in matrix.rows if row.name not in rows)


def _names(key: str, values: Sequence[str]) -> dict[str, str]:
    """Value -> its short name, a path's last part; "" where there is only one."""
    if len(values) == 1:
        return {values[0]: ""}
    names = {value: slug(Path(value).name if value.startswith((".", "/")) else value) for value in values}
    if len(set(names.values())) < len(names):
        raise InputError(
            f"`{key}`: two of {', '.join(values)} have the same last part, which names their cells. Rename a folder, "
            "or link to it by another name."
        )
    return names


def find_cell(matrix: MatrixConfig, name: str) -> Cell:
    return next(cell for cell in cells_of(matrix) if cell.name == name)


def chosen_cells(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose names match one of the patterns (`seft-*`, `*-seed0`); all where there is no pattern.

    Raises:
        InputError: a pattern matches no cell.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise InputError(f"--only {pattern!r} matches no cell. The cells: {', '.join(cell.name for cell in cells)}")
    return [cell for cell in cells if not patterns or any(fnmatchcase(cell.name, pattern) for pattern in patterns)]


def results_of(matrix: MatrixConfig, suites: Collection[str], results: Sequence[Result]) -> list[Result]:
    """The results of a matrix's cells, in the order of its cells and steps; others are left out.

    Args:
        suites: names of the matrix's suites, as results have them.
    """
    order = {row.name: index for index, row in enumerate(matrix.rows)}
    groups = list(dict.fromkeys((cell.base_name, cell.data_name) for cell in cells_of(matrix)))
    rows = [result for result in results if (run := result.run) and run.row in order and run.seed in matrix.seeds]
    own = [result for result in rows if result.suite in suites and _group(result) in groups]
    return sorted(
        own,
        key=lambda result: (
            groups.index(_group(result)),
            order[run_of(result).row],
            run_of(result).seed,
            run_of(result).step,
            result.suite,
            result.decoding,
        ),
    )


def _group(result: Result) -> tuple[str, str]:
    return run_of(result).base, run_of(result).data
