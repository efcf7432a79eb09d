"""Grade stages: grades of a policy's samples, by a judge on this machine or by their likelihood under a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Message, Row
from seft_bench.stages.common import OUTPUTS, Find
from seft_bench.stages.diagnostics import judged_answers
from seft_bench.stages.engines import Engine, mean_logprobs

if TYPE_CHECKING:
    from seft_bench.config import JudgeConfig
    from seft_bench.stages.door import stages

LOCAL_KINDS = ("rubric", "reward-model", "transformers")
"""Kinds of judges that ask no server, so that a training costs no money that nobody agreed to."""


def run_grade(stage: stages.Grade, find: Find, folder: Path, engine: Engine) -> Row:
    """Grade every sample: rows of the prompt with `samples` and `grades`, None where a judge could not say."""
    rows = read_jsonl(find(stage.data), "samples", ["prompt", "samples"])
    flat = [(row["prompt"], text) for row in rows for text in row["samples"]]
    grades = _by_judge(stage.judge, flat) if stage.judge else _by_likelihood(find(stage.model), flat, engine)
    if flat and all(grade is None for grade in grades):
        why = f"the judge {stage.judge} graded none of them" if stage.judge else "all of them are empty"
        raise InputError(f"stage {stage.name!r} has no grade of {len(flat)} samples: {why}")
    given = iter(grades)
    write_jsonl(
        folder / OUTPUTS["score"],
        [{**row, "grades": [next(given) for _ in row["samples"]]} for row in rows],
    )
    return {"samples_graded": len(flat), "ungraded": sum(grade is None for grade in grades)}


def _by_likelihood(model: Path, flat: Sequence[tuple[Sequence[Message], str]], engine: Engine) -> list[float | None]:
    """Mean log-probability per token, the stop token included; an empty sample has no grade."""
    filled = [(prompt, text) for prompt, text in flat if text.strip()]
    [means] = mean_logprobs(engine, model, [prompt for prompt, _ in filled], [text for _, text in filled])
    given = iter(means)
    return [next(given) if text.strip() else None for _, text in flat]


def _by_judge(name: str, flat: Sequence[tuple[Sequence[Message], str]]) -> list[float | None]:
    return [judgment.score for judgment in judged_answers(flat, name)]


def judge_identity(name: str) -> Row:
    """Say which judge it is, by its id and its weights: a stage's name is made of it.

    Raises:
        InputError: as `local_judge`, or a file of the judge is missing.
    """
    from seft_bench.judges import open_judge

    judge = open_judge(local_judge(name), None)
    try:
        return {"id": judge.id, "weights": judge.weights_fingerprint}
    finally:
        judge.close()


def local_judge(name: str) -> JudgeConfig:
    """Load the config of a judge that may grade samples.

    Raises:
        InputError: there is no such judge, or it asks a server.
    """
    from seft_bench.config import load_judge

    config = load_judge(name)
    if config.kind not in LOCAL_KINDS:
        raise InputError(
            f"grader {name} is a judge of kind {config.kind}, which asks a server: samples are graded by a judge of "
            f"this machine ({', '.join(LOCAL_KINDS)}), or by base-likelihood"
        )
    return config
