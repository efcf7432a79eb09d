"""Suites over the user's own files (`source: files`): difficulties, the folder of answers, and the reader's note."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from seft_bench.config import SuiteConfig
from seft_bench.data.questions import conversations
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_once, sha256_file, sha256_json
from seft_bench.records import Question
from seft_bench.results import slug

_digest = read_once(sha256_file)


def difficulties(config: SuiteConfig, questions: Sequence[Question]) -> dict[str, float] | None:
    """Return difficulties by question id: None if the suite wants no length control, zeros if it says so.

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
            f"{path} has difficulties of {len(questions) - len(missing)} of the {len(questions)} questions of "
            f"{config.name} and of {others} other instructions; missing is e.g. {missing[0][:60]!r}. Fit them to these "
            "questions with `seft-bench suites difficulty`, or set difficulty to zero or none."
        )
    return {question.id: known[question.turns[0]] for question in questions}


def read_difficulties(path: Path) -> dict[str, float]:
    """Read instruction -> difficulty from the file that `seft-bench suites difficulty` writes.

    Raises:
        InputError: missing file, or another content.
    """
    found = read_json(path, "file of difficulties") if path.suffix != ".csv" else None
    known = found.get("difficulties") if isinstance(found, dict) else None
    if not isinstance(known, dict) or not known:
        raise InputError(
            f'{path} is no file of difficulties: a JSON object {{"difficulties": {{instruction: number}}}} is '
            "expected, as `seft-bench suites difficulty` writes it. AlpacaEval's own difficulties belong to its own "
            "instructions only."
        )
    wrong = [text for text, value in known.items() if not _is_finite(value)]
    if wrong:
        raise InputError(
            f"{path}: {len(wrong)} of {len(known)} difficulties are no finite numbers, e.g. that of {wrong[0][:60]!r}"
        )
    return {text: float(value) for text, value in known.items()}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def folder_name(config: SuiteConfig) -> str:
    """Name the folder of a model's answers to a suite, another one for each version of its question file.

    Pairwise questions are keyed by their text and need only the suite's name; conversations are keyed by the user's
    ids, which an edit keeps.
    """
    if config.source != "files" or config.kind != "mtbench":
        return slug(config.name)
    questions = conversations(config)
    content = [(question.id, question.category, question.turns, question.reference) for question in questions]
    return f"{slug(config.name)}-{sha256_json(content)[:8]}"


def files_note(config: SuiteConfig) -> str:
    """Name the files of the questions, the baseline and the difficulties, with their content's hash."""
    difficulty = config.difficulty if config.difficulty not in ("none", "zero") else None
    names = [config.questions, config.baseline, difficulty]
    paths = [path for name in names if name is not None and (path := config.path(name)).is_file()]
    return "own question set: " + ", ".join(f"{path.name} (sha256 {_digest(path)[:16]}...)" for path in paths) + "."
