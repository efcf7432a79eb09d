"""Grade stages: grades of a policy's samples, by a judge or by their likelihood under a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.errors import InputError, JudgeUnavailableError
from seft_bench.files import append_rows, read_jsonl, read_log, write_jsonl
from seft_bench.judge_quality.asking import ANONYMOUS, missing
from seft_bench.judges import Judge
from seft_bench.judges.rewards import open_reader, read_samples
from seft_bench.records import JudgeRequest, Judgment, Row, from_row, to_row
from seft_bench.stages.common import OUTPUTS, Find, Workshop
from seft_bench.stages.engines import Engine, mean_logprobs
from seft_bench.stages.graders import JUDGMENTS, REPLIES, Graded, Sampled, grade_requests, of_filled
from seft_bench.stages.own_judge import graded_in_words

if TYPE_CHECKING:
    from seft_bench.stages.door import stages


def run_grade(stage: stages.Grade, find: Find, folder: Path, shop: Workshop) -> Row:
    """Grade every sample: rows of the prompt with `samples` and `grades`, None where there is none.

    Raises:
        InputError: too few samples got a grade.
        JudgeUnavailableError: the same, and the judge's server is to blame.
    """
    rows = read_jsonl(find(stage.data), "samples", ["prompt", "samples"])
    sampled = [(row["prompt"], text) for row in rows for text in row["samples"]]
    if stage.judge:
        graded = _by_judge(stage, sampled, folder, shop)
    elif stage.reward_model:
        shop.engine.release()  # the reward model wants the memory of this machine
        graded = _by_reward(stage, find(stage.reward_model), sampled)
    elif stage.asking:
        graded = graded_in_words(stage, stage.asking, find(stage.model), sampled, folder / REPLIES, shop)
    else:
        graded = _by_likelihood(stage, find(stage.model), sampled, shop.engine)
    _check_share(stage, graded)
    given = iter(graded.grades)
    scored = [{**row, "grades": [next(given) for _ in row["samples"]]} for row in rows]
    write_jsonl(folder / OUTPUTS["score"], scored)
    return {
        "graded_by": graded.by,
        "samples_graded": len(sampled),
        "ungraded": graded.without.total(),
        "ungraded_by_status": {status: count for status, count in sorted(graded.without.items()) if count},
        "prompts_graded_alike": sum(len(set(row["grades"]) - {None}) < 2 for row in scored),
        **graded.facts,
    }


def _by_likelihood(stage: stages.Grade, model: Path, sampled: Sequence[Sampled], engine: Engine) -> Graded:
    """Mean log-probability per token, the stop token included; an empty sample has no grade."""

    def score(filled: list[Sampled]) -> list[float]:
        [means] = mean_logprobs(engine, model, [prompt for prompt, _ in filled], [text for _, text in filled])
        return means

    grades = of_filled(sampled, score)
    return Graded(f"likelihood under {stage.model}", grades, Counter(empty=grades.count(None)))


def _by_reward(stage: stages.Grade, folder: Path, sampled: Sequence[Sampled]) -> Graded:
    """Grade by rewards, whose scale is the reward model's own; an empty sample has none."""
    reader = open_reader(folder)
    with reader.loaded():
        found = read_samples(reader, sampled)
    without = Counter(str(item.status) if item else "empty" for item in found if item is None or item.reward is None)
    return Graded(f"rewards by {stage.reward_model}", [item.reward if item else None for item in found], without)


def _by_judge(stage: stages.Grade, sampled: Sequence[Sampled], folder: Path, shop: Workshop) -> Graded:
    """Ask for what is missing; a killed stage goes on behind the last judgment that arrived."""
    judge, log = shop.graders.judge(str(stage.judge)), folder / JUDGMENTS
    requests = grade_requests(sampled)
    wanted = missing(judge.id, requests, log, judge)
    if wanted and judge.client is None:
        shop.engine.release()  # the judge wants the memory of this machine
    if wanted:
        _ask(judge, wanted, log, lambda done: shop.progress(stage.name, done, len(wanted)))
    judge.close()
    found = {row["key"]: from_row(Judgment, row) for row in read_log(log) if row["judge_id"] == judge.id}
    judgments = [found[request.key] for request in requests]
    facts: Row = {"judge": {"id": judge.id, "weights": judge.weights_fingerprint, "notes": list(judge.notes)}}
    facts |= {"judge_calls": len(judgments), "judge_usd": _usd(judgments) if judge.client else 0}
    without = Counter(str(judgment.status) for judgment in judgments if judgment.score is None)
    return Graded(judge.id, [judgment.score for judgment in judgments], without, facts)


def _usd(judgments: Sequence[Judgment]) -> float | None:
    """Price of what a server graded; None where one of its replies has none that is known."""
    prices = [judgment.price_usd for judgment in judgments if judgment.status != "api_error"]
    known = [price for price in prices if price is not None]
    return sum(known) if len(known) == len(prices) else None


def _ask(judge: Judge, wanted: Sequence[JudgeRequest], log: Path, on_count: Callable[[int], None]) -> None:
    count = 0

    def save(judgment: Judgment) -> None:
        nonlocal count
        append_rows(log, [to_row(judgment)])
        count += 1
        on_count(count)

    judge.judge(wanted, ANONYMOUS, save)


def _check_share(stage: stages.Grade, graded: Graded) -> None:
    """Stop where too few samples have a grade to learn from: what there is was the easy part of them.

    Raises:
        InputError, JudgeUnavailableError: with what became of the others.
    """
    total, missing_grades = len(graded.grades), graded.without.total()
    if not total or (missing_grades < total and total - missing_grades >= stage.least_share * total):
        return
    why = ", ".join(f"{count} {status}" for status, count in graded.without.most_common() if count)
    message = (
        f"stage {stage.name!r}: {total - missing_grades} of {total} samples have a grade by {graded.by} ({why}), and "
        f"min_graded_share is {stage.least_share:g}. Nothing was trained on them, and what was graded is kept: the "
        "same command asks for the others again"
    )
    if graded.advice:
        raise InputError(f"{message}. {graded.advice}")
    failed = graded.without["api_error"]
    if failed and total - missing_grades + failed >= stage.least_share * total:
        raise JudgeUnavailableError(f"{message}.")
    raise InputError(f"{message}. Or give another `grader`, or a smaller `min_graded_share`.")
