"""`seft-bench score`: figures from ready files, without a model or a judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import sha256_file
from seft_bench.formats.matching import match_answers, match_judgments
from seft_bench.formats.reading import (
    FileAnswer,
    read_answers,
    read_file_answers,
    read_instructions,
    read_judged_texts,
)
from seft_bench.manifest import build_manifest, now
from seft_bench.records import Judgment, Question, Result, to_row
from seft_bench.results import save_result
from seft_bench.suites import Suite, load_suites
from seft_bench.suites.coverage import by_judge
from seft_bench.suites.mtbench_pairwise import PairwiseMTBench

Answers = Mapping[str, Sequence[FileAnswer]]
"""Model id -> its rows."""


def score_files(
    suite_name: str,
    answers: Path | None,
    judgments: Path,
    reference: Path | None = None,
    length_control: Mapping[str, str | None] | None = None,
) -> list[Result]:
    """One result for each model in the file of judgments, and for each of its judges, in order of first appearance.

    Args:
        answers: ours, or alpaca_eval's or FastChat's; without it, the outputs that alpaca_eval's annotations hold are
            used.
        judgments: ours, or alpaca_eval's or FastChat's; several models may be in one file.
        reference: answers of another baseline (pairwise suites only); default: the suite's own.
        length_control: "lc_c" and "lc_interval" instead of the suite's; None leaves them.

    Raises:
        InputError: unknown suite, missing official data, a broken row, or no row of this suite.
    """
    [suite] = load_suites([suite_name], length_control or {})
    rows, judged_texts = read_judged_texts(judgments)
    if isinstance(suite, PairwiseMTBench):
        suite = suite.with_baseline(reference) if reference else suite
        rows, reference = against_one_baseline(rows, suite.baseline_name, reference is not None), None
    questions = _questions(suite, reference)
    rows, near = match_judgments(questions, rows, read_instructions(judgments))
    _check_same_suite(suite_name, judgments, rows, questions)
    _check_same_kind(suite, judgments, rows)
    texts = _by_model(read_file_answers(answers) if answers else judged_texts)
    return [
        dataclasses.replace(result, notes=(*result.notes, *near))
        for model in dict.fromkeys(row.model_id for row in rows)
        for result in _score_model(suite, model, questions, texts, rows, answers)
    ]


def _by_model(found: Sequence[FileAnswer]) -> Answers:
    by_model: dict[str, list[FileAnswer]] = {}
    for one in found:
        by_model.setdefault(one.answer.model_id, []).append(one)
    return by_model


def result_row(result: Result) -> dict[str, Any]:
    """The JSON object of one result, as `score --json` prints it."""
    row = {
        name: getattr(result, name)
        for name in ("model", "suite", "metrics", "n", "n_scored", "n_unscored", "coverage", "withheld", "notes")
    }
    return row | {"metrics": dict(result.metrics), "answers": dict(result.answers), "notes": list(result.notes)}


def against_one_baseline(rows: Sequence[Judgment], baseline: str, named_by_user: bool) -> list[Judgment]:
    """The judgments against one baseline, of a file that may hold comparisons of many models.

    Without rows against the suite's own baseline, a file in which every model has one opponent is taken as it is.

    Raises:
        InputError: it cannot be told what to compare with.
    """
    opponents: dict[str, set[str]] = {}
    for row in rows:
        if "compared_with" in row.details:
            opponents.setdefault(row.model_id, set()).add(row.details["compared_with"])
    if not opponents:
        return list(rows)
    everyone = set().union(*opponents.values())
    if baseline in everyone:
        return [row for row in rows if row.details.get("compared_with", baseline) == baseline]
    if named_by_user or any(len(others) > 1 for others in opponents.values()):
        raise InputError(
            f"the judgments hold no comparison with {baseline}; they compare {', '.join(sorted(everyone))}. "
            "Name one of these as the baseline: --reference FILE (its answers)"
        )
    return list(rows)


def _score_model(
    suite: Suite,
    model: str,
    questions: Sequence[Question],
    by_model: Answers,
    rows: Sequence[Judgment],
    path: Path | None,
) -> list[Result]:
    """One result for each judge of the model: figures of two judges are not comparable, and neither is their mix."""
    if path is not None and model not in by_model:
        raise InputError(f"{path} has no answers of {model}, which is judged; it has those of {', '.join(by_model)}")
    matched = match_answers(questions, by_model.get(model, []))
    judges = by_judge(row for row in rows if row.model_id == model)
    names = ", ".join(judge or "(without a name)" for judge in judges)
    about = [f"{model} was judged by {len(judges)} judges, each with figures of its own: {names}."]
    found = []
    for judge, own in judges.items():
        result = suite.score(model, questions, matched.answers, own)
        strangers = _strangers(suite.config.name, questions, own)
        unmatched = matched.notes if path else ()  # without a file of answers, the judgments' own notes say it
        notes = (*result.notes, *unmatched, *strangers, *(about if len(judges) > 1 else []))
        found.append(dataclasses.replace(result, notes=notes, judge_id=result.judge_id or judge))
    return found


def _strangers(suite_name: str, questions: Sequence[Question], rows: Sequence[Judgment]) -> list[str]:
    known = {question.id for question in questions}
    count = sum(row.question_id not in known for row in rows)
    return [f"{count} rows judge questions that {suite_name} does not have; they are left out."] if count else []


def _questions(suite: Suite, reference: Path | None) -> list[Question]:
    """The suite's questions; with `reference`, its answers stand in for the baseline's."""
    questions = suite.questions()
    if reference is None:
        return questions
    if suite.config.kind != "alpacaeval":
        raise InputError(
            f"--reference names the baseline of a pairwise suite; {suite.config.name} grades single answers"
        )
    texts = {answer.question_id: answer.turns for answer in read_answers(reference)}
    missing = [question.turns[0] for question in questions if question.id not in texts]
    if missing:
        raise InputError(
            f"{reference} lacks answers to {len(missing)} of {len(questions)} questions, e.g. {missing[0][:60]!r}"
        )
    return [dataclasses.replace(question, reference=texts[question.id]) for question in questions]


def _check_same_suite(suite_name: str, path: Path, rows: Sequence[Judgment], questions: Sequence[Question]) -> None:
    known = {question.id for question in questions}
    if not any(row.question_id in known for row in rows):
        raise InputError(
            f"{path}: none of its {len(rows)} judgments is of a question of {suite_name} ({len(known)} questions); "
            f"they are rows of {', '.join(sorted({row.suite for row in rows}))}, e.g. question {rows[0].question_id}"
        )


def _check_same_kind(suite: Suite, path: Path, rows: Sequence[Judgment]) -> None:
    """Grades of a suite's questions say nothing about its comparisons, nor the other way round."""
    grades = suite.config.protocol == "mtbench"
    if not any(("/preference" not in row.key) == grades for row in rows):
        wanted, found = ("grades", "comparisons") if grades else ("comparisons", "grades of single answers")
        raise InputError(
            f"{path} holds {found}, and {suite.config.name} is scored from {wanted}; choose another suite (`seft-bench "
            "suites list`)"
        )


def save_scored(results: Path, scored: Sequence[Result], judgments: Path) -> None:
    """Keep figures from ready files as `eval` keeps its own, so that the leaderboard shows them."""
    parents = {"judgments": sha256_file(judgments)}
    for result in scored:
        manifest = build_manifest({"suite": result.suite, "judge": result.judge_id}, 0, now(), parents=parents)
        save_result(results, dataclasses.replace(result, manifest=to_row(manifest)))
