"""Question sets of the user's own: the files that a suite's YAML with `source: files` names.

Everything is checked before a model is loaded or a judge is paid, with one message that says how much is wrong and shows
an example.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.config import SuiteConfig
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_once, sha256_file, sha256_json
from seft_bench.records import Question, instruction_id
from seft_bench.results import slug

Row = Mapping[str, Any]

_digest = read_once(sha256_file)


def pairwise_questions(config: SuiteConfig) -> list[Question]:
    """Questions of kind alpacaeval: rows with `instruction`, and the baseline's answers (`output` of the rows, or the file `baseline`).

    Raises:
        InputError: a broken row, the same instruction twice, or a question without a baseline's answer.
    """
    path = _questions_path(config)
    rows = _rows(path)
    instructions = [_text(row, "instruction", path, where) for where, row in rows]
    _check_unique(instructions, path, "instructions")
    if config.baseline is not None:
        baseline = _baseline(config.path(config.baseline), instructions)
    else:
        baseline = _own_outputs([row for _, row in rows], instructions, path)
    dataset = [{"dataset": str(row.get("dataset", ""))} for _, row in rows]
    return [
        Question(config.name, instruction_id(text), "", (text,), (answer,), metadata)
        for text, answer, metadata in zip(instructions, baseline, dataset, strict=True)
    ]


def conversations(config: SuiteConfig) -> list[Question]:
    """Questions of kind mtbench: rows with `id` (or `question_id`), one or two `turns`, and perhaps `category` and `reference`, one a turn.

    Raises:
        InputError: a broken row, the same id twice, or a reference that no judge would be shown.
    """
    path = _questions_path(config)
    questions = [_conversation(config.name, row, path, where) for where, row in _rows(path)]
    _check_unique([question.id for question in questions], path, "ids")
    return questions


def difficulties(config: SuiteConfig, questions: Sequence[Question]) -> dict[str, float] | None:
    """Difficulty by question id: None where the suite wants no length control, zeros where it says so.

    Raises:
        InputError: the file is no file of difficulties, or lacks some of these questions.
    """
    if config.difficulty == "none":
        return None
    if config.difficulty == "zero":
        return dict.fromkeys((question.id for question in questions), 0.0)
    path = config.path(config.difficulty)
    known = read_difficulties(path)
    missing = [question.turns[0] for question in questions if question.turns[0] not in known]
    if missing:
        others = len(known) - (len(questions) - len(missing))
        raise InputError(
            f"{path} has difficulties of {len(questions) - len(missing)} of the {len(questions)} questions of {config.name} and of "
            f"{others} other instructions; missing is e.g. {missing[0][:60]!r}. "
            "Fit them to these questions with `seft-bench suites difficulty`, or set difficulty to zero or none."
        )
    return {question.id: known[question.turns[0]] for question in questions}


def read_difficulties(path: Path) -> dict[str, float]:
    """Instruction -> difficulty, from the file that `seft-bench suites difficulty` writes.

    Raises:
        InputError: missing file, or another content.
    """
    found = read_json(path, "file of difficulties") if path.suffix != ".csv" else None
    known = found.get("difficulties") if isinstance(found, dict) else None
    if not isinstance(known, dict) or not known:
        raise InputError(
            f'{path} is no file of difficulties: a JSON object {{"difficulties": {{instruction: number}}}} is expected, '
            "as `seft-bench suites difficulty` writes it. AlpacaEval's own difficulties belong to its own instructions only."
        )
    wrong = [text for text, value in known.items() if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)]
    if wrong:
        raise InputError(f"{path}: {len(wrong)} of {len(known)} difficulties are no finite numbers, e.g. that of {wrong[0][:60]!r}")
    return {text: float(value) for text, value in known.items()}


def folder_name(config: SuiteConfig) -> str:
    """Name of the folder with a model's answers to a suite, which sets those to one version of a question file apart from those to another.

    Pairwise questions are keyed by their text and need only the suite's name; conversations are keyed by the user's ids, which an edit keeps.
    """
    if config.source != "files" or config.kind != "mtbench":
        return slug(config.name)
    content = [(question.id, question.category, question.turns, question.reference) for question in conversations(config)]
    return f"{slug(config.name)}-{sha256_json(content)[:8]}"


def files_note(config: SuiteConfig) -> str:
    """Which files the questions, the baseline and the difficulties came from, by name and content."""
    names = [config.questions, config.baseline, config.difficulty if config.difficulty not in ("none", "zero") else None]
    paths = [path for name in names if name is not None and (path := config.path(name)).is_file()]
    return "own question set: " + ", ".join(f"{path.name} (sha256 {_digest(path)[:16]}...)" for path in paths) + "."


def _questions_path(config: SuiteConfig) -> Path:
    if config.questions is None:
        raise InputError(f"suite {config.name} names no file of questions")
    return config.path(config.questions)


def _rows(path: Path) -> list[tuple[str, Row]]:
    from seft_bench.interop import read_rows  # it knows the suites, so they cannot know it when they are loaded

    return read_rows(path, "questions")


def _text(row: Row, key: str, path: Path, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{path}, {where}: {key} must be a text that is not empty; the row has {', '.join(sorted(row)) or 'no keys'}")
    return value


def _check_unique(keys: Iterable[str], path: Path, what: str) -> None:
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: {len(repeated)} {what} stand there more than once, e.g. {repeated[0][:60]!r}; each must be there once")


def _own_outputs(rows: Sequence[Row], instructions: Sequence[str], path: Path) -> list[str]:
    missing = [text for row, text in zip(rows, instructions, strict=True) if not isinstance(row.get("output"), str)]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(rows)} questions have no baseline's answer in `output`, e.g. {missing[0][:60]!r}. "
            "Put the baseline's answers there, or name a file of them as `baseline` in the suite's YAML."
        )
    return [row["output"] for row in rows]


def _baseline(path: Path, instructions: Sequence[str]) -> list[str]:
    from seft_bench.interop import read_answers

    answers = read_answers(path)
    models = list(dict.fromkeys(answer.model_id for answer in answers))
    if len(models) > 1:
        raise InputError(f"{path} has answers of {len(models)} models ({', '.join(models[:6])}); a baseline is one")
    known = {answer.question_id: answer.turns[0] for answer in answers}
    missing = [text for text in instructions if instruction_id(text) not in known]
    if missing:
        raise InputError(f"{path} lacks the baseline's answers to {len(missing)} of {len(instructions)} questions, e.g. {missing[0][:60]!r}")
    return [known[instruction_id(text)] for text in instructions]


def _conversation(suite: str, row: Row, path: Path, where: str) -> Question:
    name = row.get("id", row.get("question_id"))
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise InputError(f"{path}, {where}: id (or question_id) must be a text or a whole number; the row has {', '.join(sorted(row)) or 'no keys'}")
    turns = _texts(row, "turns", path, where)
    if len(turns) not in (1, 2):
        raise InputError(f"{path}, {where}: turns must be a list of one or two texts that are not empty")
    references, category = _texts(row, "reference", path, where), row.get("category", "")
    if not isinstance(category, str):
        raise InputError(f"{path}, {where}: category must be a text")
    if len(references) not in (0, len(turns)):
        raise InputError(f"{path}, {where}: reference must hold one text a turn; there are {len(references)} for {len(turns)} turns")
    _check_reference_is_used(category, references, path, where)
    return Question(suite, str(name), category, turns, references)


def _texts(row: Row, key: str, path: Path, where: str) -> tuple[str, ...]:
    values = row.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise InputError(f"{path}, {where}: {key} must be a list of texts that are not empty")
    return tuple(values)


def _check_reference_is_used(category: str, references: Sequence[str], path: Path, where: str) -> None:
    from seft_bench.judges.prompts import REFERENCE_CATEGORIES

    if references and category not in REFERENCE_CATEGORIES:
        raise InputError(
            f"{path}, {where}: the judge is shown references in the categories {', '.join(REFERENCE_CATEGORIES)} only, and this question's is "
            f"{category or 'none'!r}. Name one of these, or leave the reference out."
        )
