"""A bench: a matrix in its folders, with everything that its names stand for looked up once and handed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from seft_bench.bench.budget import budgeted_rows
from seft_bench.bench.matrix import Cell, cells_of
from seft_bench.config import JudgeConfig, MatrixConfig, MatrixRow, data_row, load_judge
from seft_bench.data.training import check_data, open_base, open_ready_model
from seft_bench.errors import InputError
from seft_bench.evaluation_files import Places
from seft_bench.files import sha256_file, sha256_json
from seft_bench.inference.store import store_path
from seft_bench.judges import Judge, open_judge
from seft_bench.records import Answer, Question
from seft_bench.stages import door
from seft_bench.stages.graders import check_judges, grading_judge
from seft_bench.stages.models import setting_of
from seft_bench.stages.recipes import contents_of
from seft_bench.stages.runs import TrainedRun, is_other_run, matching_run
from seft_bench.suites import Suite, load_suite


@dataclass(frozen=True)
class MatrixSuite:
    """A suite of a matrix.

    Attributes:
        judges: names of the judges that judge it, the matrix's or its own.
    """

    suite: Suite
    judges: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in results."""
        return self.suite.config.name

    @property
    def decodings(self) -> list[str]:
        return list(self.suite.config.decodings)

    @cached_property
    def questions(self) -> list[Question]:
        return self.suite.questions()

    @cached_property
    def request_count(self) -> int:
        """Verdicts that one judge gives on one answered model."""
        stand_ins = {
            question.id: Answer(question.suite, question.id, "", ("",) * len(question.turns))
            for question in self.questions
        }
        return len(self.suite.requests(self.questions, stand_ins))


@dataclass(frozen=True)
class Bench:
    """One matrix in its folders. What its names stand for is looked up when it is first asked for, and never again.

    Attributes:
        out: runs, stages and answers.
        results: tables, figures and one result.json a row.
    """

    matrix: MatrixConfig
    out: Path
    results: Path

    # Cells, suites and judges behind the names

    @cached_property
    def cells(self) -> list[Cell]:
        return cells_of(self.matrix)

    @cached_property
    def suites(self) -> list[MatrixSuite]:
        return [self._open_suite(name) for name in self.matrix.suites]

    def _open_suite(self, name: str) -> MatrixSuite:
        suite = load_suite(name)
        return MatrixSuite(suite, tuple(self.matrix.judges or [self.matrix.judge or suite.config.default_judge]))

    @cached_property
    def judge_names(self) -> list[str]:
        """All judges of the suites, each once."""
        return list(dict.fromkeys(name for suite in self.suites for name in suite.judges))

    @cached_property
    def judge_configs(self) -> dict[str, JudgeConfig]:
        """Settings of every judge that the matrix names, the one for diagnostics too."""
        diagnostics = [self.matrix.diagnostics_judge] if self.matrix.diagnostics_judge else []
        return {name: load_judge(name) for name in dict.fromkeys([*self.judge_names, *diagnostics])}

    @cached_property
    def judges(self) -> dict[str, Judge]:
        """Every judge of the suites, to look at a plan with and to probe; without a store, so that no file is made."""
        return {name: open_judge(self.judge_configs[name], None) for name in self.judge_names}

    @cached_property
    def grader_configs(self) -> dict[str, JudgeConfig]:
        """Settings of every judge that grades samples for a row's training."""
        plans = [self._stages(row) for row in budgeted_rows(self.matrix)]
        names = [door.stages.grader_of(stage) for plan in plans for stage in plan]
        return {name: grading_judge(name) for name in dict.fromkeys(filter(None, names))}

    def _stages(self, row: MatrixRow) -> list[door.stages.Stage]:
        return door.methods.build_stages(row.method, row.settings, self.matrix.checkpoints)

    # Folders

    @cached_property
    def places(self) -> Places:
        """Folders of its evaluations, and the response store.

        SEFT_BENCH_STORE puts the store elsewhere: `out` may be on a shared file system, which is no place for it.
        """
        return Places(self.out, self.results, store_path(self.out))

    @property
    def stages_folder(self) -> Path:
        """Stages, which cells share."""
        return self.out / "stages"

    def run_folder(self, cell: Cell) -> Path:
        return self.out / "cells" / cell.name

    def results_folder(self, cell: Cell) -> Path:
        """The folder of the records of its training, beside its results."""
        return self.results / "cells" / cell.name

    def record_path(self, cell: Cell) -> Path:
        """The file that lists its results, written when it is finished."""
        return self.run_folder(cell) / "cell.json"

    def error_path(self, cell: Cell) -> Path:
        """The error of its last run; removed when it is finished."""
        return self.run_folder(cell) / "error.txt"

    def lock_path(self, cell: Cell) -> Path:
        return self.out / "cells" / ".locks" / cell.name

    # Runs

    def trained_run(self, cell: Cell) -> TrainedRun | None:
        """The cell's run, with these very settings; None where there is none yet."""
        return matching_run(cell.recipe, self.run_folder(cell), self.matrix.checkpoints)

    def is_changed(self, cell: Cell) -> bool:
        """Was the cell trained with other settings, checkpoints, base or data?"""
        return is_other_run(cell.recipe, self.run_folder(cell), self.matrix.checkpoints)

    # Identities

    @cached_property
    def measured_by(self) -> str:
        """Hash of what the suites and judges say.

        Not only of their names: their files may be edited between two commands.
        """
        parts: list[Any] = []
        for suite in self.suites:
            own = suite.questions if suite.suite.config.source == "files" else []
            parts += [
                suite.suite.config.model_dump(mode="json"),
                suite.suite.data_hashes(),
                [[question.id, question.turns, question.reference] for question in own],
            ]
            parts += [_judged_by(self.judge_configs[name]) for name in suite.judges]
        return sha256_json(parts)

    @cached_property
    def _contents(self) -> Mapping[str, Mapping[str, str]]:
        """Name of a cell -> hashes of what its base and the data sets that it reads hold."""
        return {cell.name: contents_of(cell.recipe) for cell in self.cells}

    def identity(self, cell: Cell) -> str:
        """Hash of all that decides a cell's results."""
        matrix = self.matrix
        shared: dict[str, Any] = {
            "base": cell.base,
            "data": data_row(cell.data),
            "checkpoints": matrix.checkpoints,
            "suites": matrix.suites,
            "judge": matrix.judge,
            "diagnostics_judge": matrix.diagnostics_judge,
            "measured_by": self.measured_by,
            "contents": self._contents[cell.name],
        }
        shared |= {"judges": matrix.judges} if matrix.judges else {}
        shared |= {"engine": matrix.engine} if matrix.engine != "transformers" else {}
        row = door.settings.without_outcome_stays(cell.row.model_dump(mode="json", exclude={"gpus", "data", "line"}))
        return sha256_json([shared, row, cell.seed])


def _judged_by(judge: JudgeConfig) -> list[Any]:
    recorded = sha256_file(Path(judge.path)) if judge.kind == "replay" and Path(judge.path).is_file() else ""
    return [judge.model_dump(mode="json"), recorded]


def open_bench(matrix: MatrixConfig, out: Path, results: Path) -> Bench:
    """The bench of a matrix that can run: methods, settings, data, suites, judges and bases are there.

    Raises:
        InputError: the first thing that is wrong.
    """
    bench = Bench(matrix, out, results)
    _ = bench.cells
    for base in matrix.all_bases:
        open_base(base)
    for row in budgeted_rows(matrix):
        _check_row(matrix, row)
    _ = bench.judge_configs
    if matrix.published:
        from seft_bench.report.published_files import load_published

        load_published(matrix.published)
    return bench


def _check_row(matrix: MatrixConfig, row: MatrixRow) -> None:
    from seft_bench.stages import door

    try:
        stages = door.methods.build_stages(row.method, row.settings, matrix.checkpoints)
        if not door.stages.makes_policy(stages):
            raise InputError(
                f"method {row.method!r} trains a reward model, which writes no answers that suites could ask for: "
                "train it on its own (`seft-bench train`), and name its checkpoint in a judge's YAML"
            )
        check_judges(stages)
        for data in filter(row.runs_on, matrix.all_data):
            check_data(data, door.stages.data_sets(stages))
        for name in door.stages.ready_models(stages):
            open_ready_model(name, setting_of(row.settings, name))
    except InputError as error:
        raise InputError(f"matrix {matrix.name}, row {row.name!r}: {error}") from None
