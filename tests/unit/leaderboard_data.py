"""Synthetic results of a matrix, shaped as `seft-bench bench` writes them, with figures that a test can choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seft_bench.records import Result, RunFacts, run_of
from seft_bench.report.tables import Cell, Table

ROWS = {
    "start": ("SFT (start)", "start", "sft", 0),
    "sft-chosen": ("SFT on good answers", "method", "sft-chosen", 0),
    "dpo": ("DPO", "method", "dpo", 0),
    "orpo": ("ORPO", "method", "orpo", 0),
    "always-rewrite": ("always rewrite", "ablation", "seft", 2400),
    "seft": ("SEFT", "method", "seft", 2400),
    "seft-fewer-prompts": ("SEFT, fewer prompts", "control", "seft", 600),
    "own-drafts": ("own drafts", "control", "seft", 2400),
    "self-label": ("self-label", "control", "self-label", 2400),
}
"""Row -> label, role, method, unannotated prompts."""

LEVELS = {"start": 5.2, "dpo": 6.7, "seft": 7.1, "self-label": 7.05}
"""Row -> mean grade of a small matrix."""


def run_facts(row: str, seed: int, step: int = 150, final: bool = True) -> RunFacts:
    label, role, method, prompts = ROWS[row]
    return RunFacts(
        row,
        label,
        role,
        method,
        seed,
        step,
        final,
        steps=480,
        unannotated_prompts=prompts,
        tokens_trained=412_345,
        tokens_generated=90_000,
        cpu_seconds=61.25,
    )


def result(
    row: str,
    figures: Sequence[float],
    *,
    suite: str = "tiny-mtbench",
    decoding: str = "sampled",
    seed: int = 1,
    step: int = 150,
    final: bool = True,
    content: Sequence[float] = (),
    withheld: bool = False,
    judge: str = "rubric-1",
) -> Result:
    """A result whose questions have these figures, in order: grades, or win probabilities in an AlpacaEval-like
    suite.
    """
    per_question = {f"q{index:03}": float(value) for index, value in enumerate(figures)}
    parts = {"content": {f"q{index:03}": float(value) for index, value in enumerate(content)}} if len(content) else {}
    return Result(
        suite=suite,
        model=f"{row}-seed{seed}/step-{step}",
        metrics=_metrics(suite, np.array(figures, dtype=np.float64)),
        n=len(figures),
        n_scored=len(figures),
        n_unscored=0,
        coverage=0.9 if withheld else 1.0,
        withheld=withheld,
        judge_id=judge,
        decoding=decoding,
        per_question=per_question,
        parts=parts,
        run=run_facts(row, seed, step, final),
    )


def relabelled(item: Result, label: str) -> Result:
    """The same result, its row under another name in tables."""
    return dataclasses.replace(item, run=dataclasses.replace(run_of(item), label=label))


def control(name: str, figures: Sequence[float], decoding: str = "sampled") -> Result:
    """A control without a model, as `seft-bench eval control:NAME` writes it."""
    run = RunFacts(f"control:{name}", name, "control", f"control:{name}", seed=0, step=0, final=True, control=name)
    return dataclasses.replace(result("start", figures, decoding=decoding), model=f"control:{name}", run=run)


def _metrics(suite: str, figures: Any) -> dict[str, Any]:
    mean, error = float(figures.mean()), float(figures.std(ddof=1)) / len(figures) ** 0.5
    if "alpacaeval" not in suite:
        return {
            "score": mean,
            "turn_1": mean,
            "turn_2": mean,
            "se": error,
            "low": mean - 2 * error,
            "high": mean + 2 * error,
            "score_fastchat": mean,
        }
    rates = {"win_rate": 100 * mean, "win_rate_se": 100 * error, "discrete_win_rate": 100 * mean, "avg_length": 120}
    return rates | {"lc_win_rate": 100 * mean, "lc_low": 100 * (mean - 2 * error), "lc_high": 100 * (mean + 2 * error)}


def matrix(
    levels: Mapping[str, float], seeds: Sequence[int] = (1, 2, 3), questions: int = 120, content_gain: float = 0.0
) -> list[Result]:
    """Results of both suites, decodings and two checkpoints for rows with these mean grades; questions differ in
    difficulty, seeds a little.
    """
    results = []
    for row, level in levels.items():
        for seed in seeds:
            for step in (75, 150):
                for decoding in ("sampled", "greedy"):
                    grades, content = _grades(row, level, seed, step, decoding, questions, content_gain)
                    where = {"decoding": decoding, "seed": seed, "step": step, "final": step == 150, "content": content}
                    results.append(result(row, (grades - 1) / 9, suite="tiny-alpacaeval", **where))  # type: ignore[arg-type]
                    results.append(result(row, grades, suite="tiny-mtbench", **where))  # type: ignore[arg-type]
    return results


def _grades(
    row: str, level: float, seed: int, step: int, decoding: str, questions: int, content_gain: float
) -> tuple[Any, Any]:
    difficulty = np.random.default_rng(7).normal(0, 1.5, questions)
    own = np.random.default_rng([list(ROWS).index(row), seed, step, decoding == "greedy"])
    learned = 1.0 if step == 150 else 0.8
    start = 5.2 if row != "start" else level
    mean = start + (level - start) * learned + (0.4 if decoding == "greedy" else 0.0) + own.normal(0, 0.03)
    grades = np.clip(mean + difficulty + own.normal(0, 0.8, questions), 1, 10)
    content = np.clip(
        0.65 + difficulty / 10 + (content_gain if row == "seft" else 0.0) + own.normal(0, 0.05, questions), 0, 1
    )
    return grades, content


def cells(table: Table, key: str) -> list[Cell]:
    index = [column.key for column in table.columns].index(key)
    return [row.cells[index] for row in table.rows]


def values(table: Table, key: str) -> list[object]:
    return [cell.value for cell in cells(table, key)]
