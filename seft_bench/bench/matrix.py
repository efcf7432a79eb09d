"""A matrix: bases x data x rows (methods with settings) x seeds, each trained and then evaluated at every saved
checkpoint.

A cell is one row and one seed, on one base and one data set. `cells.py` runs a cell, `engines/` runs many; cells meet
at files, so a killed matrix goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from seft_bench.config import MatrixConfig, MatrixRow, RecipeConfig
from seft_bench.data.training import content_hashes
from seft_bench.errors import EXIT_CRASH, InputError
from seft_bench.files import read_json, sha256_file, sha256_json, write_json
from seft_bench.records import Result, run_of
from seft_bench.results import result_folder, slug
from seft_bench.suites import Suite


@dataclass(frozen=True)
class Cell:
    """One row and one seed of a matrix.

    Attributes:
        base, data: as the matrix names them.
        base_name, data_name: what tells the cell from those on another base or data set; "" where the matrix has only
            one.
    """

    row: MatrixRow
    seed: int
    base: str
    data: str
    base_name: str = ""
    data_name: str = ""

    @property
    def name(self) -> str:
        return "-".join(
            [part for part in (self.base_name, self.data_name) if part] + [f"{self.row.name}-seed{self.seed}"]
        )

    @property
    def group(self) -> dict[str, str]:
        """Base and data where the matrix has several: rows are compared within a group."""
        return {key: name for key, name in (("base", self.base_name), ("data", self.data_name)) if name}


@dataclass(frozen=True)
class Failure:
    """A cell that ended with an error: the message, with a traceback where it is a defect of ours, and its exit
    status.
    """

    cell: str
    message: str
    exit_status: int = EXIT_CRASH


def cells(matrix: MatrixConfig) -> list[Cell]:
    """All cells, base by base, data by data, seed by seed, in the order of the rows: rows that others build on come
    first.

    Raises:
        InputError: two bases, data sets or cells would have one name.
    """
    bases, data = _names("bases", matrix.all_bases), _names("data", matrix.all_data)
    found = [
        Cell(row, seed, base, data_set, bases[base], data[data_set])
        for base in bases
        for data_set in data
        for seed in matrix.seeds
        for row in matrix.rows
    ]
    if len({cell.name for cell in found}) < len(found):
        raise InputError(
            f"matrix {matrix.name}: two cells would have one name; rename a row. The rows: "
            f"{', '.join(row.name for row in matrix.rows)}"
        )
    return found


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
    return next(cell for cell in cells(matrix) if cell.name == name)


def chosen(plan: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose names match one of the patterns (`seft-*`, `*-seed0`); all where there is no pattern.

    Raises:
        InputError: a pattern matches no cell.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in plan):
            raise InputError(f"--only {pattern!r} matches no cell. The cells: {', '.join(cell.name for cell in plan)}")
    return [cell for cell in plan if not patterns or any(fnmatchcase(cell.name, pattern) for pattern in patterns)]


def recipe_of(matrix: MatrixConfig, cell: Cell) -> RecipeConfig:
    return RecipeConfig(
        name=cell.name,
        method=cell.row.method,
        base=cell.base,
        data=cell.data,
        seed=cell.seed,
        settings=cell.row.settings,
    )


def judge_names(matrix: MatrixConfig, suite: Suite) -> list[str]:
    """The judges of a suite: the matrix's, else the suite's own."""
    return matrix.judges or [matrix.judge or suite.config.default_judge]


def check(matrix: MatrixConfig) -> None:
    """Refuse a matrix that cannot run, before anything is trained: methods, settings, data, suites, judges, bases.

    Raises:
        InputError: the first thing that is wrong.
    """
    from seft_bench.config import load_judge
    from seft_bench.data.training import open_base
    from seft_bench.report.published_files import load_published
    from seft_bench.suites import load_suite

    cells(matrix)
    for base in matrix.all_bases:
        open_base(base)
    for row in matrix.rows:
        _check_row(matrix, row)
    for suite in map(load_suite, matrix.suites):
        for judge in judge_names(matrix, suite):
            load_judge(judge)
    if matrix.diagnostics_judge:
        load_judge(matrix.diagnostics_judge)
    if matrix.published:
        load_published(matrix.published)


def _check_row(matrix: MatrixConfig, row: MatrixRow) -> None:
    from seft_bench.data.training import TINYWORLD, open_data
    from seft_bench.stages import door

    try:
        door.methods.build_stages(row.method, row.settings, matrix.checkpoints)
        for data in set(matrix.all_data) - {TINYWORLD}:  # which is written when it is needed
            open_data(data, 0, Path(), door.methods.find_method(row.method).data)
    except InputError as error:
        raise InputError(f"row {row.name!r}: {error}") from None


# What a cell leaves behind


def is_finished(matrix: MatrixConfig, cell: Cell, out: Path, results: Path) -> bool:
    """Was this very cell, with these settings and suites, trained and evaluated already, and are its results in
    `results`?
    """
    path = done_path(out, cell)
    if not path.exists():
        return False
    record = read_json(path, "record of a cell")
    return stands(record, identity(matrix, cell), results)


def stands(record: Mapping[str, Any], identity: str, results: Path) -> bool:
    """Is a record of what was evaluated (`write_record`) of what is asked for now, with all its results there?"""
    return record.get("identity") == identity and all(
        (results / name / "questions.json").exists() for name in record["results"]
    )


def write_record(path: Path, identity: str, scored: Sequence[Result], results: Path) -> None:
    """Which results an evaluation left, and of what: read by `stands`."""
    write_json(
        path,
        {
            "identity": identity,
            "results": [str(result_folder(results, result).relative_to(results)) for result in scored],
        },
    )


def done_path(out: Path, cell: Cell) -> Path:
    return out / "cells" / cell.name / "cell.json"


def error_path(out: Path, cell: Cell) -> Path:
    """What went wrong at the cell's last run; removed when it is done."""
    return out / "cells" / cell.name / "error.txt"


def identity(matrix: MatrixConfig, cell: Cell) -> str:
    """Hash of all that decides a cell's results."""
    shared = {
        "base": cell.base,
        "data": cell.data,
        "checkpoints": matrix.checkpoints,
        "suites": matrix.suites,
        "judge": matrix.judge,
    }
    shared |= {"diagnostics_judge": matrix.diagnostics_judge} | ({"judges": matrix.judges} if matrix.judges else {})
    shared |= {"measured_by": measured_by(matrix), "contents": content_hashes(cell.base, cell.data)}
    return sha256_json([shared, cell.row.model_dump(mode="json"), cell.seed])


def measured_by(matrix: MatrixConfig) -> str:
    """Hash of what the suites and judges say, not only of their names: their files may be edited between two runs."""
    from seft_bench.suites import load_suite

    parts: list[Any] = []
    for suite in map(load_suite, matrix.suites):
        own = suite.questions() if suite.config.source == "files" else []
        parts += [
            suite.config.model_dump(mode="json"),
            suite.data_hashes(),
            [[question.id, question.turns, question.reference] for question in own],
        ]
        parts += [_judged_by(name) for name in judge_names(matrix, suite)]
    return sha256_json(parts)


def _judged_by(name: str) -> list[Any]:
    from seft_bench.config import load_judge

    judge = load_judge(name)
    recorded = sha256_file(Path(judge.path)) if judge.kind == "replay" and Path(judge.path).is_file() else ""
    return [judge.model_dump(mode="json"), recorded]


def of_matrix(matrix: MatrixConfig, results: Sequence[Result]) -> list[Result]:
    """The results of a matrix's cells on its suites, in the order of its cells and steps; others are left out.

    Raises:
        InputError: a suite of the matrix cannot be read.
    """
    from seft_bench.config import load_suite

    suites = {load_suite(name).name for name in matrix.suites}
    order = {row.name: index for index, row in enumerate(matrix.rows)}
    plan = cells(matrix)
    groups = list(dict.fromkeys((cell.base_name, cell.data_name) for cell in plan))
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
