"""The training loop: one for every method, so that nothing but loss and data differs between them.

A run's folder:

    run.json                     settings and hashes of all inputs; a rerun must match them
    train.jsonl                  one row a step; what a clock says of it is in timings.jsonl
    validation.jsonl             one row a measurement on what is held out, where something is
    checkpoints/step-000075/     Hugging Face folder (with LoRA: peft's, of the adapter alone) and checkpoint.json
    merged-base/                 the start as a whole model, where an adapter is trained over another adapter
    reference/                   log-probabilities under the reference model
    state/                       what a killed run goes on from; removed at the end
    tensorboard/                 TensorBoard's event files, where it is installed
    summary.json                 written last: the run is finished
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from seft_bench.chat import load_tokenizer
from seft_bench.checkpoints.holds import CHECKPOINT, EVENT_FILES, STATE
from seft_bench.errors import InputError
from seft_bench.files import read_log, write_json
from seft_bench.ownership import remove_listed, saved_in_steps

from .adapters import Start, open_model, open_start
from .checkpoint import load_state, pick_device, step_name
from .data import DataCounts, DataRules, Example, data_rules, load_examples
from .distributed import ALONE, Processes
from .record import Clock, Identity, TrainSummary, check_same_run, finished_summary, identify, save_summary
from .reference import reference_logprobs
from .run import Run
from .saving import Saver, StateRhythm, final_steps, keep_checkpoints
from .settings import TrackerName, TrainJob, TrainSettings, ValidationSettings, course_of, total_steps
from .sharding import is_sharded, sharding_of
from .trackers import EVENTS, Tracked, Trackers, chosen_trackers
from .validation import Validation, split_file
from .watch import TRAIN_LOG, VALIDATION_LOG, OnStep, Pace, Watch, cut_logs

__all__ = ["OnData", "OnStep", "TrainJob", "TrainSettings", "TrainSummary", "train"]

OnData = Callable[[DataCounts], None]
"""Called before the first step with what became of the data's rows."""


def train(
    model_folder: Path,
    data_file: Path,
    out: Path,
    job: TrainJob,
    *,
    reference_folder: Path | None = None,
    on_step: OnStep | None = None,
    on_data: OnData = lambda counts: None,
    save_state_every_steps: int | None = None,
    processes: Processes = ALONE,
) -> TrainSummary:
    """Train a model; go on where a killed run stopped; return the summary at once where the run is finished.

    Args:
        model_folder: where training starts; without weights only where the job may start from nothing.
        data_file: JSON Lines, see `data`.
        out: folder of this run alone.
        reference_folder: the frozen model of losses that need one; None is the start model itself.
        save_state_every_steps: saves the state a killed run goes on from by steps instead of by minutes.
        processes: that train together; each of them calls this, and the first one writes.

    Raises:
        InputError: wrong data or model, or `out` holds a run with other settings or inputs.
    """
    with processes.locked(out / ".lock"):
        identity = identify(model_folder, data_file, job, reference_folder)
        with processes.main_first():
            check_same_run(out, identity)
            if finished := finished_summary(out):
                return finished
            trackers = chosen_trackers(job.settings.report_to)
            if processes.is_main:
                write_json(out / "run.json", identity.as_row())
        tokenizer, start = load_tokenizer(model_folder), open_start(model_folder, job, out / "merged-base", processes)
        # Started here, so that the first run of a process is not charged with importing the model's code.
        clock = Clock(processes)
        rules = data_rules(job, start.model.config)
        examples, held_out, counts = _sides(data_file, tokenizer, rules, job.settings.validation, out)
        if processes.is_main:
            on_data(counts)
        _check_vocabulary(start.model, [*examples, *held_out], model_folder)
        _ = course_of(job.settings, total_steps(job.settings, len(examples)))
        references: list[Tensor | None] = [None, None]
        if job.loss_entry.needs_reference:
            frozen = None if reference_folder in (None, model_folder) else reference_folder
            references = _references(start, frozen, identity.frozen, (examples, held_out), out, job, processes)
        run = Run(start.model, examples, references[0], job, processes)
        _resume_or_clean(run, clock, out)
        asked, measured = job.settings.validation, read_log(out / VALIDATION_LOG)
        validation = Validation(asked, held_out, references[1], measured) if asked else None
        rhythm = StateRhythm(60 * job.settings.save_state_every_minutes, save_state_every_steps)
        saver = Saver(out, tokenizer, {"settings_hash": identity.hash, **start.facts}, clock, rhythm)
        with _watch(run, trackers, identity, out, on_step) as watch:
            _take_all_steps(run, saver, watch, validation)
        return _finish(run, counts, out, clock, validation)


def _sides(
    data_file: Path, tokenizer: Any, rules: DataRules, validation: ValidationSettings | None, out: Path
) -> tuple[list[Example], list[Example], DataCounts]:
    """Return the examples that are learnt, those that are held out, and what became of the rows of the former."""
    if validation is None:
        examples, counts = load_examples(data_file, tokenizer, rules)
        return examples, [], counts
    learnt_file, held_out_file = split_file(data_file, validation, out)
    examples, counts = load_examples(learnt_file, tokenizer, rules)
    return examples, load_examples(held_out_file, tokenizer, rules)[0], counts


@contextmanager
def _watch(
    run: Run, trackers: Sequence[TrackerName], identity: Identity, out: Path, on_step: OnStep | None
) -> Iterator[Watch | None]:
    """Open the logs and trackers of a run, in the first process, and close the trackers whatever happens."""
    if not run.processes.is_main:
        yield None
        return
    pace = Pace(run.steps)
    pace.start(run.step, run.tokens)
    opened = Trackers(trackers, Tracked(out, identity.hash[:16], identity.settings, run.step))
    try:
        yield Watch(out, pace, opened, on_step)
    finally:
        opened.close()


def _check_vocabulary(model: Any, examples: Sequence[Example], folder: Path) -> None:
    """Refuse a tokenizer of another model: it would crash in the embedding, or on a GPU corrupt the whole process."""
    highest = max(max(sequence.ids) for example in examples for sequence in example.sequences)
    rows = model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise InputError(
            f"the tokenizer of {folder} gives the id {highest}, but its model has embeddings for {rows} ids only: they "
            "do not belong together"
        )


def _references(
    start: Start,
    frozen: Path | None,
    fingerprint: str,
    sides: Sequence[Sequence[Example]],
    out: Path,
    job: TrainJob,
    processes: Processes,
) -> list[Tensor | None]:
    """Return [examples, 2] log-probabilities of each side under the frozen model; None of one without examples.

    None is the model that training starts from, which is asked before its first step; no second one is loaded.
    """

    @cache
    def load() -> Any:
        model = open_model(frozen, job, processes) if frozen else start.model
        return model if is_sharded(model) else model.to(pick_device(processes.device(job.settings.device)))

    folder = out / "reference"
    return [reference_logprobs(load, fingerprint, side, job, folder, processes) if side else None for side in sides]


def _resume_or_clean(run: Run, clock: Clock, out: Path) -> None:
    """Go on from the newest state, cutting off rows that it does not know; without one, start from nothing."""
    state = load_state(out / "state")
    if state is not None:
        tensors, facts = state
        run.restore(tensors, facts)
        clock.add(facts)
    elif run.processes.is_main:
        remove_listed(out / "checkpoints", saved_in_steps(CHECKPOINT))
        remove_listed(out / EVENTS, EVENT_FILES)
        (out / "summary.json").unlink(missing_ok=True)
    if run.processes.is_main:
        cut_logs(out, run.step)
    run.processes.barrier()


def _take_all_steps(run: Run, saver: Saver, watch: Watch | None, validation: Validation | None) -> None:
    while run.step < run.steps and not (validation and validation.is_over):
        row = run.take_step()
        if watch:
            watch.stepped(row)
        if validation and validation.is_due(run.step, run.steps):
            measured = validation.measure(run)
            if watch:
                watch.validated(measured)
        saver.save(run, row["loss"], validation.kept_step if validation else None)
        if watch:
            watch.show()


def _finish(
    run: Run, counts: DataCounts, out: Path, clock: Clock, validation: Validation | None = None
) -> TrainSummary:
    """Write the summary, which marks the run as finished, and remove what only a killed one needs."""
    processes, last = run.processes, read_log(out / TRAIN_LOG)[-1]
    kept = final_steps(run, validation.kept_step if validation else None)
    if processes.is_main:
        keep_checkpoints(out, kept)
    summary = TrainSummary(
        steps=run.step,
        epochs=last["epoch"],
        tokens=run.tokens,
        labelled_tokens=run.labelled_tokens,
        data=counts,
        checkpoints=tuple(out / "checkpoints" / step_name(step) for step in kept),
        final_loss=last["loss"],
        stopped_early_at=run.step if run.step < run.steps else None,
        validation=validation.summary() if validation else None,
        processes=processes.size,
        sharding=sharding_of(run.settings, processes),
        ranks=tuple(processes.gather(run.whereabouts())),
        **clock.facts(),
    )
    if processes.is_main:
        save_summary(out, summary)
        remove_listed(out / "state", saved_in_steps(STATE))
    return summary
