"""`seft-bench eval`: find what to evaluate, check everything first, then walk the pipeline for each."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seft_bench import pipeline
from seft_bench.config import (
    DecodingConfig,
    JudgeConfig,
    OpenAIJudgeConfig,
    load_judge,
    server_config,
    validate,
    with_overrides,
)
from seft_bench.console import Progress, note
from seft_bench.errors import InputError, unknown_name
from seft_bench.evaluation.engines import DEFAULT_ENGINE, Engine, JudgedSuite, closed_at_the_end, in_turn, open_engine
from seft_bench.evaluation_files import EvaluationFiles, Places, evaluation_files
from seft_bench.files import write_atomic
from seft_bench.judges import Judge, missing_key, open_judge
from seft_bench.pipeline import STEPS
from seft_bench.records import Answer, JudgeRequest, Question, Result
from seft_bench.results import RESULTS, changing
from seft_bench.subjects import CONTROL_PREFIX, Subject, all_runs, find_subjects, served_subject
from seft_bench.suites import Suite, load_suites


@dataclass(frozen=True)
class EvalRequest:
    """An evaluation as a user asks for it.

    Attributes:
        models: MODEL arguments, or names that `server` serves; none for all runs.
        suites: names.
        judge: name; None for each suite's own.
        steps: none for all.
        seed: of sampled answers.
        server, server_key_env: where the models answer (a base URL, or a YAML of the server's settings), and the NAME
            of the variable with its key.
        engine: what answers for checkpoints (`engines`).
        reference: answers of another baseline.
        length_control: "lc_c" and "lc_interval" instead of the suites'.
        reasoning, template_args: of every model here, instead of what the suites' decodings say; see `Subject`.
        dry_run: nothing is sent and no file made, so answers of a keyless server that are at hand are not found.
    """

    models: Sequence[str]
    suites: Sequence[str]
    places: Places
    judge: str | None = None
    steps: Sequence[str] = ()
    seed: int = 0
    server: str | None = None
    server_key_env: str | None = None
    trust_remote_code: bool = False
    engine: str = DEFAULT_ENGINE
    reference: Path | None = None
    length_control: Mapping[str, str | None] = field(default_factory=dict)
    reasoning: str = ""
    template_args: Sequence[str] = ()
    dry_run: bool = False

    @property
    def store(self) -> Path | None:
        """The response store; None where a dry run would have to make one."""
        return None if self.dry_run and not self.places.store.exists() else self.places.store


@dataclass(frozen=True)
class Plan:
    """An evaluation with everything resolved: every subject on every suite, with the judge of each suite.

    Attributes:
        seed: of sampled answers.
        engine: answers for checkpoints; None: our own generator does.
    """

    subjects: Sequence[Subject]
    suites: Sequence[JudgedSuite]
    steps: Sequence[str]
    places: Places
    seed: int = 0
    engine: Engine | None = None

    @property
    def judges(self) -> list[Judge]:
        return [judge for _, judge in self.suites]

    def files(self, suite: Suite) -> Iterator[EvaluationFiles]:
        """Every subject on a suite, in each of its decodings."""
        for subject in self.subjects:
            yield from evaluation_files(subject, suite, self.places, self.seed)


def plan_evaluation(request: EvalRequest) -> Plan:
    """Check names, data, judges and models before any model is loaded or any judge is asked (`probe` does that).

    Raises:
        InputError: the first thing that is wrong.
    """
    for step in request.steps:
        if step not in STEPS:
            raise unknown_name("step", step, STEPS)
    RESULTS.check(request.places.results, "--results")
    suites = _judged_suites(request)
    engine = open_engine(
        request.engine,
        request.places.work / "vllm-logs",
        request.trust_remote_code,
        served_elsewhere=bool(request.server),
    )
    subjects = _subjects(request)
    if engine and (pairs := [subject.model_id for subject in subjects if subject.is_pair]):
        raise InputError(f"--engine {request.engine} answers with one model, and {pairs[0]} is two: leave it out")
    steps = tuple(step for step in STEPS if step in request.steps) or STEPS
    return Plan(
        [engine.answers_for(subject) for subject in subjects] if engine else subjects,
        suites,
        steps,
        request.places,
        request.seed,
        engine,
    )


def _judged_suites(request: EvalRequest) -> list[JudgedSuite]:
    suites = load_suites(request.suites, request.length_control)
    if request.reference:
        suites = [suite.with_baseline(request.reference) for suite in suites]
    opened: dict[str, Judge] = {}
    return [JudgedSuite(suite, _open_judge(suite, request.judge, request.store, opened)) for suite in suites]


def _subjects(request: EvalRequest) -> list[Subject]:
    if request.server:
        server, ask = server_config(request.server, request.server_key_env), not request.dry_run
        found = [served_subject(model, server, request.store, ask) for model in request.models]
    else:
        models = request.models or all_runs(request.places.work)
        found = [subject for model in models for subject in find_subjects(model, request.trust_remote_code)]
    if not found:
        raise InputError("--server needs the name of a model that it serves")
    _refuse_one_name_for_two(found)
    return [_as_told(subject, _told(request)) for subject in found]


def _told(request: EvalRequest) -> DecodingConfig:
    """Return what the user says of reasoning and chat templates, checked as in a suite's YAML."""
    said = {"reasoning": request.reasoning} if request.reasoning else {}
    values = with_overrides({"temperature": 0.0, **said}, [f"template_args.{told}" for told in request.template_args])
    told: DecodingConfig = validate(values, DecodingConfig, "--reasoning, --template-args")
    return told


def _as_told(subject: Subject, told: DecodingConfig) -> Subject:
    if told.template_args and (subject.ready or subject.model_id.startswith(CONTROL_PREFIX)):
        raise InputError(
            f"--template-args are for a model's chat template; {subject.model_id} is ready and has none: leave them out"
        )
    reasoning = told.reasoning if "reasoning" in told.model_fields_set else ""
    return dataclasses.replace(subject, reasoning=reasoning, template_args=told.template_args)


def _refuse_one_name_for_two(subjects: Sequence[Subject]) -> None:
    """Results are filed by name: the second model would overwrite the first one's."""
    fingerprints: dict[str, str] = {}
    for subject in subjects:
        if fingerprints.setdefault(subject.model_id, subject.fingerprint) != subject.fingerprint:
            raise InputError(
                f"two different models are called {subject.model_id!r}, and results are filed by name: rename one of "
                "their folders"
            )


PROBED = {"alpacaeval": "preference", "mtbench": "grade", "mtbench-pairwise": "pair"}
"""Protocol of a suite -> the kind of request that a judge's probe makes."""


def probe(plan: Plan) -> None:
    """Look whether answers can be had, then ask the judges whether they can do their part.

    A judge whose verdicts are all at hand is not asked: then no key is needed.

    Raises:
        InputError, ServiceUnavailableError: see `Judge.check`.
    """
    for subject in plan.subjects:
        for suite, _ in plan.suites:
            _check_answers(subject, suite, plan)
    for suite, judge in plan.suites if "judge" in plan.steps else ():
        _probe_judge(judge, suite, list(plan.files(suite)))


def _probe_judge(judge: Judge, suite: Suite, everything: Sequence[EvaluationFiles]) -> None:
    if all(files.is_judged(judge) for files in everything):
        return
    check_judge(judge, suite, everything)
    if again := sum(files.judged_by_other_weights(judge) for files in everything):
        note(
            f"judge {judge.id} has other weights now than when it gave {again} verdicts at hand: they are asked for "
            "again"
        )


def check_judge(judge: Judge, suite: Suite, everything: Sequence[EvaluationFiles] = ()) -> None:
    """Ask a judge whether it can do its part of a suite.

    Args:
        everything: what is to be judged, so that the judge is asked about the answers at hand.

    Raises:
        InputError, ServiceUnavailableError: see `Judge.check`.
    """
    kind = PROBED[suite.config.protocol]
    judge.check_questions(kind, suite.questions())  # some can judge only some
    judge.check([kind], _examples(judge, suite, everything) if judge.client else ())


def _examples(judge: Judge, suite: Suite, everything: Sequence[EvaluationFiles]) -> list[JudgeRequest]:
    """Return requests such as will be made: of the answers at hand, else of all questions with a short answer."""
    asked = [request for files in everything for request in files.unjudged(judge, files.requests(files.answers()))]
    questions = suite.questions()
    return asked or suite.requests(questions, {question.id: _short_answer(question) for question in questions})


def _short_answer(question: Question) -> Answer:
    return Answer(question.suite, question.id, "", ("I do not know.",) * len(question.turns))


def _check_answers(subject: Subject, suite: Suite, plan: Plan) -> None:
    """Refuse answers that are not there, do not fit or cannot be asked for, before a judge is paid for its probe."""
    everything = evaluation_files(subject, suite, plan.places, plan.seed)
    if "answer" not in plan.steps:
        for files in everything:
            files.required_answers()
        return
    if subject.ready:
        subject.open_generator().check(suite.questions())
    variable = subject.server_key_env
    keyless = variable and not os.environ.get(variable)
    if keyless and any(len(files.drawn_answers()) < len(files.questions) for files in everything):
        raise InputError(f"the key of {subject.server} is to be in {variable} (--server-key-env), which is not set")


def _open_judge(suite: Suite, name: str | None, store: Path | None, opened: dict[str, Judge]) -> Judge:
    """Open the judge of a suite; one that runs a server of its own is shared by all suites (`opened`)."""
    config = load_judge(name or suite.config.default_judge)
    if config.kind == "rubric" and suite.config.source in ("official", "files"):
        raise InputError(
            f"judge {config.name} grades the tinyworld only; {suite.config.name} needs a language model or recorded "
            "judgments (`seft-bench judges list`)"
        )
    judge = opened.get(config.name) or open_judge(config, store)
    if config.kind == "vllm":
        opened[config.name] = judge
    _check_data(suite, config)
    return judge


def _check_data(suite: Suite, judge: JudgeConfig) -> None:
    """Refuse missing official data now, not after an hour of sampling.

    A missing key is said first, as the data alone would not help.
    """
    try:
        suite.requests(suite.questions(), {})  # without answers nothing is asked, but the baseline's file is read
    except InputError:
        variable = judge.api_key_env if isinstance(judge, OpenAIJudgeConfig) else None
        if variable and not os.environ.get(variable):
            raise missing_key(judge.name, variable) from None
        raise


def evaluate_all(plan: Plan, progress: Progress) -> list[Result]:
    """Evaluate everything of a plan and rebuild the leaderboard."""
    scored: list[Result] = []
    with closed_at_the_end(plan.engine, plan.judges):
        for subject, suite, judge, steps in in_turn(plan.subjects, plan.suites, plan.steps, plan.engine):
            scored += pipeline.evaluate(
                subject, suite, judge, plan.places, steps=steps, seed=plan.seed, progress=progress
            )
    if scored:
        write_leaderboard(plan.places.results)
    return scored


def write_leaderboard(results: Path) -> None:
    """Write leaderboard.{md,csv,html,tex,json}: one row a model, of every result in the folder, imported ones below."""
    from seft_bench.report.sheets import STYLES, plain_sheets  # numpy and scipy, which planning does without

    RESULTS.check(results, "--results")
    RESULTS.mark(results)
    with changing(results):
        sheets = plain_sheets(results)
        for style, suffix in STYLES.items():
            write_atomic(results / f"leaderboard.{suffix}", sheets.text(style))
