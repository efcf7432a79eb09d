"""The files of one evaluation: a subject's answers to a suite in one decoding, and the judges' verdicts on them.

They lie in `<work>/evaluations/<subject>/<suite>/<decoding>/`: answers.jsonl, and one judgments-<judge>.jsonl a judge.
What came in place of an answer (a prompt did not fit, a file holds FastChat's `$ERROR$`) is no answer: it stands in
unanswered.jsonl, with its status and the reason, and is asked for again. Everything that asks what is there and what
is missing asks here: the pipeline, plans and cost estimates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from seft_bench.answers import answer_of_row, answered_only, is_whole
from seft_bench.config import DecodingConfig
from seft_bench.errors import InputError
from seft_bench.files import append_rows, read_log_as
from seft_bench.formats.reading import judgment_row
from seft_bench.generators import GIVEN, GIVEN_WITH_REASONING, Decoding
from seft_bench.judges import Judge, verdicts
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Row, to_row
from seft_bench.results import slug, subject_folder_name
from seft_bench.subjects import Subject
from seft_bench.suites import Suite
from seft_bench.suites.custom import folder_name


@dataclass(frozen=True)
class Places:
    """The folders that evaluations read and write.

    Attributes:
        work: big files, one folder a subject (answers, judgments).
        results: small ones, one folder a result.
        store: the judges' response store.
    """

    work: Path
    results: Path
    store: Path


@dataclass(frozen=True)
class EvaluationFiles:
    """One subject on one suite in one decoding, everything about it resolved.

    Attributes:
        questions: all of the suite's, or those of a part.
        folder: of answers and judgments.
    """

    subject: Subject
    suite: Suite
    decoding: Decoding
    questions: Sequence[Question]
    folder: Path

    # Answers

    @cached_property
    def _question_ids(self) -> frozenset[str]:
        return frozenset(question.id for question in self.questions)

    def answers(self) -> dict[str, Answer]:
        """Return the answers at hand to these questions, by question id, whatever seed drew them.

        A question whose last try with this decoding has no answer is there with the status of that try.
        """
        found = self._recorded("answers.jsonl")
        for key, failed in self._recorded("unanswered.jsonl").items():
            if key not in found or (self._is_drawn(failed) and not self._is_drawn(found[key])):
                found[key] = failed
        return found

    def _recorded(self, name: str) -> dict[str, Answer]:
        rows = read_log_as(self.folder / name, partial(answer_of_row, keep=self.decoding.keeps_reasoning))
        return {answer.question_id: answer for answer in rows if answer.question_id in self._question_ids}

    def drawn_answers(self) -> dict[str, Answer]:
        """Return the answers at hand that were drawn with this decoding, limit and seed: they are not drawn anew."""
        return {key: answer for key, answer in self.answers().items() if self._is_drawn(answer) and is_whole(answer)}

    def _is_drawn(self, answer: Answer) -> bool:
        return self.decoding.hash in ("", answer.decoding_hash)

    def required_answers(self) -> dict[str, Answer]:
        """As `answers`.

        Raises:
            InputError: there is none.
        """
        answers = self.answers()
        if not answers:
            name = self.suite.config.name
            raise InputError(
                f"no answers in {self.folder}: run `seft-bench eval MODEL --suite {name} --stage answer` first"
            )
        return answers

    def add_answer(self, answer: Answer) -> None:
        """Keep an answer; what is none is kept apart, and the same thing once."""
        if is_whole(answer):
            append_rows(self.folder / "answers.jsonl", [to_row(answer)])
        elif self._recorded("unanswered.jsonl").get(answer.question_id) != answer:
            append_rows(self.folder / "unanswered.jsonl", [to_row(answer)])

    # Verdicts

    def _judgments_path(self, judge: Judge) -> Path:
        return self.folder / f"judgments-{slug(judge.id)}.jsonl"

    def judgment_rows(self, judge: Judge) -> list[Row]:
        """Return the judge's rows at hand, oldest first, failed ones too."""
        return read_log_as(self._judgments_path(judge), judgment_row)

    def add_judgments(self, judge: Judge, judgments: Sequence[Judgment]) -> None:
        append_rows(self._judgments_path(judge), [to_row(judgment) for judgment in judgments])

    def requests(self, answers: Mapping[str, Answer]) -> list[JudgeRequest]:
        """Return all that a judge is to be asked about these answers."""
        return self.suite.requests(self.questions, answers)

    def unjudged(self, judge: Judge, requests: Sequence[JudgeRequest]) -> list[JudgeRequest]:
        """Return those of the requests without a good verdict on these very texts that still stands."""
        done = verdicts.standing(self.judgment_rows(judge), judge)
        return [request for request in requests if (request.key, request.answer_hash) not in done]

    def is_judged(self, judge: Judge) -> bool:
        """Return whether every verdict is at hand, so that the judge need not even be there."""
        answers = self.answers()
        return len(answered_only(answers)) == len(self.questions) and not self.unjudged(judge, self.requests(answers))

    def judged_by_other_weights(self, judge: Judge) -> int:
        """Count the verdicts at hand that other weights gave than the judge has measured now: they are asked again."""
        return verdicts.by_other_weights(self.judgment_rows(judge), judge)

    # Locks: two commands on the same work would pay for it twice

    @property
    def answers_lock(self) -> Path:
        return self.folder / ".answers.lock"

    def judgments_lock(self, judge: Judge) -> Path:
        return self.folder / f".{slug(judge.id)}.lock"


def evaluation_files(
    subject: Subject, suite: Suite, places: Places, seed: int = 0, questions: Sequence[Question] | None = None
) -> list[EvaluationFiles]:
    """Resolve a subject on a suite: one entry for each decoding of the suite; ready answers have one of their own.

    Args:
        seed: of sampled answers.
        questions: only these of the suite's; None: all.
    """
    asked = suite.questions() if questions is None else list(questions)
    folder = _subject_folder(places.work, subject) / folder_name(suite.config)
    return [
        EvaluationFiles(subject, suite, decoding, asked, folder / decoding.name)
        for decoding in _decodings(subject, suite, seed)
    ]


def _decodings(subject: Subject, suite: Suite, seed: int) -> list[Decoding]:
    limit = suite.config.max_new_tokens
    if subject.ready:
        return [Decoding(GIVEN_WITH_REASONING if subject.reasoning == "keep" else GIVEN, None, limit, seed)]
    drawn = [_as_told(name, settings, subject) for name, settings in suite.config.decodings.items()]
    return [Decoding(name, settings, limit, seed) for name, settings in drawn]


def _as_told(name: str, settings: DecodingConfig, subject: Subject) -> tuple[str, DecodingConfig]:
    """Return a decoding of the suite as a subject wants it; its name says what is otherwise than in the suite."""
    told = settings.model_copy(
        update={
            "template_args": {**settings.template_args, **subject.template_args},
            "reasoning": subject.reasoning or settings.reasoning,
        }
    )
    changed = {key: value for key, value in told.template_args.items() if settings.template_args.get(key) != value}
    changed |= {"reasoning": told.reasoning} if told.reasoning != settings.reasoning else {}
    return "+".join([name, *(slug(f"{key}={json.dumps(value)}") for key, value in changed.items())]), told


def _subject_folder(work: Path, subject: Subject) -> Path:
    return work / "evaluations" / subject_folder_name(subject.model_id, subject.fingerprint, subject.engine or "")


def measured_config(files: EvaluationFiles, judge: Judge, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the settings that a result's manifest records: suite, judge, decoding, models behind the verdicts.

    Args:
        rows: the judge's rows at hand.
    """
    returned = {row["returned_model"] for row in rows if row["status"] == "ok" and row["returned_model"]}
    config: dict[str, Any] = {
        "suite": files.suite.config.model_dump(mode="json"),
        "judge": judge.id,
        "decoding": files.decoding.name,
        "returned_models": sorted(returned),
    }
    config |= {"engine": files.subject.engine} if files.subject.engine else {}
    config |= {"server_settings": dict(files.subject.server_settings)} if files.subject.server_settings else {}
    weights = verdicts.weights_behind(rows)
    return config | ({"judge_weights": weights} if weights else {})
