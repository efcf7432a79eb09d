"""alpaca_eval's files: model_outputs.json, annotations.json and the leaderboard.

They lie as results/<model>/model_outputs.json and results/<model>/<annotator>/annotations.json.

Columns, their order and their spelling are those of tatsu-lab/alpaca_eval 0.6.6 and of its public results.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.exchange.records import (
    OFFICIAL,
    OURS,
    Export,
    Recorded,
    json_array,
    left_out,
    name_notes,
    our_column,
    own_fields,
    read_our_column,
    safe_names,
    standing,
    unscored_note,
)
from seft_bench.records import JudgeRequest, Judgment, Question, Result, Status, candidate_first
from seft_bench.suites import Suite

KIND = "alpacaeval"
OFFICIAL_BASELINE = "gpt4_1106_preview"
LEADERBOARD_COLUMNS = (
    *(
        "win_rate",
        "standard_error",
        "n_wins",
        "n_wins_base",
        "n_draws",
        "n_total",
        "discrete_win_rate",
        "mode",
        "avg_length",
    ),
    *("length_controlled_winrate", "lc_standard_error"),
)
_MODE = "community"  # the mode that the official tool gives to a user's own model, and shows
_OWN_FIELDS = ("instruction", "output_1", "output_2", "generator_2", "dataset", "annotator", "preference", OURS)


def files(recorded: Sequence[Recorded], suite: Suite) -> Export:
    """Everything of these models, and one leaderboard a judge.

    Raises:
        InputError: judgments without the answers that were judged.
    """
    export, questions = Export(), suite.questions()
    models = safe_names(item.model for item in recorded)
    judges = safe_names(judge for item in recorded for judge in item.judgments)
    tables: dict[str, list[tuple[Result, list[dict[str, Any]]]]] = {judge: [] for judge in judges}
    for item in recorded:
        folder = Path("results") / models[item.model]
        if item.answers:
            export.files[folder / "model_outputs.json"] = json_array(output_rows(item, questions, suite))
        for judge, rows in item.judgments.items():
            annotations = _annotations(item, judge, rows, questions, suite, export)
            export.files[folder / judges[judge] / "annotations.json"] = json_array(annotations)
            tables[judge].append((suite.score(item.model, questions, item.answers, rows), annotations))
    for judge, table in tables.items():
        export.withheld += [result for result, _ in table if result.withheld]
        if lines := [_leaderboard_row(result, annotations) for result, annotations in table if not result.withheld]:
            export.files[Path("leaderboards") / f"{judges[judge]}_leaderboard.csv"] = leaderboard_text(lines)
    export.notes += name_notes(models) + name_notes(judges)
    return export


def output_rows(item: Recorded, questions: Sequence[Question], suite: Suite) -> list[dict[str, Any]]:
    """Rows of model_outputs.json, in the suite's order."""
    return [
        {
            "dataset": _dataset(question, suite),
            "instruction": question.turns[0],
            "output": item.answers[question.id].turns[0],
            "generator": item.model,
        }
        for question in questions
        if question.id in item.answers
    ]


def _annotations(
    item: Recorded, judge: str, rows: Sequence[Judgment], questions: Sequence[Question], suite: Suite, export: Export
) -> list[dict[str, Any]]:
    """Rows of annotations.json, in the suite's order: the last valid verdict of a question, else its last failure."""
    requests = {request.key: request for request in suite.requests(questions, item.answers)}
    known = {_key(question) for question in questions}
    if absent := {row.key for row in rows if row.key in known} - requests.keys():
        raise InputError(
            f"{item.source}: {len(absent)} judgments of {item.model} are of questions without an answer; annotations "
            "need it (--answers FILE)"
        )
    kept = standing(
        [*rows, *_settled(suite, item.model, requests, rows)],
        {key: request.answer_hash for key, request in requests.items()},
    )
    what = f"{item.model}, judge {judge}"
    export.notes += left_out(rows, kept, what) + unscored_note(
        [group[-1] for group in kept.values()], what, "by a null preference"
    )
    return [annotation_row(requests[key], group[-1], item.model, judge, suite) for key, group in kept.items()]


def _settled(
    suite: Suite, model: str, requests: Mapping[str, JudgeRequest], rows: Sequence[Judgment]
) -> list[Judgment]:
    """Draws of identical texts that no row gives yet: a file of judgments need not hold them."""
    judged = {row.key for row in rows if row.status == "ok"}
    found = [suite.settled(request, model) for key, request in requests.items() if key not in judged]
    return [judgment for judgment in found if judgment is not None]


def annotation_row(request: JudgeRequest, row: Judgment, model: str, judge: str, suite: Suite) -> dict[str, Any]:
    """One row of annotations.json; what an imported row said itself is said again."""
    official = row.details.get(OFFICIAL)
    recorded: Mapping[str, Any] = official if isinstance(official, dict) else {}
    made = {
        "instruction": request.question.turns[0],
        "output_1": request.baseline[0],
        "generator_1": OFFICIAL_BASELINE if suite.config.source == "official" else f"{suite.config.name}-baseline",
        "dataset": _dataset(request.question, suite),
        "output_2": request.candidate[0],
        "generator_2": model,
        "annotator": judge,
        "preference": None if row.preference is None else float(row.preference),
        "price_per_example": row.price_usd,
        "time_per_example": row.latency_seconds,
        "raw_completion": _completion(row),
    }
    return (
        made
        | {key: value for key, value in recorded.items() if key not in _OWN_FIELDS}
        | our_column(row, _derived_status(row))
    )


def _derived_status(row: Judgment) -> Status:
    return "parse_error" if row.preference is None else "ok"


def _completion(row: Judgment) -> dict[str, Any] | None:
    """The server's choice as alpaca_eval stores it; None where no judge was asked, or none answered."""
    logprobs = row.details.get("top_logprobs")
    if not row.raw or row.requested_model == "":
        return None
    tokens = (
        None
        if row.prompt_tokens is None or row.completion_tokens is None
        else float(row.prompt_tokens + row.completion_tokens)
    )
    message = {"content": row.raw, "role": "assistant", "function_call": None, "tool_calls": None}
    found = {"content": [_token(row.raw, logprobs)]} if isinstance(logprobs, dict) and logprobs else None
    return {
        "finish_reason": None,
        "index": 0,
        "logprobs": found,
        "message": message,
        "text": row.raw,
        "total_tokens": tokens,
    }


def _token(text: str, logprobs: Mapping[str, float]) -> dict[str, Any]:
    top = [{"token": token, "bytes": list(token.encode()), "logprob": value} for token, value in logprobs.items()]
    return {"token": text, "bytes": list(text.encode()), "logprob": logprobs.get(text), "top_logprobs": top}


def with_fields(judgment: Judgment, row: Mapping[str, Any]) -> tuple[Status, dict[str, Any]]:
    """(status, details) of an imported annotation: the row's other fields are kept under `OFFICIAL`."""
    status, details = read_our_column(row, judgment.status)
    return status, details | {OFFICIAL: own_fields(row, _OWN_FIELDS)}


def _leaderboard_row(result: Result, annotations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of the official table; counts as in alpaca_eval/metrics/helpers.py. An unknown figure stays empty."""
    preferences = [row["preference"] for row in annotations if row["preference"] is not None]
    metrics = result.metrics
    return {
        "": result.model,
        "win_rate": metrics["win_rate"],
        "standard_error": metrics["win_rate_se"],
        "n_wins": sum(preference > 1.5 for preference in preferences),
        "n_wins_base": sum(preference < 1.5 for preference in preferences),
        "n_draws": sum(preference == 1.5 for preference in preferences),
        "n_total": result.n_scored,
        "discrete_win_rate": metrics["discrete_win_rate"],
        "mode": _MODE,
        "avg_length": metrics["avg_length"],
        "length_controlled_winrate": metrics["lc_win_rate"],
        "lc_standard_error": metrics.get("lc_standard_error_official"),
    }


def leaderboard_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The CSV, best first: by the length-controlled win rate, by the plain one where a row has none."""

    def rank(row: Mapping[str, Any]) -> tuple[float, float]:
        value = row["length_controlled_winrate"]
        return -(row["win_rate"] if value is None else value), -row["win_rate"]

    file = io.StringIO()
    writer = csv.DictWriter(file, ["", *LEADERBOARD_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=rank))
    return file.getvalue()


def _dataset(question: Question, suite: Suite) -> str:
    return str(question.metadata.get("dataset") or suite.config.name)


def _key(question: Question) -> str:
    return JudgeRequest("preference", question, 1, (), (), candidate_first(question.turns[0])).key
