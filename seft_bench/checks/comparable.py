"""Conditions under which two results may be compared, and what a reader must know where they may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seft_bench.records import MINIMUM_COVERAGE, Result


def reasons_not_comparable(results: Sequence[Result], common: int) -> list[str]:
    """Give the reasons why the results must not be compared; empty when they may.

    The judge (server, model, settings, prompts) is one by its id already; what else decides a figure is compared here.

    Args:
        results: of both sides; of methods one a training seed.
        common: questions that all of them have a figure of.
    """
    if not all(result.per_question for result in results):
        return [
            "the figures of every question are not there (questions.json beside result.json): run `seft-bench eval` "
            "again where the judgments lie"
        ]
    few = [result for result in results if result.coverage < MINIMUM_COVERAGE]
    reasons = [
        f"coverage of {result.model} is {result.coverage:.1%}, under {MINIMUM_COVERAGE:.0%}: judge the rest first"
        for result in few
    ]
    for other in results[1:]:
        between = f"{results[0].model} and {other.model}: " if len(results) > 2 else ""
        reasons += [between + reason for reason in _condition_reasons(results[0], other)]
    reasons += _length_control_reasons(results)
    if common < MINIMUM_COVERAGE * max(len(result.per_question) for result in results):
        reasons.append(
            f"only {common} questions are scored on both sides{' with every seed' if len(results) > 2 else ''}"
        )
    return reasons


def _condition_reasons(one: Result, other: Result) -> list[str]:
    """Name what decides a figure and is not the same for both."""
    facts = [_facts(result) for result in (one, other)]
    pairs = {what: (facts[0][what], facts[1][what]) for what in facts[0]}
    differ = {what: values for what, values in pairs.items() if None not in values and values[0] != values[1]}
    return [f"{what} differ: {_short(first)} and {_short(second)}" for what, (first, second) in differ.items()]


def _length_control_reasons(results: Sequence[Result]) -> list[str]:
    """The primary metric must not change silently from LC to the plain win rate."""
    have = [result for result in results if result.metrics.get("lc_win_rate") is not None]
    if have and len(have) < len(results):
        names = ", ".join(result.model for result in have)
        return [
            f"only {names} {'has' if len(have) == 1 else 'have'} a length-controlled win rate: score both in one way"
        ]
    lacking = ", ".join(result.model for result in have if not result.covariates)
    return (
        [
            f"the lengths of the answers are not there ({lacking}): score again, `seft-bench eval` or `seft-bench "
            "score --answers`"
        ]
        if lacking
        else []
    )


def remarks(results: Sequence[Result]) -> list[str]:
    """Return what a reader must know of the comparison although it does not forbid it."""
    said = []
    engines = dict.fromkeys(
        str(((result.manifest or {}).get("config") or {}).get("engine", "transformers")) for result in results
    )
    if len(engines) > 1:
        said.append(f"the answers come from different engines, {' and '.join(engines)}.")
    unscored = sum(result.n_unscored for result in results)
    if unscored:
        said.append(f"{unscored} judgments are unscored; questions with a figure on one side only are left out.")
    chosen = dict.fromkeys(
        float(result.metrics["lc_c"]) for result in results if result.metrics.get("lc_c") is not None
    )
    if len(chosen) > 1:
        said.append(
            f"length control was fitted at C = {' and '.join(f'{c:.5g}' for c in chosen)}; compared are fits of both "
            "at the declared C."
        )
    if not any((result.manifest or {}).get("data_hashes", {}).get("asked") for result in results):
        said.append(
            "figures from ready files: that questions, references and decoding are the same is not recorded, and was "
            "not compared."
        )
    return said


def _facts(result: Result) -> dict[str, Any]:
    """Return what must be equal on both sides; None where a result does not say."""
    manifest: Mapping[str, Any] = result.manifest or {}
    config: Mapping[str, Any] = manifest.get("config") or {}
    recorded = config.get("suite")
    suite: Mapping[str, Any] = recorded if isinstance(recorded, dict) else {}  # ready files' results hold its name only
    return {
        "questions and references": (manifest.get("data_hashes") or {}).get("asked"),
        "answers to compare with": (manifest.get("data_hashes") or {}).get("baseline"),
        "models that the judge's server returned": config.get("returned_models"),
        "weights behind the judge's server": config.get("judge_weights"),
        "ways of decoding": (suite.get("decodings") or {}).get(result.decoding) if suite else None,
        "limits of new tokens": suite.get("max_new_tokens"),
        "ways to read verdicts": suite.get("parsing"),
        "reference answers": suite.get("references"),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
