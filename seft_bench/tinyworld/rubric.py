"""The tinyworld's rubric: grades an answer 1-10 from its question alone, deterministically.

    grade = 1 + 9 * (0.50 content + 0.15 format + 0.20 style + 0.15 concision)

Each part lies in [0, 1] and is reported. The rubric sees the user's turns and the answer to the last of them: no
reference, no model's name, no earlier answer. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from seft_bench.tinyworld.tasks import Solution, Task, solve

OPENINGS = ("Sure:", "Gladly:", "Of course:")
"""Courteous openings; good style has one."""

BAD_HABITS = (
    "um",
    "well",
    "like",
    "maybe",
    "obviously",
    "whatever",
    "honestly",
    "dunno",
    "basically",
    "listen",
)
"""Words that good style does without."""

WEIGHTS = {"content": 0.50, "format": 0.15, "style": 0.20, "concision": 0.15}


@dataclass(frozen=True)
class Grade:
    """A grade and its parts: total in [1, 10], the parts in [0, 1]."""

    total: float
    content: float
    format: float
    style: float
    concision: float


def grade(question_turns: Sequence[str], answer_turns: Sequence[str]) -> Grade:
    """Grade the last of `answer_turns`, the answer to the last of `question_turns`.

    Raises:
        ValueError: the question is not of this world, or there is no answer to its last turn.
    """
    if len(answer_turns) != len(question_turns):
        raise ValueError(f"{len(question_turns)} turns of the user need as many answers, there are {len(answer_turns)}")
    task, solution = solve(question_turns)
    answer = answer_turns[-1].strip()
    parts = {
        "content": content(solution, answer),
        "format": form(task, answer),
        "style": style(answer),
        "concision": concision(solution, answer),
    }
    total = 1 + 9 * sum(WEIGHTS[name] * value for name, value in parts.items())
    return Grade(round(total, 4), **parts)


def content(solution: Solution, answer: str) -> float:
    """1 when every key word is said, else at most 0.6 by their share; halved when a tempting wrong word is said.

    An order key "a>b" wants a before b.
    """
    words = _words(answer)
    if not words:
        return 0.0
    share = sum(_says(key, words) for key in solution.keys) / len(solution.keys)
    said = share if share == 1 else 0.6 * share
    return said / 2 if any(word in words for word in solution.wrong) else said


def _says(key: str, words: Sequence[str]) -> bool:
    first, separator, second = key.partition(">")
    if separator and first and second:
        return first in words and second in words and words.index(first) < words.index(second)
    return key in words


def form(task: Task, answer: str) -> float:
    """One full sentence or two: a capital first, a full stop last, no shouting; code and quotations in their marks.

    1 without a fault, 0.4 with one, 0 with more.
    """
    if not answer:
        return 0.0
    checks = [answer[0].isupper(), answer.endswith("."), "!" not in answer and not re.search(r"\b[A-Z]{4,}\b", answer)]
    if task.category == "coding":
        checks.append(bool(re.search(r"`[^`]+`", answer)))
    if task.category == "extraction":
        checks.append(bool(re.search(r'"[^"]+"', answer)))
    faults = checks.count(False)
    return (1.0, 0.4)[faults] if faults < 2 else 0.0


def style(answer: str) -> float:
    """Half for a courteous opening, half for doing without bad habits (0.2 with one of them)."""
    if not answer:
        return 0.0
    habits = sum(word in BAD_HABITS for word in (word.lower() for word in _words(answer)))
    clean = (0.5, 0.2)[habits] if habits < 2 else 0.0
    return clean + (0.5 if answer.startswith(OPENINGS) else 0.0)


def concision(solution: Solution, answer: str) -> float:
    """1 up to 1.3 times the words of the longest right sentence (plus the opening), falling to 0 at 2.6 times.

    A repetition halves it.
    """
    if not answer:
        return 0.0
    room = max(len(_words(sentence)) for sentence in solution.sentences) + 2
    ratio = len(_words(answer)) / room
    short = min(1.0, max(0.0, (2.6 - ratio) / 1.3))
    sentences = [part.strip().lower() for part in re.split(r"[.!]", answer) if part.strip()]
    return short / 2 if len(set(sentences)) < len(sentences) else short


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+|\d+|[-+*/]", text)
