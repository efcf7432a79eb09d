"""Readers of the official tools' files and ours, told apart by their content.

Answers: alpaca_eval's `model_outputs.json`, FastChat's `model_answer/*.jsonl`, our answers.jsonl. Judgments:
alpaca_eval's `annotations.json`, FastChat's `model_judgment/gpt-4_single.jsonl` and `gpt-4_pair.jsonl`, our
judgments.jsonl. Every judgment gets a status: what the official files store as null or -1 was never a verdict.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from seft_bench.errors import InputError
from seft_bench.files import json_of, parse_line, read_bytes, text_of
from seft_bench.formats import fastchat_pairs
from seft_bench.formats.fastchat_pairs import whole_number
from seft_bench.records import (
    ANSWERED,
    UNANSWERED,
    Answer,
    JudgeRequest,
    Judgment,
    Question,
    Row,
    Status,
    candidate_first,
    from_row,
    instruction_id,
    preference_key,
    text_hash,
)

Format = Literal[
    "alpaca_eval outputs",
    "alpaca_eval annotations",
    "FastChat answers",
    "FastChat judgments",
    "FastChat pairs",
    "answers",
    "judgments",
]
RecordT = TypeVar("RecordT")

# The keys that tell a format; the first match wins, so the richer formats stand first.
_SIGNS: dict[Format, frozenset[str]] = {
    "judgments": frozenset({"key", "judge_id", "status", "model_id"}),
    "answers": frozenset({"question_id", "model_id", "turns"}),
    "FastChat judgments": frozenset({"question_id", "model", "judgment", "score", "turn"}),
    "FastChat pairs": fastchat_pairs.SIGNS,
    "FastChat answers": frozenset({"question_id", "model_id", "choices"}),
    "alpaca_eval annotations": frozenset({"instruction", "output_1", "output_2", "preference"}),
    "alpaca_eval outputs": frozenset({"instruction", "output"}),
}
_FASTCHAT_ERROR = "$ERROR$"


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An answer of a file.

    Attributes:
        asked: the instruction, in files that are keyed by it; "" in others.
        choices: how many answers the row holds, of which the first is read, as FastChat's judge does.
    """

    answer: Answer
    asked: str = ""
    choices: int = 1


def read_answers(path: Path) -> list[Answer]:
    """Read answers of one or more models, also out of alpaca_eval's annotations, which hold the judged outputs.

    Texts are as they stand in the file, reasoning included.

    Raises:
        InputError: missing file, unknown format, or a broken row, with its line or index.
    """
    return [found.answer for found in read_file_answers(path)]


def read_file_answers(path: Path) -> list[FileAnswer]:
    """As `read_answers`, with what tells which question each row belongs to.

    Raises:
        InputError: as there.
    """
    rows = read_rows(path, "answers")
    answers = _records(rows, path, "answers", _ANSWER_READERS)
    return [_file_answer(answer, row) for answer, (_, row) in zip(answers, rows, strict=True)]


def _file_answer(answer: Answer, row: Row) -> FileAnswer:
    choices = row.get("choices")
    return FileAnswer(answer, asked_in(row), len(choices) if isinstance(choices, list) else 1)


def asked_in(row: Row) -> str:
    """Return the instruction that a row of the official tool's names; "" in other formats."""
    asked = row.get("instruction")
    return asked if isinstance(asked, str) else ""


def read_judgments(path: Path) -> list[Judgment]:
    """Read judgments of one or more models, in the order of the file.

    A row of FastChat's pairs gives four: both models as the candidate, both orders.

    Raises:
        InputError: missing file, unknown format, or a broken row, with its line or index.
    """
    return _flat(_read(path, "judgments", _JUDGMENT_READERS))


def read_instructions(path: Path) -> dict[str, str]:
    """Map question id -> instruction, of a file that is keyed by instructions; {} for others.

    Raises:
        InputError: missing file, no rows, or something that is no JSON object.
    """
    return {instruction_id(asked): asked for _, row in read_rows(path, "rows") if (asked := asked_in(row))}


def index_answers(answers: Iterable[Answer]) -> dict[str, dict[str, Answer]]:
    """Map model id -> question id -> its last answer."""
    indexed: dict[str, dict[str, Answer]] = {}
    for answer in answers:
        indexed.setdefault(answer.model_id, {})[answer.question_id] = answer
    return indexed


def _flat(read: Iterable[Judgment | list[Judgment]]) -> list[Judgment]:
    """Flatten rows of FastChat's pairs, each of which holds several judgments."""
    return [judgment for row in read for judgment in (row if isinstance(row, list) else [row])]


def read_judged_texts(path: Path) -> tuple[list[Judgment], list[FileAnswer]]:
    """Read judgments, and the candidates' answers if the file holds them too, as alpaca_eval's annotations do.

    Raises:
        InputError: as `read_judgments`.
    """
    rows = read_rows(path, "judgments")
    judgments = _flat(_records(rows, path, "judgments", _JUDGMENT_READERS))
    holds_answers = format_of(rows[0][1]) == "alpaca_eval annotations"
    return judgments, read_file_answers(path) if holds_answers else []


def read_rows(path: Path, what: str) -> list[tuple[str, Row]]:
    """Read (place, row) of a JSON array or of JSON Lines, gzipped or not; `what` names the file in messages.

    Raises:
        InputError: missing file, no rows, or something that is no JSON object, with its line or index.
    """
    kind = f"file of {what}"
    stored = read_bytes(path, kind)
    if stored.lstrip().startswith(b"["):
        located = [(f"index {index}", row) for index, row in enumerate(json_of(stored, path, kind))]
    else:
        located = _line_rows(text_of(stored, path, kind), path, what)
    if not located:
        raise InputError(f"the file of {what} has no rows: {path}")
    for where, row in located:
        if not isinstance(row, dict):
            raise InputError(f"{path}, {where}: a JSON object is expected, this is {type(row).__name__}")
    return located


def _read(path: Path, what: str, readers: Mapping[Format, Callable[[Row], RecordT]]) -> list[RecordT]:
    return _records(read_rows(path, what), path, what, readers)


def _records(
    rows: list[tuple[str, Row]], path: Path, what: str, readers: Mapping[Format, Callable[[Row], RecordT]]
) -> list[RecordT]:
    where, first = rows[0]
    kind = format_of(first)
    if kind is None or kind not in readers:
        keys = ", ".join(sorted(first)) or "(none)"
        found = f"it looks like {kind}" if kind else f"its first row has the keys {keys}"
        raise InputError(
            f"{path} is no file of {what} ({where}): {found}. Formats that can be read: {', '.join(readers)}."
        )
    reader = readers[kind]
    return [_record(reader, row, path, where, kind) for where, row in rows]


def _record(reader: Callable[[Row], RecordT], row: Row, path: Path, where: str, kind: Format) -> RecordT:
    if not _SIGNS[kind] <= row.keys():
        missing = sorted(_SIGNS[kind] - row.keys())
        raise InputError(f"{path}, {where}: key {', '.join(missing)} is missing in a row of {kind}")
    try:
        return reader(row)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise InputError(f"{path}, {where}: not a row of {kind}: {error}") from None


def format_of(row: Row) -> Format | None:
    """Return the format of a row, told by its keys."""
    return next((kind for kind, signs in _SIGNS.items() if signs <= row.keys()), None)


def _line_rows(text: str, path: Path, what: str) -> list[tuple[str, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append((f"line {number}", parse_line(line, path, number, f"file of {what}")))
    return rows


def _answer(row: Row) -> Answer:
    answer = from_row(Answer, row)
    _check_texts(answer.turns)
    known = (*ANSWERED, *UNANSWERED)
    if answer.statuses and (len(answer.statuses) != len(answer.turns) or set(answer.statuses) - set(known)):
        raise ValueError(f"statuses are one a turn, each of {', '.join(known)}; these are {list(answer.statuses)}")
    return answer


def _answer_of_outputs(row: Row) -> Answer:
    _check_texts((row["instruction"], row["output"]))
    model = str(row.get("generator") or "unnamed")
    return Answer("alpacaeval", instruction_id(row["instruction"]), model, (row["output"],))


def _answer_of_annotation(row: Row) -> Answer:
    _check_texts((row["instruction"], row["output_2"]))
    model = str(row.get("generator_2") or "unnamed")
    return Answer("alpacaeval", instruction_id(row["instruction"]), model, (row["output_2"],))


def _answer_of_fastchat(row: Row) -> Answer:
    turns = tuple(row["choices"][0]["turns"])
    _check_texts(turns)
    return Answer("mtbench", str(row["question_id"]), str(row["model_id"]), turns)


def _check_texts(texts: tuple[Any, ...]) -> None:
    if not texts:
        raise ValueError("there is no text")
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"texts are expected, this is {type(text).__name__}")


def judgment_row(row: Row) -> Row:
    """Return a row that a judgment of ours can be made of.

    Raises:
        ValueError: what is wrong with it.
    """
    _judgment(row)
    return row


def _judgment(row: Row) -> Judgment:
    judgment = from_row(Judgment, row)
    in_range = [low <= value <= high for value, low, high in _values(judgment)]
    if (judgment.status == "ok") != bool(in_range) or not all(in_range):
        raise ValueError(
            f"status {judgment.status} with score {judgment.score!r} and preference {judgment.preference!r}"
        )
    if not judgment.key.startswith(f"{judgment.question_id}/{judgment.turn}/"):
        raise ValueError(f"key {judgment.key!r} is not of question {judgment.question_id!r}, turn {judgment.turn}")
    return judgment


def _values(judgment: Judgment) -> list[tuple[float, float, float]]:
    """Return the verdict's values, each with the least and the most that it can be.

    A number beyond the scale of grades was read by older versions, and is no grade to the suites (`on_the_scale`).
    """
    most = sys.float_info.max
    asked = ((judgment.score, -most, most), (judgment.preference, 1.0, 2.0))
    return [(value, low, high) for value, low, high in asked if value is not None]


def _judgment_of_annotation(row: Row) -> Judgment:
    """Read alpaca_eval's row: output_2 is the candidate's; null and -1 are failures, 0 a draw; numbers may be text."""
    _check_texts((row["instruction"], row["output_1"], row["output_2"]))
    value = _number(row["preference"])
    preference = None if value is None or value == -1 else value or 1.5
    if preference is not None and not 1 <= preference <= 2:
        raise ValueError(f"preference {row['preference']!r} is not in [1, 2]")
    question_id, first = instruction_id(row["instruction"]), candidate_first(row["instruction"])
    return Judgment(
        suite="alpacaeval",
        question_id=question_id,
        model_id=str(row.get("generator_2") or "unnamed"),
        turn=1,
        key=preference_key(question_id, 1, first),
        answer_hash=text_hash(row["output_2"], row["output_1"]),
        judge_id=str(row.get("annotator", "")),
        requested_model="",
        returned_model="",
        prompt_hash="",
        order="candidate_first" if first else "candidate_second",
        status="parse_error" if preference is None else "ok",
        preference=preference,
        raw=_completion_text(row.get("raw_completion")),
    )


def _judgment_of_fastchat(row: Row) -> Judgment:
    """Read FastChat's row: -1 is an unparsed reply, "$ERROR$" a failed call; the judged texts are not in it."""
    score, turn = _number(row["score"]), whole_number(row["turn"])
    status = _fastchat_status(str(row["judgment"]), score)
    judge = row.get("judge", "")
    question = Question("mtbench", str(row["question_id"]), "", ())
    return Judgment(
        suite="mtbench",
        question_id=question.id,
        model_id=str(row["model"]),
        turn=turn,
        key=JudgeRequest("grade", question, turn, ()).key,
        answer_hash="",
        judge_id=str(judge[0] if isinstance(judge, list) and judge else judge),
        requested_model="",
        returned_model="",
        prompt_hash="",
        order="single",
        status=status,
        score=score if status == "ok" else None,
        raw=str(row["judgment"]),
        details={"user_prompt_hash": text_hash(str(row["user_prompt"]))} if "user_prompt" in row else {},
    )


def _fastchat_status(judgment: str, score: float | None) -> Status:
    if judgment == _FASTCHAT_ERROR:
        return "api_error"
    return "parse_error" if score is None or score == -1 else "ok"


def _number(value: Any) -> float | None:
    """Return a number, also from text; None for null and NaN."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"a number is expected, this is {value!r}")
    number = float(value)
    if math.isinf(number):
        raise ValueError(f"a finite number is expected, this is {str(value)[:40]!r}")
    return None if math.isnan(number) else number


def _completion_text(completion: Any) -> str:
    """Return the judge's reply: alpaca_eval stores a text, or the whole choice of the server."""
    if isinstance(completion, dict):
        message = completion.get("message")
        content = message.get("content") if isinstance(message, dict) else completion.get("text")
        return content if isinstance(content, str) else ""
    return completion if isinstance(completion, str) else ""


_ANSWER_READERS: dict[Format, Callable[[Row], Answer]] = {
    "answers": _answer,
    "alpaca_eval outputs": _answer_of_outputs,
    "FastChat answers": _answer_of_fastchat,
    "alpaca_eval annotations": _answer_of_annotation,
}
_JUDGMENT_READERS: dict[Format, Callable[[Row], Judgment | list[Judgment]]] = {
    "judgments": _judgment,
    "alpaca_eval annotations": _judgment_of_annotation,
    "FastChat judgments": _judgment_of_fastchat,
    "FastChat pairs": fastchat_pairs.read_pair,
}
