"""`seft-bench eval` and `leaderboard`: find what to evaluate, check everything first, then walk the pipeline for
each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench import pipeline
from seft_bench.config import JudgeConfig, OpenAIJudgeConfig
from seft_bench.console import Progress, note
from seft_bench.errors import InputError, unknown_name
from seft_bench.evaluation import engines
from seft_bench.evaluation_files import Places, evaluation_files
from seft_bench.files import write_atomic
from seft_bench.judges import Judge
from seft_bench.pipeline import STEPS
from seft_bench.records import Result
from seft_bench.report.sheets import STYLES, plain_sheets
from seft_bench.subjects import Subject, all_runs, find_subjects, served_subject
from seft_bench.suites import Suite


@dataclass(frozen=True)
class Plan:
    """What one command evaluates: every subject on every suite, with the judge of each suite; `engine` answers for
    checkpoints.
    """

    subjects: Sequence[Subject]
    suites: Sequence[Suite]
    judges: Sequence[Judge]
    steps: Sequence[str]
    engine: engines.Engine | None = None


def plan(
    models: Sequence[str],
    suite_names: Sequence[str],
    judge_name: str | None,
    *,
    steps: Sequence[str],
    runs: Path,
    store: Path | None,
    server: str | None = None,
    server_key_env: str | None = None,
    trust_remote_code: bool = False,
    engine_name: str = "transformers",
    reference: Path | None = None,
    length_control: Mapping[str, str | None] | None = None,
    ask_servers: bool = True,
) -> Plan:
    """Check names, data, judges and models before any model is loaded or any judge is asked (`probe` does that).

    Args:
        judge_name: None for each suite's own.
        steps: none for all.
        runs, store: where runs and stored responses lie.
        server, server_key_env: where the models answer, and the NAME of the variable with its key.
        reference: answers of another baseline.
        length_control: "lc_c" and "lc_interval" instead of the suites'.
        ask_servers: False sends nothing at all, so answers of a keyless server that are at hand are not found.

    Raises:
        InputError: the first thing that is wrong.
    """
    from seft_bench.suites import load_suites

    for step in steps:
        if step not in STEPS:
            raise unknown_name("step", step, STEPS)
    wanted = tuple(step for step in STEPS if step in steps) or STEPS
    suites = load_suites(suite_names, length_control or {})
    suites = [suite.with_baseline(reference) for suite in suites] if reference else suites
    opened: dict[str, Judge] = {}
    judges = [_open_judge(suite, judge_name, store, opened) for suite in suites]
    engine = engines.open_engine(engine_name, runs / "vllm-logs", trust_remote_code, served_elsewhere=bool(server))
    if server:
        subjects = [served_subject(model, server, server_key_env, store, ask_servers) for model in models]
    else:
        subjects = [
            subject for model in models or all_runs(runs) for subject in find_subjects(model, trust_remote_code)
        ]
    if not subjects:
        raise InputError("--server needs the name of a model that it serves")
    _refuse_one_name_for_two(subjects)
    subjects = [engine.answers_for(subject) for subject in subjects] if engine else subjects
    return Plan(subjects, suites, judges, wanted, engine)


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


def probe(plan: Plan, places: Places, seed: int) -> None:
    """Look whether answers can be had, then ask the judges whether they can do their part, unless every verdict is at
    hand: then no key is needed.

    Raises:
        InputError, ServiceUnavailableError: see `Judge.check`.
    """
    for subject in plan.subjects:
        for suite in plan.suites:
            _check_answers(subject, suite, places, seed, to_answer="answer" in plan.steps)
    for suite, judge in zip(plan.suites, plan.judges, strict=True) if "judge" in plan.steps else ():
        everything = [files for subject in plan.subjects for files in evaluation_files(subject, suite, places, seed)]
        if not all(files.is_judged(judge) for files in everything):
            check_judge(judge, suite)
            if again := sum(files.judged_by_other_weights(judge) for files in everything):
                note(
                    f"judge {judge.id} has other weights now than when it gave {again} verdicts at hand: they are "
                    "asked for again"
                )


def check_judge(judge: Judge, suite: Suite) -> None:
    """Ask a judge whether it can do its part of a suite.

    Raises:
        InputError, ServiceUnavailableError: see `Judge.check`.
    """
    kind = PROBED[suite.config.protocol]
    judge.check_questions(kind, suite.questions())  # some can judge only some
    judge.check([kind])


def _check_answers(subject: Subject, suite: Suite, places: Places, seed: int, to_answer: bool) -> None:
    """Answers that are not there, do not fit or cannot be asked for are said before a judge is paid for its probe."""
    everything = evaluation_files(subject, suite, places, seed)
    if not to_answer:
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
    """The judge of a suite; one that runs a server of its own is shared by all suites (`opened`)."""
    from seft_bench.config import load_judge
    from seft_bench.judges import open_judge

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
    """Missing official data is said here, not after an hour of sampling; a missing key first, as the data alone would
    not help.
    """
    from seft_bench.judges import missing_key

    try:
        suite.requests(suite.questions(), {})  # without answers nothing is asked, but the baseline's file is read
    except InputError:
        variable = judge.api_key_env if isinstance(judge, OpenAIJudgeConfig) else None
        if variable and not os.environ.get(variable):
            raise missing_key(judge.name, variable) from None
        raise


def run(plan: Plan, runs: Path, results: Path, store: Path, seed: int, progress: Progress) -> list[Result]:
    """Evaluate everything of a plan and rebuild the leaderboard."""
    places = Places(runs, results, store)
    scored: list[Result] = []
    with engines.closed_at_the_end(plan.engine, plan.judges):
        for subject, suite, judge, steps in engines.in_turn(
            plan.subjects, plan.suites, plan.judges, plan.steps, plan.engine
        ):
            scored += pipeline.evaluate(subject, suite, judge, places, steps=steps, seed=seed, progress=progress)
    if scored:
        write_leaderboard(results)
    return scored


def write_leaderboard(results: Path) -> None:
    """results/leaderboard.{md,csv,html,tex,json}: one row a model, of every result in the folder, and imported figures
    below.
    """
    sheets = plain_sheets(results)
    for style, suffix in STYLES.items():
        write_atomic(results / f"leaderboard.{suffix}", sheets.text(style))
