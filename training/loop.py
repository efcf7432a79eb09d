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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from seft_bench.chat import load_tokenizer
from seft_bench.checkpoints.holds import CHECKPOINT, EVENT_FILES, STATE
from seft_bench.console import says_who
from seft_bench.files import read_log, write_json
from seft_bench.ownership import remove_listed, saved_in_steps

from .adapters import open_model, open_start
from .checkpoint import load_state, step_name
from .data import DataCounts
from .distributed import ALONE, Processes
from .material import Sides, check_fit, load_sides, references_of
from .online import Helpers, OnlineRun
from .out_of_memory import memory_explained
from .record import Clock, Identity, TrainSummary, check_same_run, finished_summary, identify, save_summary
from .rewards import set_padding_token
from .run import Run
from .saving import Saver, StateRhythm, final_steps, keep_checkpoints
from .settings import TrainJob, TrainSettings
from .sharding import sharding_of
from .trackers import EVENTS, Tracked, Trackers, chosen_trackers
from .validation import Validation
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
    helpers: Helpers | None = None,
    processes: Processes = ALONE,
) -> TrainSummary:
    """Train a model; go on where a killed run stopped; return the summary at once where the run is finished.

    Args:
        model_folder: where training starts; without weights only where the job may start from nothing.
        data_file: JSON Lines, see `data`.
        out: folder of this run alone.
        reference_folder: the frozen model of losses that need one; None is the start model itself.
        save_state_every_steps: saves the state a killed run goes on from by steps instead of by minutes.
        helpers: draw and grade answers, where the job learns such.
        processes: that train together; each of them calls this, and the first one writes.

    Raises:
        InputError: wrong data or model, too little memory, or `out` holds a run with other settings or inputs.
    """
    with processes.locked(out / ".lock", says_who(f"trains in {out}")), memory_explained(job.settings):
        identity = identify(model_folder, data_file, job, reference_folder)
        if finished := _claim(out, identity, job, processes):
            return finished
        tokenizer, start = load_tokenizer(model_folder), open_start(model_folder, job, out / "merged-base", processes)
        # Started here, so that the first run of a process is not charged with importing the model's code.
        clock = Clock(processes)
        sides = load_sides(data_file, tokenizer, model_folder, start.model.config, job, out)
        if job.loss_entry.is_of_rewards:
            set_padding_token(tokenizer, start.model, sides.last_ids())
        if processes.is_main:
            on_data(sides.counts)
        check_fit(start.model, sides, job, processes)
        held_out: Tensor | None = None
        if helpers:
            reference = open_model(reference_folder, job, processes) if reference_folder else None
            run: Run = OnlineRun(start.model, sides.learnt, tokenizer, helpers, job, reference, processes)
        else:
            frozen = None if reference_folder in (None, model_folder) else reference_folder
            learnt, held_out = references_of(sides, start, frozen, identity.frozen, job, out, processes)
            run = Run(start.model, sides.learnt, learnt, job, processes)
        _resume_or_clean(run, clock, out)
        validation = _validation(sides, held_out, job, out)
        rhythm = StateRhythm(60 * job.settings.save_state_every_minutes, save_state_every_steps)
        saver = Saver(out, tokenizer, {"settings_hash": identity.hash, **start.facts}, clock, rhythm)
        with _watch(run, identity, out, on_step) as watch:
            _take_all_steps(run, saver, watch, validation)
        return _finish(run, sides.counts, out, clock, validation)


def _claim(out: Path, identity: Identity, job: TrainJob, processes: Processes) -> TrainSummary | None:
    """Write what this run is into its folder; return the summary of one that is finished.

    Raises:
        InputError: the folder holds another run, or a tracker that is asked for is not installed.
    """
    with processes.main_first():
        check_same_run(out, identity)
        if finished := finished_summary(out):
            return finished
        _ = chosen_trackers(job.settings.report_to)
        if processes.is_main:
            write_json(out / "run.json", identity.as_row())
    return None


def _validation(sides: Sides, reference: Tensor | None, job: TrainJob, out: Path) -> Validation | None:
    """Set up what is measured on the held-out side, with what a killed run measured before; None where nothing is."""
    asked = job.settings.validation
    return Validation(asked, sides.held_out, reference, read_log(out / VALIDATION_LOG)) if asked else None


@contextmanager
def _watch(run: Run, identity: Identity, out: Path, on_step: OnStep | None) -> Iterator[Watch | None]:
    """Open the logs and trackers of a run, in the first process, and close the trackers whatever happens."""
    if not run.processes.is_main:
        yield None
        return
    pace = Pace(run.steps)
    pace.start(run.step, run.tokens)
    opened = Trackers(
        chosen_trackers(run.settings.report_to), Tracked(out, identity.hash[:16], identity.settings, run.step)
    )
    try:
        yield Watch(out, pace, opened, on_step)
    finally:
        opened.close()


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
        online=run.summary() if isinstance(run, OnlineRun) else None,
        processes=processes.size,
        sharding=sharding_of(run.settings, processes),
        ranks=tuple(processes.gather(run.whereabouts())),
        **clock.facts(),
    )
    if processes.is_main:
        save_summary(out, summary)
        remove_listed(out / "state", saved_in_steps(STATE))
    return summary
