"""MT-Bench's pairwise mode: every turn compared with a baseline's answer, in both orders, merged by FastChat's rule.

A judgment is one order of one turn; a comparison is both. A comparison counts when both orders have a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.answers import answered_only, answered_turns
from seft_bench.config import SuiteConfig
from seft_bench.data.official import data_folders, data_hashes
from seft_bench.data.questions import graded_questions, mtbench_files
from seft_bench.errors import InputError
from seft_bench.files import sha256_file
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Result
from seft_bench.results import slug
from seft_bench.suites import answered, coverage, mtbench_notes
from seft_bench.suites.base import BaseSuite
from seft_bench.suites.mtbench import turns_of

if TYPE_CHECKING:
    from seft_bench.stats.pairwise import Comparison

_FIGURES = (
    *("win_rate", "win_rate_se", "win_rate_low", "win_rate_high", "wins", "losses", "ties", "inconsistent"),
    *("turn_1", "turn_2", "inconsistent_rate", "first_shown_win_rate", "by_category", "categories"),
)
_ORDERS = (True, False)
"""`candidate_first` of the two judgments of a comparison."""


class PairwiseMTBench(BaseSuite):
    """The protocol over MT-Bench's questions and the answers of one baseline model.

    Attributes:
        config: its `baseline` is the file of answers.
    """

    def __init__(self, config: SuiteConfig) -> None:
        self.config = config

    def questions(self) -> list[Question]:
        return graded_questions(self.config)

    @property
    def baseline_name(self) -> str:
        """The baseline model: as its answers say, else the name of the file, which is FastChat's custom."""
        path = self._baseline_path
        return self._baseline[0] if path is not None else Path(str(self.config.baseline)).stem

    def with_baseline(self, path: Path) -> PairwiseMTBench:
        """Return the suite against another baseline, under a name of its own.

        Figures against different baselines are not comparable.

        Raises:
            InputError: no file of answers of exactly one model.
        """
        other = PairwiseMTBench(self.config.model_copy(update={"baseline": str(path)}))
        if other._baseline_path is None:
            raise InputError(f"--reference: no such file of answers: {path}")
        return PairwiseMTBench(other.config.model_copy(update={"name": self._name_against(other._baseline[0])}))

    def requests(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[JudgeRequest]:
        """Return both orders of every answered turn; turn 2 is judged with turn 1 before it, on both sides.

        Raises:
            InputError: the baseline's answers are not there, or lack one of the questions.
        """
        baseline, given = self._answers_to(questions), answered_only(answers)
        return [
            _request(question, turn, given[question.id], baseline[question.id], first)
            for question in questions
            if question.id in given
            for turn in turns_of(question)
            if turn <= len(given[question.id].turns)
            for first in _ORDERS
        ]

    def data_hashes(self) -> dict[str, str]:
        path = self._baseline_path
        return data_hashes(mtbench_files(self.config)) | ({"baseline": sha256_file(path)} if path else {})

    def score(
        self, model: str, questions: Sequence[Question], answers: Mapping[str, Answer], judgments: Sequence[Judgment]
    ) -> Result:
        """Compute the win rate of comparisons with both verdicts; n and coverage count comparisons, not judgments."""
        every, answers = answers, answered_only(answers)
        judgments = answered.of_answers(judgments, every)
        requests = self.requests(questions, answers) if answers and self._baseline_path else []
        expected = _expected(questions, requests)
        rows = coverage.match(expected, mtbench_notes.parsed(self.config, judgments))
        comparisons, merged = _comparisons(rows, questions), _merged(rows, questions)
        metrics = dict.fromkeys(_FIGURES) | _figures(comparisons)
        opponents = _opponents(judgments) or [self.baseline_name]
        notes = [*rows.notes, *_coverage_note(merged), *_notes(opponents, bool(comparisons))]
        if self.config.parsing == "strict":
            official, after = coverage.match(expected, judgments), metrics["win_rate"]
            before = _figures(_comparisons(official, questions)).get("win_rate")
            notes.append(mtbench_notes.strict_note(official.by_key, rows.by_key, "win_rate", before, after))
        notes += mtbench_notes.notes(self.config, answers, judgments)
        return coverage.result(
            self._name_against(opponents[0]),
            model,
            len(merged.status_by_key),
            merged,
            answers,
            metrics,
            answered=answered.count(questions, every, coverage.judged_turns(rows), self.config.max_new_tokens),
            notes=tuple(notes),
            per_question=_per_question(comparisons),
        )

    def _name_against(self, baseline: str) -> str:
        """Return the suite's name; another baseline than the config's is part of it."""
        return self.config.name if baseline == self.baseline_name else f"{self.config.name}-vs-{slug(baseline)}"

    @property
    def has_baseline(self) -> bool:
        """True if the baseline's file is on this machine; recorded verdicts can be scored without it."""
        return self._baseline_path is not None

    @property
    def _baseline_path(self) -> Path | None:
        named = Path(str(self.config.baseline)).expanduser()
        return next((path for path in (named, *(folder / named for folder in data_folders())) if path.is_file()), None)

    @cached_property
    def _baseline(self) -> tuple[str, dict[str, Answer]]:
        """(name, question id -> answer) of the baseline."""
        from seft_bench.formats.reading import read_answers

        path = self._baseline_path
        if path is None:
            raise _no_baseline(self.config)
        rows = read_answers(path)
        models = list(dict.fromkeys(row.model_id for row in rows))
        if len(models) > 1:
            raise InputError(
                f"{path} has answers of {len(models)} models ({', '.join(models[:8])}); the baseline's file holds "
                "those of one"
            )
        return models[0], {row.question_id: row for row in rows}

    def _answers_to(self, questions: Sequence[Question]) -> dict[str, Answer]:
        """Return the baseline's answers; every turn of every question must be there."""
        answers = self._baseline[1]
        turns = {question_id: answered_turns(answer) for question_id, answer in answers.items()}
        lacking = [question.id for question in questions if turns.get(question.id, -1) < len(question.turns)]
        if lacking:
            raise InputError(
                f"{self._baseline_path} lacks the baseline's answer to {len(lacking)} of {len(questions)} questions, "
                f"e.g. question {lacking[0]}"
            )
        return answers


def _no_baseline(config: SuiteConfig) -> InputError:
    looked = ", ".join(map(str, ["the working folder", *data_folders()]))
    return InputError(
        f"{config.name} compares with a baseline's answers, and {config.baseline} is not there (looked in {looked}). "
        "Put FastChat's file there (space lmsys/mt-bench on the Hugging Face hub, "
        "data/mt_bench/model_answer/gpt-3.5-turbo.jsonl), or name another model's answers with --reference FILE."
    )


def _request(question: Question, turn: int, own: Answer, baseline: Answer, candidate_first: bool) -> JudgeRequest:
    return JudgeRequest("preference", question, turn, own.turns[:turn], baseline.turns[:turn], candidate_first)


def _key(question: Question, turn: int, candidate_first: bool) -> str:
    return JudgeRequest("preference", question, turn, (), (), candidate_first).key


def _expected(questions: Sequence[Question], requests: Sequence[JudgeRequest]) -> list[coverage.Expected]:
    hashes = {request.key: request.answer_hash for request in requests}
    keys = [_key(question, turn, first) for question in questions for turn in turns_of(question) for first in _ORDERS]
    return [coverage.Expected(key, hashes.get(key, "")) for key in keys]


def _comparisons(rows: coverage.Scored, questions: Sequence[Question]) -> list[Comparison]:
    """Return the comparisons that have a verdict in both orders, in the questions' order."""
    from seft_bench.stats.pairwise import Comparison

    found = []
    for question in questions:
        for turn in turns_of(question):
            both = [rows.by_key.get(_key(question, turn, first)) for first in _ORDERS]
            if both[0] is not None and both[1] is not None:
                found.append(Comparison(question.id, question.category, turn, _outcome(both[0]), _outcome(both[1])))
    return found


def _outcome(row: Judgment) -> float:
    from seft_bench.stats.pairwise import outcome_of

    if row.preference is None:
        raise InputError(f"judgment {row.key} of {row.model_id} has status ok but no preference")
    return outcome_of(row.preference)


def _merged(rows: coverage.Scored, questions: Sequence[Question]) -> coverage.Scored:
    """Count the rows by comparison: ok if both orders are, else the status of the first order that is not."""
    by_key, statuses = {}, {}
    for question in questions:
        for turn in turns_of(question):
            keys = [_key(question, turn, first) for first in _ORDERS]
            status = next((rows.status_by_key[key] for key in keys if rows.status_by_key[key] != "ok"), "ok")
            statuses[f"{question.id}/{turn}"] = status
            if status == "ok":
                by_key[f"{question.id}/{turn}"] = rows.by_key[keys[0]]
    counted = {status: list(statuses.values()).count(status) for status in dict.fromkeys(statuses.values())}
    return coverage.Scored(by_key, rows.valid_rows, counted, rows.notes, statuses)


def _figures(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    if not comparisons:
        return {}
    from seft_bench.stats import mtbench, pairwise

    rows = pairwise.outcomes_in_percent(comparisons)
    figures = mtbench.figures(rows, "win_rate") | pairwise.counts(comparisons) | pairwise.position_bias(comparisons)
    return figures | {
        "by_category": mtbench.mean_by_category(rows),
        "categories": mtbench.figures_by_category(rows, "win_rate"),
    }


def _per_question(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Map question -> mean outcome of its turns, in [0, 1]."""
    if not comparisons:
        return {}
    from seft_bench.stats.mtbench import mean_by_question
    from seft_bench.stats.pairwise import outcomes_in_percent

    return {question: value / 100.0 for question, value in mean_by_question(outcomes_in_percent(comparisons)).items()}


def _opponents(judgments: Sequence[Judgment]) -> list[str]:
    return list(dict.fromkeys(str(row.details["compared_with"]) for row in judgments if "compared_with" in row.details))


def _coverage_note(merged: coverage.Scored) -> tuple[str, ...]:
    note = coverage.coverage_note(len(merged.status_by_key), merged)
    return tuple(line.replace("judgments", "comparisons (a turn of a question, both orders)") for line in note)


def _notes(opponents: Sequence[str], scored: bool) -> list[str]:
    if not scored:
        return ["nothing is scored, so there are no figures."]
    from seft_bench.stats.mtbench import CLUSTERED

    return [
        f"compared with the answers of {', '.join(opponents)}, each turn in both orders; orders that disagree are a "
        "tie, a tie is half a win.",
        f"low and high: 95 % {CLUSTERED}.",
    ]
