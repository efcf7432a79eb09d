"""FastChat's files of answers and grades (fschat 0.2.36, `llm_judge`).

They are data/mt_bench/model_answer/<model>.jsonl and model_judgment/<judge>_single.jsonl.

A row of answers that we write has no time of its own (`tstamp` 0) and an `answer_id` derived from its text, so the same
answers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.exchange.records import (
    OFFICIAL,
    OURS,
    Export,
    Recorded,
    json_row,
    left_out,
    name_notes,
    our_column,
    own_fields,
    read_our_column,
    safe_names,
    standing,
    unscored_note,
)
from seft_bench.judges.prompts import TemplateSet, render
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Status, text_hash
from seft_bench.suites import Suite

KIND = "mtbench"
FOLDER = Path("data") / "mt_bench"
ERROR = "$ERROR$"
"""The text that FastChat stores where its judge could not be reached."""
_NO_TEMPLATE = "none"
_OWN_FIELDS = ("question_id", "model", "judgment", "score", "turn", OURS)


def files(recorded: Sequence[Recorded], suite: Suite) -> Export:
    """One file of answers a model, one file of judgments a judge with the rows of every model."""
    export, questions = Export(), suite.questions()
    models = safe_names(item.model for item in recorded)
    judges = safe_names(judge for item in recorded for judge in item.judgments)
    lines: dict[str, list[str]] = {judge: [] for judge in judges}
    for item in recorded:
        if item.answers:
            export.files[FOLDER / "model_answer" / f"{models[item.model]}.jsonl"] = "".join(
                json_row(row) for row in answer_rows(item, questions)
            )
        for judge, rows in item.judgments.items():
            lines[judge] += [json_row(row) for row in _judgments(item, judge, rows, questions, suite, export)]
            if (result := suite.score(item.model, questions, item.answers, rows)).withheld:
                export.withheld.append(result)
    export.files |= {
        FOLDER / "model_judgment" / f"{judges[judge]}_single.jsonl": "".join(rows) for judge, rows in lines.items()
    }
    export.notes += name_notes(models) + name_notes(judges)
    return export


def answer_rows(item: Recorded, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Rows of model_answer, in the suite's order."""
    return [_answer_row(item.model, item.answers[question.id]) for question in questions if question.id in item.answers]


def _answer_row(model: str, answer: Answer) -> dict[str, Any]:
    return {
        "question_id": official_id(answer.question_id),
        "answer_id": text_hash(model, answer.question_id, *answer.turns),
        "model_id": model,
        "choices": [{"index": 0, "turns": list(answer.turns)}],
        "tstamp": 0.0,
    }


def _judgments(
    item: Recorded, judge: str, rows: Sequence[Judgment], questions: Sequence[Question], suite: Suite, export: Export
) -> list[dict[str, Any]]:
    """Return the rows of model_judgment, in the suite's order.

    Every valid one (FastChat averages them all), else the last failure.
    """
    requests = {request.key: request for request in suite.requests(questions, item.answers)}
    asked = [
        JudgeRequest("grade", question, turn, ()).key
        for question in questions
        for turn in range(1, len(question.turns) + 1)
    ]
    kept = standing(rows, {key: requests[key].answer_hash if key in requests else "" for key in asked})
    what = f"{item.model}, judge {judge}"
    export.notes += left_out(rows, kept, what)
    export.notes += unscored_note(
        [group[-1] for group in kept.values()],
        what,
        f"by score -1; show_result leaves them out without a word ({ERROR}: no reply)",
    )
    return [_judgment_row(row, judge, item.model, requests.get(key)) for key, group in kept.items() for row in group]


def _judgment_row(row: Judgment, judge: str, model: str, request: JudgeRequest | None) -> dict[str, Any]:
    """One row; what an imported row said itself is said again."""
    official = row.details.get(OFFICIAL)
    recorded: Mapping[str, Any] = official if isinstance(official, dict) else {}
    judgment = ERROR if row.status in ("api_error", "over_length") else row.raw
    made = {
        "question_id": official_id(row.question_id),
        "model": model,
        "judge": [judge, str(row.details.get("template", _NO_TEMPLATE))],
        "user_prompt": "" if recorded or request is None else user_prompt(row, request),
        "judgment": judgment,
        "score": _official_score(row.score),
        "turn": row.turn,
        "tstamp": seconds(row.judged_at),
    }
    kept = {key: value for key, value in recorded.items() if key not in _OWN_FIELDS}
    return made | kept | our_column(row, derived_status(judgment, row.score))


def derived_status(judgment: str, score: float | None) -> Status:
    """Return the status that a reader of FastChat's fields alone concludes."""
    if judgment == ERROR:
        return "api_error"
    return "parse_error" if score is None else "ok"


def user_prompt(row: Judgment, request: JudgeRequest) -> str:
    """Return what the judge read, rendered again, and only where its hash is the recorded one."""
    sets: tuple[TemplateSet, ...] = ("official", "seft-bench")
    for templates in sets if row.prompt_hash else ():
        try:
            prompt = render(request, templates)
        except InputError:
            continue  # without the official files the prompt is left empty, as where it is not known
        if prompt.hash == row.prompt_hash:
            return prompt.messages[-1]["content"]
    return ""


def with_fields(judgment: Judgment, row: Mapping[str, Any]) -> tuple[Status, dict[str, Any]]:
    """(status, details) of an imported judgment: the row's other fields are kept under `OFFICIAL`."""
    status, details = read_our_column(row, judgment.status)
    return status, details | {OFFICIAL: own_fields(row, _OWN_FIELDS)}


def official_id(question_id: str) -> int | str:
    """FastChat's ids are numbers; ours are texts."""
    return int(question_id) if question_id.isdecimal() and str(int(question_id)) == question_id else question_id


def _official_score(score: float | None) -> float | int:
    if score is None:
        return -1
    return int(score) if score == int(score) else score


def seconds(judged_at: str) -> float:
    """ISO 8601 as seconds since 1970; 0 where the time is not known."""
    try:
        return datetime.fromisoformat(judged_at).timestamp() if judged_at else 0.0
    except ValueError:
        return 0.0
