"""The questions of all shipped suites that are at hand, to keep them out of training data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from seft_bench.config import SuiteConfig, load_suite, shipped
from seft_bench.data import official
from seft_bench.data.contamination import Asked, QuestionIndex
from seft_bench.data.questions import graded_questions, pairwise_questions
from seft_bench.files import read_json, read_jsonl, read_once, sha256_json
from seft_bench.records import Row


@dataclass(frozen=True)
class SuiteQuestions:
    """Questions of suites.

    Attributes:
        suites: whose questions are here.
        missing: suites whose official files are not on this machine.
    """

    asked: tuple[Asked, ...]
    suites: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        return sha256_json([list(asked) for asked in self.asked])

    @cached_property
    def index(self) -> QuestionIndex:
        return QuestionIndex(self.asked)


def questions_at_hand() -> SuiteQuestions:
    """Gather the questions of the shipped suites, each once, under the shortest name: variants have longer ones."""
    asked: dict[str, Asked] = {}
    suites: list[str] = []
    missing: list[str] = []
    for name in sorted(shipped("suites"), key=len):
        texts = _texts(load_suite(name))
        (missing if texts is None else suites).append(name)
        for text in texts or ():
            asked.setdefault(text, Asked(name, text))
    return SuiteQuestions(tuple(asked.values()), tuple(suites), tuple(missing))


def _texts(suite: SuiteConfig) -> list[str] | None:
    """All turns of a suite's questions; None where its official file is not at hand."""
    if suite.source == "official":
        name, read = _OFFICIAL[suite.kind]
        status = official.file_status(name)
        return None if status.state == "missing" else read(Path(status.path))
    if suite.source.startswith("tinyworld"):
        questions = official.tinyworld_questions(suite.kind, suite.source)
    else:
        questions = pairwise_questions(suite) if suite.kind == "alpacaeval" else graded_questions(suite)
    return [turn for question in questions for turn in question.turns]


@read_once
def _turns(path: Path) -> list[str]:
    return [str(turn) for row in read_jsonl(path, "MT-Bench's questions", required=["turns"]) for turn in row["turns"]]


@read_once
def _instructions(path: Path) -> list[str]:
    rows: list[Row] = read_json(path, "AlpacaEval's questions")
    return [str(row["instruction"]) for row in rows]


_OFFICIAL: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "mtbench": (official.QUESTIONS, _turns),
    "alpacaeval": (official.BASELINE, _instructions),
}
"""Kind of a suite -> the official file that holds its questions, and how they are read."""
