"""The two sides of a check: which results are meant, and whether they may be compared at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError, WithheldError
from seft_bench.files import sha256_folder
from seft_bench.records import MINIMUM_COVERAGE, Result
from seft_bench.results import read_result, read_results, slug
from seft_bench.runs import checkpoint_name, last_checkpoint


@dataclass(frozen=True)
class Pair:
    """One suite and decoding of both sides, judged by the same judge."""

    candidate: Result
    baseline: Result

    @property
    def name(self) -> str:
        decoding = self.candidate.decoding
        return self.candidate.suite if decoding in ("given", "official") else f"{self.candidate.suite}, {decoding}"

    @property
    def questions(self) -> list[str]:
        """Ids that both sides have a figure of, in the candidate's order."""
        return [question for question in self.candidate.per_question if question in self.baseline.per_question]


def find_pairs(candidate: str, baseline: str, results: Path, suites: Sequence[str] = (), judge: str = "", decoding: str = "") -> list[Pair]:
    """The results of both sides that belong together, one pair a suite and decoding.

    Args:
        candidate, baseline: a model's name in the results, its folder or checkpoint, or a result.json.
        suites: only these. judge: only results of judges whose id begins so. decoding: only this one.

    Raises:
        InputError: nothing of that name, or nothing in common.
        WithheldError: what there is cannot be compared.
    """
    everything = read_results(results)
    sides = [_results_of(name, everything, results) for name in (candidate, baseline)]
    if any(one is other for one in sides[0] for other in sides[1]) or (Path(candidate).is_file() and Path(candidate).resolve() == Path(baseline).resolve()):
        raise InputError(f"{candidate} and {baseline} are one model in {results}/ ({sides[0][0].model}); a check takes two")
    chosen = [[result for result in side if _is_wanted(result, suites, judge, decoding)] for side in sides]
    common = [(one, other) for one in chosen[0] for other in chosen[1] if _column(one) == _column(other)]
    if not common:
        raise _nothing_in_common((candidate, baseline), sides, suites, bool(suites or judge or decoding))
    same_judge = [Pair(one, other) for one, other in common if one.judge_id == other.judge_id]
    if not same_judge:
        judges = " and ".join(
            f"{name} by {', '.join(sorted({result.judge_id for result in side}))}" for name, side in zip(("candidate", "baseline"), chosen, strict=True)
        )
        raise WithheldError(f"NOT COMPARABLE: judged by different judges, {judges}. Judge both with one: `seft-bench eval CANDIDATE BASELINE --judge NAME`.")
    _refuse_several_judges(same_judge)
    return same_judge


def _column(result: Result) -> tuple[str, str]:
    return result.suite, result.decoding


def _is_wanted(result: Result, suites: Sequence[str], judge: str, decoding: str) -> bool:
    return (not suites or result.suite in suites) and result.judge_id.startswith(judge) and decoding in ("", result.decoding)


def _results_of(name: str, everything: Sequence[Result], folder: Path) -> list[Result]:
    path = Path(name)
    if path.name == "result.json" and path.is_file():
        return [read_result(path)]
    names = {name, *_model_ids(path)}
    found = [result for result in everything if result.model in names or slug(result.model) == name]
    _refuse_other_weights(path, found)
    if not found:
        _refuse_method(name, everything)
        known = ", ".join(sorted({result.model for result in everything})[:12]) or "none"
        absent = f"{name} is no folder here, and there are " if "/" in name and not path.exists() else ""
        raise InputError(
            f"{absent}no results of {name!r} in {folder}/; it has results of: {known}. "
            f"Run `seft-bench eval {name} --suite SUITE` first, or name another folder with --results."
        )
    return found


def _refuse_method(name: str, everything: Sequence[Result]) -> None:
    """A row of a matrix is a method, and a check of one checkpoint says nothing about it."""
    of_row = [result for result in everything if result.run.get("row") == name and result.run.get("final")]
    if not of_row:
        return
    seeds, models = sorted({int(result.run["seed"]) for result in of_row}), ", ".join(sorted({result.model for result in of_row})[:6])
    if len(seeds) < 3:
        raise WithheldError(
            f"{name!r} is a method with {len(seeds)} training seeds; a verdict on a method needs at least three. Its final checkpoints: {models}"
        )
    raise InputError(
        f"{name!r} is a method with training seeds {', '.join(map(str, seeds))}; a check compares two checkpoints ({models}). "
        "Methods are compared over questions and seeds by `seft-bench leaderboard MATRIX`."
    )


def _refuse_other_weights(path: Path, found: Sequence[Result]) -> None:
    """Folders of one name ("checkpoint-500") are common: the results must be of these very weights."""
    checkpoint = _checkpoint_of(path)
    recorded = {str(((result.manifest or {}).get("parents") or {}).get("model", "")) for result in found} - {""}
    if checkpoint is None or not recorded:
        return
    if sha256_folder(checkpoint) not in recorded:
        raise InputError(
            f"the results of {found[0].model!r} are of other weights than {checkpoint} holds (another folder of that name, or trained on since). "
            f"Run `seft-bench eval {checkpoint} --suite SUITE` again; two folders of one name need different names."
        )


def _model_ids(path: Path) -> list[str]:
    """Names under which `eval` puts a checkpoint or a run; of a run, its last checkpoint is meant."""
    checkpoint = _checkpoint_of(path)
    if checkpoint is None:
        return []
    return [checkpoint_name(checkpoint)]


def _checkpoint_of(path: Path) -> Path | None:
    """The folder itself, or the last checkpoint of a run or of a folder of checkpoints."""
    if (path / "config.json").is_file():
        return path
    return last_checkpoint(path) if path.is_dir() else None


def _nothing_in_common(names: tuple[str, str], sides: Sequence[Sequence[Result]], suites: Sequence[str], narrowed: bool) -> InputError:
    have = "; ".join(
        f"{name} has {', '.join(sorted({f'{r.suite} ({r.decoding}, {r.judge_id})' for r in side}))}" for name, side in zip(names, sides, strict=True)
    )
    why = "with these options (--suite, --judge, --decoding) there is no result" if narrowed else "there is no suite and decoding"
    wanted = f"{os.path.normpath(names[0])} {os.path.normpath(names[1])} --suite {' --suite '.join(suites) or 'SUITE'}"
    return InputError(f"{why} in common: {have}. Evaluate both: `seft-bench eval {wanted}`.")


def _refuse_several_judges(pairs: Sequence[Pair]) -> None:
    columns = [_column(pair.candidate) for pair in pairs]
    if len(set(columns)) < len(columns):
        judges = ", ".join(sorted({pair.candidate.judge_id for pair in pairs}))
        raise InputError(f"several judges judged both: {judges}. Choose one with --judge; its id may be cut short.")


def reasons_not_comparable(pair: Pair) -> list[str]:
    """Why the two results must not be compared; empty when they may.

    The judge (server, model, settings, prompts) is one by its id already; what else decides a figure is compared here.
    """
    one, other = pair.candidate, pair.baseline
    if not (one.per_question and other.per_question):
        return ["the figures of every question are not there (questions.json beside result.json): run `seft-bench eval` again where the judgments lie"]
    reasons = [
        f"coverage of {result.model} is {result.coverage:.1%}, under {MINIMUM_COVERAGE:.0%}: judge the rest first"
        for result in (one, other)
        if result.coverage < MINIMUM_COVERAGE
    ]
    facts = [_facts(result) for result in (one, other)]
    for what in facts[0]:
        values = [side[what] for side in facts]
        if None not in values and values[0] != values[1]:
            reasons.append(f"{what} differ: {_short(values[0])} and {_short(values[1])}")
    reasons += _length_control_reasons(one, other)
    if len(pair.questions) < MINIMUM_COVERAGE * max(len(one.per_question), len(other.per_question)):
        reasons.append(f"only {len(pair.questions)} questions are scored on both sides")
    return reasons


def _length_control_reasons(one: Result, other: Result) -> list[str]:
    """The primary metric must not change silently from LC to the plain win rate."""
    has = [result.metrics.get("lc_win_rate") is not None for result in (one, other)]
    if has[0] != has[1]:
        return [f"only {(one if has[0] else other).model} has a length-controlled win rate: score both in one way"]
    lacking = [result.model for result in (one, other) if has[0] and not result.covariates]
    return (
        [f"the lengths of the answers are not there ({', '.join(lacking)}): score again, `seft-bench eval` or `seft-bench score --answers`"] if lacking else []
    )


def remarks(pair: Pair) -> list[str]:
    """What does not forbid the comparison, but a reader must know."""
    one, other = pair.candidate, pair.baseline
    said = []
    engines = [((result.manifest or {}).get("config") or {}).get("engine", "transformers") for result in (one, other)]
    if engines[0] != engines[1]:
        said.append(f"the answers come from different engines, {engines[0]} and {engines[1]}.")
    unscored = one.n_unscored + other.n_unscored
    if unscored:
        said.append(f"{unscored} judgments are unscored; questions with a figure on one side only are left out.")
    chosen = [result.metrics.get("lc_c") for result in (one, other)]
    if None not in chosen and chosen[0] != chosen[1]:
        said.append(f"length control was fitted at C = {chosen[0]:.5g} and {chosen[1]:.5g}; compared are fits of both at the declared C.")
    if not any((result.manifest or {}).get("data_hashes", {}).get("asked") for result in (one, other)):
        said.append("figures from ready files: that questions, references and decoding are the same is not recorded, and was not compared.")
    return said


def _facts(result: Result) -> dict[str, Any]:
    """What must be equal on both sides; None where a result does not say."""
    manifest: Mapping[str, Any] = result.manifest or {}
    config: Mapping[str, Any] = manifest.get("config") or {}
    recorded = config.get("suite")
    suite: Mapping[str, Any] = recorded if isinstance(recorded, dict) else {}  # ready files' results hold its name only
    return {
        "questions and references": (manifest.get("data_hashes") or {}).get("asked"),
        "answers to compare with": (manifest.get("data_hashes") or {}).get("baseline"),
        "models that the judge's server returned": config.get("returned_models"),
        "ways of decoding": (suite.get("decodings") or {}).get(result.decoding) if suite else None,
        "limits of new tokens": suite.get("max_new_tokens"),
        "ways to read verdicts": suite.get("parsing"),
        "reference answers": suite.get("references"),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
