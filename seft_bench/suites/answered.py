"""What became of a model's answers to a suite: counts by status, and sentences for the reader. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seft_bench.answers import answered_turns, is_whole, statuses_of
from seft_bench.judges.delimiters import found_in
from seft_bench.records import ANSWERED, MINIMUM_COVERAGE, Answer, Judgment, Question, instruction_id

NAMED = 3
"""So many of a kind are named in a note."""
MISSING = "missing"
MOST_WHY = 300
"""Characters of a server's words in a note."""


@dataclass(frozen=True, slots=True)
class AnswerTurn:
    """One turn that was to be answered: its question's name for people, its status, and its text ("" without one)."""

    name: str
    status: str
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of all turns that were to be answered.

    Attributes:
        turns: in the order of the questions.
        why: what servers said in place of answers, each once.
        reasoned: how many answers have their reasoning apart.
        limit: of new tokens, where the answers were drawn here; else None.
    """

    turns: Sequence[AnswerTurn]
    why: Sequence[str]
    reasoned: int
    limit: int | None

    @property
    def coverage(self) -> float:
        """The share of turns with an answer."""
        return sum(turn.status in ANSWERED for turn in self.turns) / len(self.turns) if self.turns else 1.0

    @property
    def figures(self) -> dict[str, Any]:
        """`Result.answers`."""
        if not self.turns:
            return {}
        n, statuses = len(self.turns), Counter(turn.status for turn in self.turns)
        return {
            "n": n,
            "coverage": self.coverage,
            "cut_share": statuses["cut"] / n,
            "empty_share": len(self._empty) / n,
            "refused": statuses["refused"],
            "statuses": dict(sorted(statuses.items())),
        }

    @property
    def notes(self) -> list[str]:
        """What a reader must know, one sentence each; nothing where every turn has an answer with words."""
        return [*self._none(), *self._cut(), *self._without_words(), *self._leading(), *self._reasoned()]

    @property
    def _empty(self) -> list[AnswerTurn]:
        return [turn for turn in self.turns if turn.status in ANSWERED and not turn.text.strip()]

    def _loud(self, count: int) -> str:
        return "WARNING: " if count > (1 - MINIMUM_COVERAGE) * len(self.turns) else ""

    def _none(self) -> list[str]:
        lost = [turn for turn in self.turns if turn.status not in ANSWERED]
        if not lost:
            return []
        counts = Counter(turn.status for turn in lost)
        by_status = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        limit = f" (max_new_tokens is {self.limit})" if self.limit and counts["over_length"] else ""
        said = f" The first reason that was given{limit}: {self.why[0][:MOST_WHY]}" if self.why else ""
        return [
            f"WARNING: {len(lost)} of {len(self.turns)} answers are none ({by_status}: {_names(lost)}), so no judge is "
            f"asked about them.{said}"
        ]

    def _cut(self) -> list[str]:
        cut = [turn for turn in self.turns if turn.status == "cut"]
        if not cut:
            return []
        silent = sum(not turn.text.strip() for turn in cut)
        before = f", {silent} of them before a word was said (a reasoning model spends its tokens on that first)"
        advice = f"; the limit is max_new_tokens ({self.limit}), in the suite's YAML" if self.limit else ""
        share = f"{self._loud(silent)}{len(cut)} of {len(self.turns)} answers"
        return [f"{share} were cut at the limit of tokens{before if silent else ''}: {_names(cut)}{advice}."]

    def _without_words(self) -> list[str]:
        notes = []
        for status, what in (("refused", "were refused or filtered"), ("empty", "are empty")):
            if found := [turn for turn in self.turns if turn.status == status]:
                share = f"{self._loud(len(found))}{len(found)} of {len(self.turns)} answers"
                notes.append(
                    f"{share} {what}: {_names(found)}; they are judged as empty texts, as the official tools do."
                )
        return notes

    def _leading(self) -> list[str]:
        found = {turn.name: line for turn in self.turns if (line := found_in(turn.text))}
        if not found:
            return []
        lines = named(shown(line) for line in found.values())
        return [
            f"WARNING: {len(found)} questions have answers that hold lines of a judge's prompt or verdicts in its form "
            f"({named(found)}: {lines}), which may lead the judge: official prompts show them as they are, ours marked "
            "as quoted."
        ]

    def _reasoned(self) -> list[str]:
        if not self.reasoned:
            return []
        return [f"{self.reasoned} answers come with reasoning, which is neither judged nor counted in lengths."]


def count(
    questions: Sequence[Question],
    answers: Mapping[str, Answer],
    judged: Collection[tuple[str, int]],
    max_new_tokens: int,
) -> Answered:
    """Count what became of the answers to these questions.

    Args:
        answers: by question id; none of them at hand: nothing is said about them.
        judged: (question id, turn) of the verdicts at hand: there was an answer, wherever its text is.
        max_new_tokens: of the suite.
    """
    there = [answers[question.id] for question in questions if question.id in answers]
    return Answered(
        [turn for question in questions for turn in _turns(question, answers, judged)] if there else [],
        list(dict.fromkeys(answer.why for answer in there if answer.why)),
        sum(any(answer.reasoning) for answer in there),
        max_new_tokens if any(answer.decoding_hash for answer in there) else None,
    )


def of_answers(judgments: Sequence[Judgment], answers: Mapping[str, Answer]) -> Sequence[Judgment]:
    """Return the judgments without those of turns that are known to have no answer: FastChat grades its `$ERROR$`."""
    failed = {key: answered_turns(answer) for key, answer in answers.items() if not is_whole(answer)}
    return [row for row in judgments if row.turn <= failed.get(row.question_id, row.turn)] if failed else judgments


def _turns(
    question: Question, answers: Mapping[str, Answer], judged: Collection[tuple[str, int]]
) -> Iterable[AnswerTurn]:
    answer, name = answers.get(question.id), name_of(question)
    statuses = statuses_of(answer) if answer else ()
    for place in range(len(question.turns)):
        if answer and place < len(statuses):
            text = answer.turns[place] if place < len(answer.turns) else ""
            yield AnswerTurn(name, statuses[place], text)
        else:
            is_judged = (question.id, place + 1) in judged
            yield AnswerTurn(name, "ok" if is_judged else MISSING, "?" if is_judged else "")


def name_of(question: Question) -> str:
    """Name a question for people: by its id, or by its first words where the id is but their hash."""
    text = question.turns[0]
    return shown(text) if question.id == instruction_id(text) else question.id


def shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _names(turns: Iterable[AnswerTurn]) -> str:
    return named(turn.name for turn in turns)


def named(names: Iterable[str]) -> str:
    """List the first few names, each once."""
    every = list(dict.fromkeys(names))
    return ", ".join(every[:NAMED]) + (", ..." if len(every) > NAMED else "")
