"""The protocol of suites, and a base for most of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from seft_bench.config import SuiteConfig
from seft_bench.errors import InputError
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Result

if TYPE_CHECKING:
    from seft_bench.stats.lc_regression import Comparisons


class Suite(Protocol):
    """A protocol over questions. Nothing of it calls a model or a judge."""

    config: SuiteConfig

    @property
    def baseline_name(self) -> str:
        """The name of the model to compare with, if the user can choose it; "" otherwise."""
        ...

    @property
    def has_baseline(self) -> bool:
        """True if the answers to compare with are at hand, or none are needed."""
        ...

    def with_baseline(self, answers: Path) -> Suite:
        """Return the suite against the answers of another baseline.

        Raises:
            InputError: it compares with no baseline that could be another, or the file is no baseline's.
        """
        ...

    def questions(self) -> list[Question]:
        """Return all questions with their references, in the official order."""
        ...

    def requests(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[JudgeRequest]:
        """Return the judge's requests for the answers (by question id); questions without an answer are left out."""
        ...

    def settled(self, request: JudgeRequest, model: str) -> Judgment | None:
        """Return the judgment that the protocol itself fixes, so that no judge is asked; else None."""
        ...

    def data_hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file that questions and references come from, by name, for the manifest."""
        ...

    def score(
        self, model: str, questions: Sequence[Question], answers: Mapping[str, Answer], judgments: Sequence[Judgment]
    ) -> Result:
        """Compute the figures from one model's judgments, with coverage over all that the questions demand."""
        ...

    def comparisons_of(self, result: Result, questions: Sequence[str]) -> Comparisons | None:
        """Return the data behind a result's length control, for these questions in this order.

        None where the suite, or the result, has no length control.
        """
        ...


class BaseSuite:
    """A suite without a baseline of the user's choice, a settled verdict, or a length control."""

    config: SuiteConfig

    @property
    def baseline_name(self) -> str:
        return ""

    @property
    def has_baseline(self) -> bool:
        return True

    def with_baseline(self, answers: Path) -> Suite:
        raise InputError(
            "--reference names the answers that a suite of MT-Bench comparisons is to compare with; "
            f"{self.config.name} is none"
        )

    def settled(self, request: JudgeRequest, model: str) -> Judgment | None:
        """Return None: a judge is asked for every verdict."""
        return None

    def comparisons_of(self, result: Result, questions: Sequence[str]) -> Comparisons | None:
        return None
