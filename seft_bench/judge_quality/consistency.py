"""`seft-bench judges consistency`: differences between judgments of the same prompt, recorded or asked for now.

Rows are repeats where judge, its weights (as far as rows tell), turn and prompt are equal: FastChat's rows hold the
prompt, ours its hash, or (judges without prompts) that of the judged texts. A key that was judged again with another
answer is no repeat, so a file with two runs of a model says nothing here unless the model answered the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.errors import InputError
from seft_bench.formats.reading import read_judgments
from seft_bench.judge_quality import asking
from seft_bench.records import Answer, JudgeRequest, Judgment, Question

if TYPE_CHECKING:
    from seft_bench.stats.consistency import Consistency


def requests_of(
    questions: Sequence[Question], answers: Sequence[Answer], prompts: int, repeats: int, seed: int
) -> list[JudgeRequest]:
    """Draw a random sample of answered turns, each to be graded `repeats` + 1 times.

    Raises:
        InputError: no answer to any question.
    """
    by_id = {question.id: question for question in questions}
    turns = [
        (by_id[a.question_id], turn, a.turns[:turn])
        for a in answers
        if a.question_id in by_id
        for turn in range(1, len(a.turns) + 1)
    ]
    if not turns:
        raise InputError(
            f"none of the {len(answers)} answers is to one of the suite's {len(by_id)} questions. Name answers with "
            "--answers, the suite with --suite"
        )
    chosen = asking.sample(turns, prompts, seed)
    return [JudgeRequest("grade", *item, repeat=repeat) for repeat in range(repeats + 1) for item in chosen]


def measure_consistency(files: Sequence[Path], rows: int = 160, judge_id: str | None = None) -> dict[str, Consistency]:
    """Map judge's id (and "grades" or "preferences") -> its self-consistency over the files' repeated prompts.

    Args:
        rows: judgments that a mean is over, for its noise.
        judge_id: only this judge's.

    Raises:
        InputError: a missing file, a broken row, or no prompt that was judged twice.
    """
    from seft_bench.stats.consistency import Repeated, consistency

    judgments = [row for path in files for row in read_judgments(path) if judge_id in (None, row.judge_id)]
    found = {}
    for name, graded, values in _repeated(judgments):
        repeated = [Repeated(question, verdicts) for question, verdicts in values]
        if measured := consistency(repeated, graded=graded, rows=rows):
            found[name] = measured
    if not found:
        names = ", ".join(str(path) for path in files)
        raise InputError(
            f"{names}: no prompt was judged twice among {len(judgments)} judgments. Repeats are rows of one judge with "
            "the same prompt: FastChat's with equal user_prompt, ours with equal prompt_hash. `seft-bench judges "
            "consistency --ask JUDGE --answers FILE` makes them"
        )
    return found


def _repeated(judgments: Iterable[Judgment]) -> Iterable[tuple[str, bool, list[tuple[str, tuple[float, ...]]]]]:
    """Yield (judge and kind, are they grades, [(question, its values)]) in order of first appearance."""
    groups: dict[tuple[str, bool], dict[Hashable, list[Judgment]]] = {}
    for row in judgments:
        prompt = _prompt(row)
        if row.status == "ok" and prompt:
            of_kind = groups.setdefault((row.judge_id, row.score is not None), {})
            of_kind.setdefault((row.turn, prompt, row.details.get("weights_fingerprint")), []).append(row)
    for (judge_id, graded), prompts in groups.items():
        values = [(rows[0].question_id, tuple(_value(row) for row in _one_a_draw(rows))) for rows in prompts.values()]
        yield f"{judge_id} ({'grades' if graded else 'preferences'})", graded, values


def _prompt(row: Judgment) -> str:
    """Return what tells the row's prompt from others, "" if nothing does."""
    if known := row.prompt_hash or str(row.details.get("user_prompt_hash", "")):
        return known
    return f"{row.key.partition('/repeat-')[0]} {row.answer_hash}" if row.answer_hash else ""


def _one_a_draw(rows: Sequence[Judgment]) -> list[Judgment]:
    """Drop rows that only show a stored response again: they are no second draw of the judge."""
    drawn = [row for row in rows if not row.details.get("from_store")]
    known = {_repeat(row) for row in drawn}
    stored = {_repeat(row): row for row in rows if row.details.get("from_store") and _repeat(row) not in known}
    return [*drawn, *stored.values()]


def _repeat(row: Judgment) -> str:
    """Return the repetition that a key names, "" for the first."""
    return row.key.rpartition("/repeat-")[2] if "/repeat-" in row.key else ""


def _value(row: Judgment) -> float:
    """Return the grade, or the side that a preference takes: 1 for the answer shown first, -1 for the second, or 0."""
    if row.score is not None:
        return row.score
    preference = 1.5 if row.preference is None else row.preference
    towards_candidate = float(preference > 1.5) - float(preference < 1.5)
    return towards_candidate if row.order == "candidate_first" else -towards_candidate
