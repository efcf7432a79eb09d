"""The two sides of a check: which results are meant, and whether they may be compared at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError, WithheldError
from seft_bench.records import MINIMUM_COVERAGE, Result
from seft_bench.results import read_result, read_results, slug


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
    chosen = [[result for result in side if _is_wanted(result, suites, judge, decoding)] for side in sides]
    common = [(one, other) for one in chosen[0] for other in chosen[1] if _column(one) == _column(other)]
    if not common:
        raise _nothing_in_common((candidate, baseline), sides, chosen)
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
    if not found:
        known = ", ".join(sorted({result.model for result in everything})[:12]) or "none"
        raise InputError(
            f"no results of {name!r} in {folder}/; it has results of: {known}. "
            f"Run `seft-bench eval {name} --suite SUITE` first, or name another folder with --results."
        )
    return found


def _model_ids(path: Path) -> list[str]:
    """Names under which `eval` puts a checkpoint or a run; of a run, its last checkpoint is meant."""
    checkpoint = path
    if (path / "checkpoints").is_dir():
        steps = sorted(child for child in (path / "checkpoints").iterdir() if (child / "config.json").is_file())
        if not steps:
            return []
        checkpoint = steps[-1]
    if not (checkpoint / "config.json").is_file():
        return []
    run = checkpoint.resolve().parent.parent
    return [checkpoint.resolve().name, f"{run.name}/{checkpoint.name}"] if checkpoint.resolve().parent.name == "checkpoints" else [checkpoint.resolve().name]


def _nothing_in_common(names: tuple[str, str], sides: Sequence[Sequence[Result]], chosen: Sequence[Sequence[Result]]) -> InputError:
    have = "; ".join(
        f"{name} has {', '.join(sorted({f'{r.suite} ({r.decoding}, {r.judge_id})' for r in side}))}" for name, side in zip(names, sides, strict=True)
    )
    why = "with these options there is no suite and decoding" if any(chosen) else "there is nothing"
    return InputError(f"{why} in common: {have}. Evaluate both: `seft-bench eval {os.path.normpath(names[0])} {os.path.normpath(names[1])} --suite SUITE`.")


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
    if len(pair.questions) < MINIMUM_COVERAGE * max(len(one.per_question), len(other.per_question)):
        reasons.append(f"only {len(pair.questions)} questions are scored on both sides")
    return reasons


def _facts(result: Result) -> dict[str, Any]:
    """What must be equal on both sides; None where a result does not say."""
    manifest: Mapping[str, Any] = result.manifest or {}
    config: Mapping[str, Any] = manifest.get("config") or {}
    recorded = config.get("suite")
    suite: Mapping[str, Any] = recorded if isinstance(recorded, dict) else {}  # ready files' results hold its name only
    return {
        "questions and references": (manifest.get("data_hashes") or {}).get("asked"),
        "models that the judge's server returned": config.get("returned_models"),
        "ways of decoding": (suite.get("decodings") or {}).get(result.decoding) if suite else None,
        "limits of new tokens": suite.get("max_new_tokens"),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
