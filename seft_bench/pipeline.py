"""The whole road as a story: train a recipe, then answer, judge and score every checkpoint. Open this file first.

Every arrow reads files that a person can open and writes files that a person can open; each can be run again alone,
resumes by key, and adds nothing when all is there.

    recipe ──train──▶ runs/<name>/checkpoints/      (stages/ runs the method's stages)
    suite + checkpoint ──answer──▶ answers.jsonl    (generators/)
    judge + answers ──judge──▶ judgments.jsonl      (judges/)
    judgments ──score──▶ result.json                (suites/, stats/)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench import stages as stage_runner
from seft_bench.config import RecipeConfig
from seft_bench.console import Progress, note
from seft_bench.data.training import content_hashes, open_base, open_blank_base, open_data
from seft_bench.errors import InputError
from seft_bench.files import append_rows, locked, read_log, sha256_folder, sha256_json
from seft_bench.generators import decoding_hash
from seft_bench.judges import verdicts
from seft_bench.manifest import build_manifest, now
from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Result, from_row, to_row
from seft_bench.results import replaces_other_weights, save_result, slug
from seft_bench.stages.runs import TrainedRun, finished_run, publish_run
from seft_bench.subjects import Subject
from seft_bench.suites.custom import folder_name

# Train


def train(
    recipe: RecipeConfig,
    out: Path,
    *,
    stages_folder: Path | None = None,
    checkpoints: int = 2,
    diagnostics_judge: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> TrainedRun:
    """Run a recipe's method; finished stages are taken as they are, a finished run is returned at once.

    Args:
        out: the run's folder.
        stages_folder: where stages lie that several runs may share; default: in `out`.
        checkpoints: saved checkpoints of each policy stage, evenly spaced.

    Raises:
        InputError: unknown method, wrong settings, missing data or base.
    """
    method = stage_runner.training("methods").find_method(recipe.method)
    plan = stage_runner.training("methods").build_stages(recipe.method, recipe.settings, checkpoints)
    if finished := finished_run(recipe, out, checkpoints):
        return finished
    started_at = now()
    shared = stages_folder or out / "stages"
    base, data = (
        _base_of(recipe, shared.parent / "data"),
        open_data(recipe.data, recipe.seed, shared.parent / "data", method.data),
    )
    shop = stage_runner.Workshop(shared, base, data, recipe.seed, diagnostics_judge, progress)
    stages = stage_runner.run_stages(plan, shop)
    return publish_run(
        recipe,
        out,
        stages,
        checkpoints,
        started_at,
        {"base": sha256_folder(base)} | content_hashes(recipe.base, recipe.data),
    )


def _base_of(recipe: RecipeConfig, folder: Path) -> Path:
    """The base's folder; pre-training starts from a blank one, made on the spot."""
    return open_blank_base(recipe.base, folder) if recipe.method == "pretrain" else open_base(recipe.base)


# Evaluate


@dataclass(frozen=True)
class Places:
    """Where an evaluation reads and writes.

    Attributes:
        work: big files, one folder a subject (answers, judgments).
        results: small ones, one folder a result.
        store: the judges' response store.
    """

    work: Path
    results: Path
    store: Path


STEPS = ("answer", "judge", "score")


def evaluate(
    subject: Subject,
    suite: Any,
    judge: Any,
    places: Places,
    *,
    steps: Sequence[str] = STEPS,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
    keep: bool = True,
) -> list[Result]:
    """Answer, judge and score one subject on one suite, once a decoding of the suite; returns the results scored.

    Args:
        judge: an open judge; None when `steps` does not judge.
        steps: which of "answer", "judge", "score" to run; the others' files are taken as they are.
        keep: write the results; False where the suite is only a part of one.
    """
    questions = suite.questions()
    generator = _Lazily(subject.open_generator)
    results = []
    for decoding in decodings(subject, suite):
        folder = _folder(places, subject, suite, decoding)
        if "answer" in steps:
            with _alone(folder / ".answers.lock", f"answers {suite.config.name}"):
                _answer(generator, suite, questions, decoding, folder, seed, progress)
        answers = _read_answers(folder, suite, questions)
        if "judge" in steps:
            with _alone(folder / f".{slug(judge.id)}.lock", f"judges {suite.config.name}"):
                _judge(judge, suite, questions, answers, subject, folder, progress)
        if "score" in steps:
            results.append(_score(suite, questions, answers, subject, decoding, judge, folder, seed))
            if keep:
                _keep(results[-1], places.results)
    return results


def _keep(result: Result, results: Path) -> None:
    """Results are filed by the model's name: what was measured of other weights under it goes, and not without a
    word.
    """
    if replaces_other_weights(results, result):
        note(
            f"{result.model} on {result.suite}, {result.decoding}: replaces the figures of other weights of that name "
            f"in {results}/. "
            "Trained on since? Then fine. Another folder of that name? Rename one, or give another --results."
        )
    save_result(results, result)


def _alone(lock: Path, what: str) -> AbstractContextManager[None]:
    """Two commands on the same work would pay for it twice: the second waits, and then takes what the first has
    made.
    """
    return locked(lock, lambda: note(f"another command {what} for the same model: waiting for it"))


def decodings(subject: Subject, suite: Any) -> list[str]:
    """Names of the ways in which a subject answers a suite; ready answers come as they are."""
    return ["given"] if subject.ready else list(suite.config.decodings)


def _folder(places: Places, subject: Subject, suite: Any, decoding: str) -> Path:
    engine = f"-{slug(subject.engine)}" if subject.engine else ""  # answers of two engines are never mixed
    subject_folder = places.work / "evaluations" / f"{slug(subject.model_id)}-{subject.fingerprint[:8]}{engine}"
    return subject_folder / folder_name(suite.config) / decoding


def is_judged(subject: Subject, suite: Any, judge: Any, places: Places) -> bool:
    """Is every verdict at hand already, so that the judge need not even be there?"""
    questions = suite.questions()
    for decoding in decodings(subject, suite):
        folder = _folder(places, subject, suite, decoding)
        answers = _answers_at_hand(folder, questions)
        if len(answers) < len(questions) or _unjudged(folder, judge, suite.requests(questions, answers)):
            return False
    return True


def judged_by_other_weights(subject: Subject, suite: Any, judge: Any, places: Places) -> int:
    """Verdicts at hand that other weights gave than the judge has now, as far as it has measured them: they are asked
    for again.
    """
    folders = [_folder(places, subject, suite, decoding) for decoding in decodings(subject, suite)]
    return sum(verdicts.by_other_weights(read_log(_judgments_path(folder, judge)), judge) for folder in folders)


def answered(subject: Subject, suite: Any, decoding: str, places: Places, seed: int) -> dict[str, Answer]:
    """Answers at hand that this command would not draw anew, by question id."""
    return _answered(suite, suite.questions(), decoding, _folder(places, subject, suite, decoding), seed)


def check_answers(subject: Subject, suite: Any, places: Places) -> None:
    """Raise InputError where a step that takes the answers as they are would find none."""
    for decoding in decodings(subject, suite):
        _read_answers(_folder(places, subject, suite, decoding), suite, suite.questions())


def unjudged(
    subject: Subject, suite: Any, judge: Any, decoding: str, places: Places, requests: Sequence[JudgeRequest]
) -> list[JudgeRequest]:
    """Those of the requests that have no good verdict yet."""
    return _unjudged(_folder(places, subject, suite, decoding), judge, requests)


class _Lazily:
    """Loads the model at the first answer that is missing, and never when all are there."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load, self._loaded = load, None

    def __call__(self) -> Any:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


def _answer(
    generator: _Lazily,
    suite: Any,
    questions: Sequence[Question],
    decoding: str,
    folder: Path,
    seed: int,
    progress: Progress,
) -> None:
    """Answer the questions that have no answer yet, drawn with these settings and this seed; each is saved as it
    comes.
    """
    done = _answered(suite, questions, decoding, folder, seed)
    missing = [question for question in questions if question.id not in done]
    if not missing:
        return
    count = len(done)

    def save(answer: Answer) -> None:
        nonlocal count
        append_rows(folder / "answers.jsonl", [to_row(answer)])
        count += 1
        progress(f"answer {suite.config.name} ({decoding})", count, len(questions))

    generator().answer(missing, suite.config.decodings.get(decoding), decoding, suite.config.max_new_tokens, seed, save)


def _answered(suite: Any, questions: Sequence[Question], decoding: str, folder: Path, seed: int) -> dict[str, Answer]:
    config = suite.config.decodings.get(decoding)
    wanted = decoding_hash(config, suite.config.max_new_tokens, seed) if config else ""
    return {
        key: answer
        for key, answer in _answers_at_hand(folder, questions).items()
        if not config or answer.decoding_hash == wanted
    }


def _read_answers(folder: Path, suite: Any, questions: Sequence[Question]) -> dict[str, Answer]:
    answers = _answers_at_hand(folder, questions)
    if not answers:
        raise InputError(
            f"no answers in {folder}: run `seft-bench eval MODEL --suite {suite.config.name} --stage answer` first"
        )
    return answers


def _answers_at_hand(folder: Path, questions: Sequence[Question]) -> dict[str, Answer]:
    known = {question.id for question in questions}
    return {
        row["question_id"]: from_row(Answer, row)
        for row in read_log(folder / "answers.jsonl")
        if row["question_id"] in known
    }


def _judge(
    judge: Any,
    suite: Any,
    questions: Sequence[Question],
    answers: Mapping[str, Answer],
    subject: Subject,
    folder: Path,
    progress: Progress,
) -> None:
    """Ask the judge for every verdict that is not there yet; failed ones are asked again, good ones never."""
    path = _judgments_path(folder, judge)
    wanted = _unjudged(folder, judge, suite.requests(questions, answers))
    settled = [judgment for request in wanted if (judgment := suite.settled(request, subject.model_id))]
    append_rows(path, [to_row(judgment) for judgment in settled])
    fixed = {judgment.key for judgment in settled}
    _ask(
        judge,
        [request for request in wanted if request.key not in fixed],
        subject.model_id,
        path,
        f"judge {suite.config.name}",
        progress,
    )


def _judgments_path(folder: Path, judge: Any) -> Path:
    return folder / f"judgments-{slug(judge.id)}.jsonl"


def _unjudged(folder: Path, judge: Any, requests: Sequence[JudgeRequest]) -> list[JudgeRequest]:
    """Requests without a good verdict on these very texts that still stands."""
    done = verdicts.standing(read_log(_judgments_path(folder, judge)), judge)
    return [request for request in requests if (request.key, request.answer_hash) not in done]


def _ask(
    judge: Any, requests: Sequence[JudgeRequest], model_id: str, path: Path, what: str, progress: Progress
) -> None:
    if not requests:
        return
    count = 0

    def save(judgment: Judgment) -> None:
        nonlocal count
        append_rows(path, [to_row(judgment)])
        count += 1
        progress(what, count, len(requests))

    judge.judge(requests, model_id, save)


def _score(
    suite: Any,
    questions: Sequence[Question],
    answers: Mapping[str, Answer],
    subject: Subject,
    decoding: str,
    judge: Any,
    folder: Path,
    seed: int,
) -> Result:
    """Figures from the judgments at hand, with the manifest that says how they came about."""
    rows = list(read_log(_judgments_path(folder, judge)))
    judgments = [from_row(Judgment, row) for row in rows]
    scored = suite.score(subject.model_id, questions, answers, judgments)
    returned = sorted({row.returned_model for row in judgments if row.status == "ok" and row.returned_model})
    config = {
        "suite": suite.config.model_dump(mode="json"),
        "judge": judge.id,
        "decoding": decoding,
        "returned_models": returned,
    }
    config |= {"engine": subject.engine} if subject.engine else {}
    config |= {"judge_weights": weights} if (weights := verdicts.weights_behind(rows)) else {}
    asked = {"asked": sha256_json([[question.id, question.turns, question.reference] for question in questions])}
    manifest = build_manifest(
        config, seed, now(), data_hashes=suite.data_hashes() | asked, parents={"model": subject.fingerprint}
    )
    notes = tuple(dict.fromkeys((*scored.notes, *judge.notes)))
    result: Result = dataclasses.replace(
        scored,
        judge_id=scored.judge_id or judge.id,
        decoding=decoding,
        run=dict(subject.run),
        notes=notes,
        manifest=to_row(manifest),
    )
    return result
