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
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.checkpoints import fingerprint
from seft_bench.config import RecipeConfig
from seft_bench.console import Progress, Watch, note, says_who
from seft_bench.data.training import data_record, open_data
from seft_bench.evaluation_files import EvaluationFiles, Places, evaluation_files, measured_config
from seft_bench.files import locked, sha256_json
from seft_bench.generators import Generator
from seft_bench.judges import Judge
from seft_bench.manifest import build_manifest, now
from seft_bench.records import Answer, Judgment, Question, Result, from_row, to_row
from seft_bench.results import replaces_other_weights, save_result
from seft_bench.stages import Workshop, door, grading_of, run_stages
from seft_bench.stages.dry_run import StagePlan, Walk, plan_stages
from seft_bench.stages.engines import check_context, needed_engine, open_engine
from seft_bench.stages.fitting import GIGABYTE, present_gpu_bytes
from seft_bench.stages.graders import Graders, ToGrade
from seft_bench.stages.holds import RUN, RUN_LOCK
from seft_bench.stages.models import Models, open_models
from seft_bench.stages.recipes import contents_of, needed_data
from seft_bench.stages.reporting import trackers_of
from seft_bench.stages.runs import TrainedRun, check_forgettable, finished_run, forget_run, publish_run, published_run
from seft_bench.subjects import Subject
from seft_bench.suites import Suite

if TYPE_CHECKING:
    from seft_bench.stages.door import distributed

# Train


def train(
    recipe: RecipeConfig,
    out: Path,
    *,
    stages_folder: Path | None = None,
    checkpoints: int = 2,
    diagnostics_judge: str | None = None,
    progress: Progress = lambda what, done, total: None,
    watch: Watch | None = None,
    processes: distributed.Processes | None = None,
    fresh: bool = False,
    graders: Graders | None = None,
) -> TrainedRun:
    """Run a recipe's method; finished stages are taken as they are, a finished run is returned at once.

    A second command on the same run waits, and takes what the first one has made.

    Args:
        out: the run's folder.
        stages_folder: where stages lie that several runs may share; default: in `out`.
        checkpoints: saved checkpoints of each policy stage, evenly spaced.
        watch: called after each step of a training, in place of `progress`.
        processes: that train together, each of which calls this; None is this one alone.
        fresh: delete the run that is there, and start again.
        graders: judges of samples, and the consent to what they cost; None asks no server.

    Raises:
        InputError: unknown method, wrong settings, missing data, base or tracker; a folder that is not ours, or that
            not all processes see.
    """
    processes = processes or door.distributed.ALONE
    processes.check_shared(out)
    processes.from_main(lambda: RUN.check(out))
    plan = door.methods.build_stages(recipe.method, recipe.settings, checkpoints)
    if fresh:
        processes.from_main(lambda: check_forgettable(out))
    elif finished := finished_run(recipe, out, checkpoints):
        return finished
    report_to = trackers_of(plan)
    shared = stages_folder or out / "stages"
    shop = Workshop(shared, out, out, recipe.seed, diagnostics_judge, progress, watch, report_to, processes=processes)
    shop = dataclasses.replace(shop, graders=graders or shop.graders)
    processes.from_main(lambda: RUN.mark(out))
    with processes.locked(out / RUN_LOCK, says_who(f"trains in {out}")):
        if fresh:
            processes.from_main(lambda: forget_run(out, {RUN_LOCK}))
        return finished_run(recipe, out, checkpoints) or _train(recipe, out, plan, shop, checkpoints)


def _train(
    recipe: RecipeConfig, out: Path, plan: Sequence[door.stages.Stage], shop: Workshop, checkpoints: int
) -> TrainedRun:
    """Run the stages of a plan, and publish what they made, while nobody else does.

    Args:
        shop: whose base and data are not looked up yet.
    """
    processes, started_at, needed = shop.processes, now(), needed_data(recipe)
    with processes.main_first():  # what has to be fetched or made is there for the others
        models, data = open_material(recipe, plan, shop.folder.parent / "data", needed)
    shop = dataclasses.replace(shop, base=models.base, ready=models.ready, data=data)
    engine_name = needed_engine(recipe.engine, plan)
    if engine_name == "vllm":
        check_context(recipe.vllm.max_model_len, plan, models.base)
    with open_engine(engine_name, out / "vllm-logs", recipe.vllm.server_arguments()) as engine:
        stages = run_stages(plan, dataclasses.replace(shop, engine=engine))
    if processes.is_main:
        parents = {"base": fingerprint(models.base)} | contents_of(recipe)
        read = data_record(recipe.data, data, needed)
        publish_run(recipe, out, stages, checkpoints, started_at, parents, read)
    processes.barrier()
    return published_run(out)


def dry_run(
    recipe: RecipeConfig, checkpoints: int = 2, *, gpu_gigabytes: float | None = None, probe: bool = True
) -> list[StagePlan]:
    """Find what a recipe's stages would take; what has to be written meanwhile is removed.

    Args:
        gpu_gigabytes: memory of the GPU in question; default: this machine's, where it has one.
        probe: take a few steps of each training, for its speed.

    Raises:
        InputError: whatever a training would refuse: unknown method, wrong settings, missing or malformed data.
    """
    plan = door.methods.build_stages(recipe.method, recipe.settings, checkpoints)
    trackers_of(plan)
    gpu_bytes = present_gpu_bytes() if gpu_gigabytes is None else round(gpu_gigabytes * GIGABYTE)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        models, data = open_material(recipe, plan, scratch / "data", needed_data(recipe))
        walk = Walk(models.base, data, recipe.seed, scratch, gpu_bytes, probe, ready=models.ready)
        return plan_stages(plan, walk)


def left_to_grade(recipe: RecipeConfig, stages_folder: Path, checkpoints: int = 2) -> list[ToGrade]:
    """Look up what judges of samples would be asked for a recipe's training; what is written meanwhile is removed.

    Args:
        stages_folder: where its stages lie, as far as they are there.

    Raises:
        InputError: as `train`.
    """
    plan = door.methods.build_stages(recipe.method, recipe.settings, checkpoints)
    if not any(door.stages.grader_of(stage) for stage in plan):
        return []
    with tempfile.TemporaryDirectory() as name:
        models, data = open_material(recipe, plan, Path(name) / "data", needed_data(recipe))
        shop = Workshop(stages_folder, models.base, data, recipe.seed, ready=models.ready)
        return grading_of(plan, shop).look_up()


def open_material(
    recipe: RecipeConfig, plan: Sequence[door.stages.Stage], folder: Path, needed: Sequence[str]
) -> tuple[Models, Path]:
    """Find, or make in `folder`, what a recipe's stages start from.

    Args:
        needed: names of the data sets.

    Returns:
        The models, and the folder of the data sets.

    Raises:
        InputError: missing or malformed data, base or ready model.
    """
    return open_models(recipe, plan, folder), open_data(recipe.data, recipe.seed, folder, needed)


# Evaluate


STEPS = ("answer", "judge", "score")


def evaluate(
    subject: Subject,
    suite: Suite,
    judge: Judge,
    places: Places,
    *,
    steps: Sequence[str] = STEPS,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
    questions: Sequence[Question] | None = None,
) -> list[Result]:
    """Answer, judge and score one subject on one suite, once a decoding of the suite; return the results scored.

    Args:
        judge: an open judge.
        steps: which of "answer", "judge", "score" to run; the others' files are taken as they are.
        questions: only these of the suite's; results of a part are returned, never written.
    """
    generator = _Lazily(subject.open_generator)
    results = []
    for files in evaluation_files(subject, suite, places, seed, questions):
        if "answer" in steps:
            _answer(generator, files, progress)
        answers = files.required_answers()
        if "judge" in steps:
            _judge(judge, files, answers, progress)
        if "score" in steps:
            results.append(_score(judge, files, answers))
            if questions is None:
                _keep(results[-1], places.results)
    return results


def answer(subject: Subject, suite: Suite, places: Places, seed: int, progress: Progress) -> None:
    """Answer one suite in all its decodings, without a judge."""
    generator = _Lazily(subject.open_generator)
    for files in evaluation_files(subject, suite, places, seed):
        _answer(generator, files, progress)


class _Lazily:
    """A generator that is loaded at the first answer that is missing, and never when all are there."""

    def __init__(self, load: Callable[[], Generator]) -> None:
        self._load = load
        self._loaded: Generator | None = None

    def __call__(self) -> Generator:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


def _answer(generator: _Lazily, files: EvaluationFiles, progress: Progress) -> None:
    """Answer the questions that have no answer drawn with this decoding and seed; each is saved as it comes."""
    name = files.suite.config.name
    with _alone(files.answers_lock, f"answers {name}"):
        done = files.drawn_answers()
        missing = [question for question in files.questions if question.id not in done]
        if not missing:
            return
        count = len(done)

        def save(answer: Answer) -> None:
            nonlocal count
            files.add_answer(answer)
            count += 1
            progress(f"answer {name} ({files.decoding.name})", count, len(files.questions))

        generator().answer(missing, files.decoding, save)


def _judge(judge: Judge, files: EvaluationFiles, answers: Mapping[str, Answer], progress: Progress) -> None:
    """Ask the judge for every verdict that is not there yet; failed ones are asked again, good ones never."""
    name, model_id = files.suite.config.name, files.subject.model_id
    with _alone(files.judgments_lock(judge), f"judges {name}"):
        wanted = files.unjudged(judge, files.requests(answers))
        settled = [judgment for request in wanted if (judgment := files.suite.settled(request, model_id))]
        files.add_judgments(judge, settled)
        fixed = {judgment.key for judgment in settled}
        asked = [request for request in wanted if request.key not in fixed]
        count = 0

        def save(judgment: Judgment) -> None:
            nonlocal count
            files.add_judgments(judge, [judgment])
            count += 1
            progress(f"judge {name}", count, len(asked))

        if asked:
            judge.judge(asked, model_id, save)


def _alone(lock: Path, what: str) -> AbstractContextManager[None]:
    """Let a second command on the same work wait, and then take what the first has made: nothing is paid for twice."""
    return locked(lock, says_who(f"{what} for the same model"))


def _score(judge: Judge, files: EvaluationFiles, answers: Mapping[str, Answer]) -> Result:
    """Compute the figures of the judgments at hand, with the manifest that says how they came about."""
    subject, suite, questions = files.subject, files.suite, files.questions
    rows = files.judgment_rows(judge)
    scored = suite.score(subject.model_id, questions, answers, [from_row(Judgment, row) for row in rows])
    asked = {"asked": sha256_json([[question.id, question.turns, question.reference] for question in questions])}
    manifest = build_manifest(
        measured_config(files, judge, rows),
        files.decoding.seed,
        now(),
        data_hashes=suite.data_hashes() | asked,
        parents={"model": subject.fingerprint},
    )
    return dataclasses.replace(
        scored,
        judge_id=scored.judge_id or judge.id,
        decoding=files.decoding.name,
        run=subject.run,
        notes=tuple(dict.fromkeys((*scored.notes, *subject.notes_on(questions), *judge.notes))),
        manifest=to_row(manifest),
    )


def _keep(result: Result, results: Path) -> None:
    """File a result by its model's name; what was measured of other weights under it goes, and not without a word."""
    if replaces_other_weights(results, result):
        note(
            f"{result.model} on {result.suite}, {result.decoding}: replaces the figures of other weights of that name "
            f"in {results}/. Trained on since? Then fine. Another folder of that name? Rename one, or give another "
            "--results."
        )
    save_result(results, result)
