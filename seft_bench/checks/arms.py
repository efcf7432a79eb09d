"""The two sides of a check of two models: which results are meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench.checkpoints import fingerprint, is_checkpoint
from seft_bench.checkpoints.steps import last_checkpoint
from seft_bench.errors import InputError, WithheldError
from seft_bench.records import Result, run_of
from seft_bench.report.arms import is_control, is_final
from seft_bench.results import read_result, slug
from seft_bench.stages.runs import checkpoint_name


@dataclass(frozen=True)
class Pair:
    """One suite and decoding of both sides, judged by the same judge."""

    candidate: Result
    baseline: Result

    @property
    def name(self) -> str:
        return panel_name(self.candidate)

    @property
    def results(self) -> tuple[Result, ...]:
        return self.candidate, self.baseline

    @property
    def side_by_side(self) -> tuple[Result, ...]:
        return self.results

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on how the sides belong together, for a reader."""
        return ()

    @property
    def questions(self) -> list[str]:
        """Ids that both sides have a figure of, in the candidate's order."""
        return [question for question in self.candidate.per_question if question in self.baseline.per_question]


def _column(result: Result) -> tuple[str, str]:
    return result.suite, result.decoding


def panel_name(result: Result) -> str:
    return result.suite if result.decoding in ("given", "official") else f"{result.suite}, {result.decoding}"


def find_pairs(
    candidate: str,
    baseline: str,
    everything: Sequence[Result],
    results: Path,
    suites: Sequence[str] = (),
    judge: str = "",
    decoding: str = "",
) -> list[Pair]:
    """The results of both sides that belong together, one pair a suite and decoding.

    Args:
        candidate, baseline: a model's name in the results, its folder or checkpoint, or a result.json.
        everything: all results of the folder `results`.
        suites: only these.
        judge: only results of judges whose id begins so.
        decoding: only this one.

    Raises:
        InputError: nothing of that name, or nothing in common.
        WithheldError: what there is cannot be compared.
    """
    sides = [_results_of(name, everything, results) for name in (candidate, baseline)]
    if any(one is other for one in sides[0] for other in sides[1]) or (
        Path(candidate).is_file() and Path(candidate).resolve() == Path(baseline).resolve()
    ):
        raise InputError(
            f"{candidate} and {baseline} are one model in {results}/ ({sides[0][0].model}); a check takes two"
        )
    chosen = [[result for result in side if is_wanted(result, suites, judge, decoding)] for side in sides]
    common = [(one, other) for one in chosen[0] for other in chosen[1] if _column(one) == _column(other)]
    if not common:
        raise _nothing_in_common((candidate, baseline), sides, suites, bool(suites or judge or decoding))
    same_judge = [Pair(one, other) for one, other in common if one.judge_id == other.judge_id]
    if not same_judge:
        judges = " and ".join(
            f"{name} by {', '.join(sorted({result.judge_id for result in side}))}"
            for name, side in zip(("candidate", "baseline"), chosen, strict=True)
        )
        raise WithheldError(
            f"NOT COMPARABLE: judged by different judges, {judges}. Judge both with one: `seft-bench eval CANDIDATE "
            "BASELINE --judge NAME`."
        )
    refuse_several_judges([pair.candidate for pair in same_judge])
    return same_judge


def is_wanted(result: Result, suites: Sequence[str], judge: str, decoding: str) -> bool:
    return (
        (not suites or result.suite in suites)
        and result.judge_id.startswith(judge)
        and decoding in ("", result.decoding)
    )


def results_named(name: str, everything: Sequence[Result]) -> list[Result]:
    """Return the results of one model by its name, its slug, its folder or its result.json; [] without such a model."""
    path = Path(name)
    if path.name == "result.json" and path.is_file():
        return [read_result(path)]
    names = {name, *_model_ids(path)}
    return [result for result in everything if result.model in names or slug(result.model) == name]


def rows_of(everything: Sequence[Result]) -> str:
    """Names of the methods: the rows of a matrix that training made."""
    rows = [run_of(result).row for result in everything if is_final(result) and not is_control(result)]
    return ", ".join(dict.fromkeys(rows))


def _results_of(name: str, everything: Sequence[Result], folder: Path) -> list[Result]:
    found = results_named(name, everything)
    if not found:
        known = ", ".join(sorted({result.model for result in everything})[:12]) or "none"
        methods = f"; of methods: {rows}" if (rows := rows_of(everything)) else ""
        absent = f"{name} is no folder here, and there are " if "/" in name and not Path(name).exists() else ""
        raise InputError(
            f"{absent}no results of {name!r} in {folder}/; it has results of: {known}{methods}. Run `seft-bench eval "
            f"{name} --suite SUITE` first, or name another folder with --results."
        )
    if Path(name).name != "result.json":
        _refuse_other_weights(Path(name), found)
    return found


def _refuse_other_weights(path: Path, found: Sequence[Result]) -> None:
    """Folders of one name ("checkpoint-500") are common: the results must be of these very weights."""
    checkpoint = _checkpoint_of(path)
    recorded = {str(((result.manifest or {}).get("parents") or {}).get("model", "")) for result in found} - {""}
    if checkpoint is None or not recorded:
        return
    if fingerprint(checkpoint) not in recorded:
        raise InputError(
            f"the results of {found[0].model!r} are of other weights than {checkpoint} holds (another folder of that "
            f"name, or trained on since). Run `seft-bench eval {checkpoint} --suite SUITE` again; two folders of one "
            "name need different names."
        )


def _model_ids(path: Path) -> list[str]:
    """Names under which `eval` puts a checkpoint or a run; of a run, its last checkpoint is meant."""
    checkpoint = _checkpoint_of(path)
    if checkpoint is None:
        return []
    return [checkpoint_name(checkpoint)]


def _checkpoint_of(path: Path) -> Path | None:
    """The folder itself, or the last checkpoint of a run or of a folder of checkpoints."""
    if is_checkpoint(path):
        return path
    return last_checkpoint(path) if path.is_dir() else None


def _nothing_in_common(
    names: tuple[str, str], sides: Sequence[Sequence[Result]], suites: Sequence[str], narrowed: bool
) -> InputError:
    have = "; ".join(
        f"{name} has {', '.join(sorted({f'{r.suite} ({r.decoding}, {r.judge_id})' for r in side}))}"
        for name, side in zip(names, sides, strict=True)
    )
    why = (
        "with these options (--suite, --judge, --decoding) there is no result"
        if narrowed
        else "there is no suite and decoding"
    )
    wanted = f"{os.path.normpath(names[0])} {os.path.normpath(names[1])} --suite {' --suite '.join(suites) or 'SUITE'}"
    return InputError(f"{why} in common: {have}. Evaluate both: `seft-bench eval {wanted}`.")


def refuse_several_judges(sides: Sequence[Result]) -> None:
    """`sides`: one result of each pair."""
    columns = [_column(result) for result in sides]
    if len(set(columns)) < len(columns):
        judges = ", ".join(sorted({result.judge_id for result in sides}))
        raise InputError(f"several judges judged both: {judges}. Choose one with --judge; its id may be cut short.")
