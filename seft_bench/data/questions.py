"""The questions of a suite, from the official files, the tinyworld, or the user's own files that its YAML names.

Own files are checked before a model is loaded or a judge is paid, with one message that says how much is wrong and
shows an example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from seft_bench.answers import answered_turns
from seft_bench.config import SuiteConfig
from seft_bench.data import official
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl
from seft_bench.formats.reading import read_answers, read_rows
from seft_bench.records import Question, Row, instruction_id

REFERENCE_CATEGORIES = ("math", "reasoning", "coding")
"""Categories whose answers are judged against a reference: FastChat's NEED_REF_CATS, less arena-hard."""


def graded_questions(config: SuiteConfig) -> list[Question]:
    """Return the questions of a suite of this kind, with the reference answers that its config asks for.

    Raises:
        InputError: an official file is missing or broken.
    """
    return _all_graded(config)[: config.max_questions]


def _all_graded(config: SuiteConfig) -> list[Question]:
    if config.source == "files":
        return conversations(config)
    if config.source == "official":
        return _official_questions(config)
    return official.tinyworld_questions("mtbench", config.source)


def mtbench_files(config: SuiteConfig) -> tuple[str, ...]:
    """Return the official files that questions and references come from; none outside the official suites."""
    if config.source != "official":
        return ()
    corrected = config.references == "corrected"
    return official.QUESTIONS, official.CORRECTED_REFERENCES if corrected else official.REFERENCE_ANSWERS


def _official_questions(config: SuiteConfig) -> list[Question]:
    questions, reference_answers = map(official.official_path, mtbench_files(config))
    references = _official_references(reference_answers)
    rows = read_jsonl(questions, "MT-Bench's questions", required=("question_id", "category", "turns"))
    ids = [str(row["question_id"]) for row in rows]
    return [
        Question(config.name, name, str(row["category"]), tuple(row["turns"]), references.get(name, ()))
        for name, row in zip(ids, rows, strict=True)
    ]


def _official_references(path: Path) -> dict[str, tuple[str, ...]]:
    """Map question id -> GPT-4's reference answers, one a turn (ids 101-130)."""
    rows = read_jsonl(path, "MT-Bench's reference answers", required=("question_id", "choices"))
    return {str(row["question_id"]): _first_choice(row, path) for row in rows}


def _first_choice(row: Row, path: Path) -> tuple[str, ...]:
    try:
        return tuple(str(turn) for turn in row["choices"][0]["turns"])
    except (LookupError, TypeError):
        raise InputError(f"{path}: question {row['question_id']} has no choices[0].turns") from None


# Files of the user's own


def pairwise_questions(config: SuiteConfig) -> list[Question]:
    """Read questions of kind alpacaeval: rows with `instruction`, and the baseline's answers.

    These are `output` of the rows, or the file `baseline`.

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
    """Read questions of kind mtbench: rows with `id` (or `question_id`) and one or two `turns`.

    A row may have `category`, and `reference`, one a turn.

    Raises:
        InputError: a broken row, the same id twice, or a reference that no judge would be shown.
    """
    path = _questions_path(config)
    questions = [_conversation(config.name, row, path, where) for where, row in _rows(path)]
    _check_unique([question.id for question in questions], path, "ids")
    return questions


def _questions_path(config: SuiteConfig) -> Path:
    if config.questions is None:
        raise InputError(f"suite {config.name} names no file of questions")
    return config.path(config.questions)


def _rows(path: Path) -> list[tuple[str, Row]]:
    return read_rows(path, "questions")


def _text(row: Row, key: str, path: Path, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"{path}, {where}: {key} must be a text that is not empty; the row has "
            f"{', '.join(sorted(row)) or 'no keys'}"
        )
    return value


def _check_unique(keys: Iterable[str], path: Path, what: str) -> None:
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise InputError(
            f"{path}: {len(repeated)} {what} stand there more than once, e.g. {repeated[0][:60]!r}; each must be there "
            "once"
        )


def _own_outputs(rows: Sequence[Row], instructions: Sequence[str], path: Path) -> list[str]:
    missing = [text for row, text in zip(rows, instructions, strict=True) if not isinstance(row.get("output"), str)]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(rows)} questions have no baseline's answer in `output`, e.g. "
            f"{missing[0][:60]!r}. Put the baseline's answers there, or name a file of them as `baseline` in the "
            "suite's YAML."
        )
    return [row["output"] for row in rows]


def _baseline(path: Path, instructions: Sequence[str]) -> list[str]:
    answers = read_answers(path)
    models = list(dict.fromkeys(answer.model_id for answer in answers))
    if len(models) > 1:
        raise InputError(f"{path} has answers of {len(models)} models ({', '.join(models[:6])}); a baseline is one")
    known = {answer.question_id: answer.turns[0] for answer in answers if answered_turns(answer)}
    missing = [text for text in instructions if instruction_id(text) not in known]
    if missing:
        raise InputError(
            f"{path} lacks the baseline's answers to {len(missing)} of {len(instructions)} questions, e.g. "
            f"{missing[0][:60]!r}"
        )
    return [known[instruction_id(text)] for text in instructions]


def _conversation(suite: str, row: Row, path: Path, where: str) -> Question:
    name = row.get("id", row.get("question_id"))
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise InputError(
            f"{path}, {where}: id (or question_id) must be a text or a whole number; the row has "
            f"{', '.join(sorted(row)) or 'no keys'}"
        )
    turns = _texts(row, "turns", path, where)
    if len(turns) not in (1, 2):
        raise InputError(f"{path}, {where}: turns must be a list of one or two texts that are not empty")
    references, category = _texts(row, "reference", path, where), row.get("category", "")
    if not isinstance(category, str):
        raise InputError(f"{path}, {where}: category must be a text")
    if len(references) not in (0, len(turns)):
        raise InputError(
            f"{path}, {where}: reference must hold one text a turn; there are {len(references)} for {len(turns)} turns"
        )
    _check_reference_is_used(category, references, path, where)
    return Question(suite, str(name), category, turns, references)


def _texts(row: Row, key: str, path: Path, where: str) -> tuple[str, ...]:
    values = row.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise InputError(f"{path}, {where}: {key} must be a list of texts that are not empty")
    return tuple(values)


def _check_reference_is_used(category: str, references: Sequence[str], path: Path, where: str) -> None:
    if references and category not in REFERENCE_CATEGORIES:
        raise InputError(
            f"{path}, {where}: the judge is shown references in the categories {', '.join(REFERENCE_CATEGORIES)} only, "
            f"and this question's is {category or 'none'!r}. Name one of these, or leave the reference out."
        )
