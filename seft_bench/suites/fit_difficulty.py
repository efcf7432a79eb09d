"""`seft-bench suites difficulty`: fit the difficulties of a suite's instructions to several models' judgments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import sha256_file, write_json
from seft_bench.formats.reading import index_answers, read_answers, read_judged_texts
from seft_bench.records import Answer, Judgment, Question
from seft_bench.suites import load_suite
from seft_bench.suites.alpacaeval import AlpacaEval, preferences_of


@dataclass(frozen=True)
class Fitted:
    """Counts of a fit that was written.

    Attributes:
        models: those that it was fitted to.
        judgments: how many.
        unjudged: questions without any, whose difficulty is 0.
    """

    models: Sequence[str]
    questions: int
    judgments: int
    unjudged: int


def fit_difficulty_file(suite_name: str, answers: Sequence[Path], judgments: Sequence[Path], out: Path) -> Fitted:
    """Fit and write `{"difficulties": {instruction: number}, ...}`, which a suite's YAML names as `difficulty`.

    Args:
        answers: files of the judged answers; not needed for alpaca_eval's annotations, which hold them.
        judgments: files of judgments, of at least two models together.

    Raises:
        InputError: a suite without pairwise comparisons, fewer than two models, or judged answers that are not there.
    """
    suite = _open(suite_name)
    questions = suite.questions()
    read = [read_judged_texts(path) for path in judgments]
    rows = [row for found, _ in read for row in found]
    judged_texts = [one.answer for _, found in read for one in found]
    texts = index_answers([*judged_texts, *(answer for path in answers for answer in read_answers(path))])
    preferences = {
        model: _preferences(model, suite, questions, texts, rows)
        for model in dict.fromkeys(row.model_id for row in rows)
    }
    judged = {model: by_question for model, by_question in preferences.items() if len(by_question) > 1}
    if len(judged) < 2:
        raise InputError(
            f"difficulties are fitted to the judgments of at least two models; of {suite.config.name}'s questions the "
            f"files hold those of {', '.join(judged) or 'none'}. Name more files with --judgments."
        )
    difficulty = _fit(questions, judged, texts)
    unjudged = sum(not any(question.id in by_question for by_question in judged.values()) for question in questions)
    count = sum(map(len, judged.values()))
    write_json(out, _document(suite, questions, difficulty, list(judged), judgments, count))
    return Fitted(list(judged), len(questions), count, unjudged)


def _open(suite_name: str) -> AlpacaEval:
    suite = load_suite(suite_name)
    if not isinstance(suite, AlpacaEval):
        raise InputError(f"{suite.config.name} grades single answers; difficulties belong to suites of kind alpacaeval")
    # Without its difficulties: its YAML may name the very file that is to be written.
    return AlpacaEval(suite.config.model_copy(update={"difficulty": "none"}))


def _preferences(
    model: str,
    suite: AlpacaEval,
    questions: Sequence[Question],
    texts: Mapping[str, Mapping[str, Answer]],
    rows: Sequence[Judgment],
) -> dict[str, float]:
    """Map question id -> preference, of the judgments that the suite would count."""
    answers = texts.get(model, {})
    found = preferences_of(suite.counted(model, questions, answers, [row for row in rows if row.model_id == model]))
    missing = [question.turns[0] for question in questions if question.id in found and question.id not in answers]
    if missing:
        raise InputError(
            f"the answers of {model} to {len(missing)} of its {len(found)} judged questions are not there, e.g. "
            f"{missing[0][:60]!r}. Name their file with --answers."
        )
    return found


def _fit(
    questions: Sequence[Question], judged: Mapping[str, Mapping[str, float]], texts: Mapping[str, Mapping[str, Answer]]
) -> list[float]:
    import numpy as np

    from seft_bench.stats.alpacaeval import win_probabilities
    from seft_bench.stats.lc_difficulty import fit_difficulties
    from seft_bench.stats.lc_regression import length_feature

    wins = np.full((len(judged), len(questions)), np.nan)
    length = np.zeros(wins.shape)
    for row, (model, by_question) in enumerate(judged.items()):
        there = [column for column, question in enumerate(questions) if question.id in by_question]
        found = [questions[column] for column in there]
        wins[row, there] = win_probabilities([by_question[question.id] for question in found])
        delta = [len(question.reference[0]) - len(texts[model][question.id].turns[0]) for question in found]
        length[row, there] = length_feature(np.array(delta, dtype=np.float64), np.ones((1, len(there))))[0]
    return [float(value) for value in fit_difficulties(wins, length).difficulty]


def _document(
    suite: AlpacaEval,
    questions: Sequence[Question],
    difficulty: Sequence[float],
    models: Sequence[str],
    paths: Sequence[Path],
    judgments: int,
) -> dict[str, Any]:
    return {
        "suite": suite.config.name,
        "models": list(models),
        "judgments": judgments,
        "files": {path.name: sha256_file(path) for path in paths},
        "method": (
            "joint logistic regression: intercept and length of each model, difficulty of each instruction (normal "
            "prior of SD 1.5, sum 0)"
        ),
        "difficulties": {question.turns[0]: value for question, value in zip(questions, difficulty, strict=True)},
    }
