"""The training loop: one for every method, so that nothing but loss and data differs between them.

A run's folder:

    run.json                     settings and hashes of all inputs; a rerun must match them
    train.jsonl                  one row a step
    checkpoints/step-000075/     Hugging Face folder and checkpoint.json
    reference/                   log-probabilities under the reference model
    state/                       what a killed run goes on from; removed at the end
    summary.json                 written last: the run is finished
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seft_bench.chat import load_tokenizer
from seft_bench.errors import InputError
from seft_bench.files import append_rows, locked, read_log, sha256_folder, write_json, write_jsonl
from seft_bench.records import Row

from .checkpoint import load_or_initialise, load_state, pick_device, save_checkpoint, save_state, step_name
from .data import DataCounts, Example, batch_plan, collate, load_examples
from .logprobs import answer_logprobs, reference_logprobs
from .losses import Logprobs, Totals
from .record import Clock, TrainSummary, check_same_run, identity_of, load_summary, save_summary
from .settings import TrainSettings, checkpoint_steps, learning_rate_at, steps_in_epoch, total_steps

__all__ = ["OnStep", "TrainSettings", "TrainSummary", "load_summary", "train"]

OnStep = Callable[[int, int, float], None]
"""Called after every step with (steps done, steps in all, loss)."""

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""AdamW's state of one parameter, by torch's names."""


def train(
    model_folder: Path,
    data_file: Path,
    out: Path,
    settings: TrainSettings,
    *,
    reference_folder: Path | None = None,
    progress: OnStep | None = None,
    save_state_every_steps: int = 50,
) -> TrainSummary:
    """Train a model; go on where a killed run stopped; return the summary at once where the run is finished.

    Args:
        model_folder: where training starts; a folder with config.json and tokenizer but no weights starts from a fresh
            initialisation.
        data_file: JSON Lines, see `data`.
        out: folder of this run alone.
        reference_folder: the frozen model of losses that need one; None is the start model itself.

    Raises:
        InputError: wrong data or model, or `out` holds a run with other settings or inputs.
    """
    with locked(out / ".lock"):
        identity = identity_of(model_folder, data_file, settings, reference_folder)
        check_same_run(out, identity)
        if (finished := load_summary(out)) and all(folder.is_dir() for folder in finished.checkpoints):
            return finished
        write_json(out / "run.json", identity)
        tokenizer, model = load_tokenizer(model_folder), load_or_initialise(model_folder, settings.seed)
        clock = (
            Clock()
        )  # started here, so that the first run of a process is not charged with importing the model's code
        examples, counts = load_examples(
            data_file, tokenizer, pairs=settings.loss_entry.needs_pairs, max_length=settings.max_length
        )
        _check_vocabulary(model, examples, model_folder)
        reference = (
            _reference(reference_folder or model_folder, examples, out, settings)
            if settings.loss_entry.needs_reference
            else None
        )
        run = _Run(model, examples, reference, settings)
        _resume_or_clean(run, clock, out)
        _loop(run, tokenizer, out, identity["hash"], clock, progress, save_state_every_steps)
        return _finish(run, counts, out, clock)


def _loop(
    run: _Run,
    tokenizer: Any,
    out: Path,
    settings_hash: str,
    clock: Clock,
    progress: OnStep | None,
    save_state_every_steps: int,
) -> None:
    saved_at = checkpoint_steps(run.steps, run.settings.checkpoints)
    while run.step < run.steps:
        row = run.take_step()
        append_rows(out / "train.jsonl", [row])
        if run.step in saved_at:
            facts = {
                "step": run.step,
                "steps": run.steps,
                "tokens": run.tokens,
                "loss": row["loss"],
                "settings_hash": settings_hash,
            }
            save_checkpoint(out / "checkpoints" / step_name(run.step), run.model, tokenizer, facts)
        if run.step in saved_at or run.step % save_state_every_steps == 0:
            # After the checkpoint: a run that goes on from this state never makes that checkpoint again.
            save_state(out / "state", run.tensors(), run.facts() | clock.facts())
        if progress:
            progress(run.step, run.steps, row["loss"])


class _Run:
    """Model, optimizer and counters of a run, between two steps."""

    def __init__(
        self, model: Any, examples: Sequence[Example], reference: Tensor | None, settings: TrainSettings
    ) -> None:
        self.settings, self.examples, self.reference = settings, examples, reference
        self.device = pick_device(settings.device)
        self.model = model.to(self.device)
        self.model.train()
        self.parameters = {
            name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad
        }
        self.optimizer = _optimizer(self.parameters.values(), settings)
        self.lengths = [example.length for example in examples]
        self.steps = total_steps(settings, len(examples))
        self.step = self.tokens = self.labelled_tokens = 0
        self.plan: tuple[int, list[list[int]]] = (-1, [])

    def take_step(self) -> Row:
        """One optimizer step over one global batch; returns its row of train.jsonl."""
        self.step += 1
        # A seed of its own for every step: dropout then repeats after a resume without saving a generator's state.
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        learning_rate = learning_rate_at(self.settings, self.step, self.steps)
        measured = self._forward_backward(self._global_batch())
        measured["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm)
        values = dict(
            zip(measured, torch.stack(list(measured.values())).tolist(), strict=True)
        )  # the step's only wait for the device
        self._check_finite(values)
        self._update(learning_rate)
        return self.position() | {"learning_rate": learning_rate} | values

    def position(self) -> Row:
        epoch = self.step / steps_in_epoch(len(self.examples), self.settings.global_batch_size)
        return {"step": self.step, "epoch": round(epoch, 6), "tokens": self.tokens}

    def _global_batch(self) -> list[int]:
        epoch, index = divmod(self.step - 1, steps_in_epoch(len(self.examples), self.settings.global_batch_size))
        if self.plan[0] != epoch:
            self.plan = (epoch, batch_plan(self.lengths, self.settings.global_batch_size, self.settings.seed, epoch))
        return self.plan[1][index]

    def _forward_backward(self, batch: Sequence[int]) -> dict[str, Tensor]:
        """Add the global batch's gradient, micro-batch by micro-batch; returns its loss and metrics."""
        examples = [self.examples[index] for index in batch]
        totals = Totals(len(examples), sum(example.chosen.labelled for example in examples))
        measured: dict[str, Tensor] = {}
        for start in range(0, len(batch), self.settings.micro_batch_size):
            logprobs = self._logprobs(batch[start : start + self.settings.micro_batch_size])
            loss, metrics = self.settings.loss_entry.function(logprobs, totals, **self.settings.loss_settings)
            loss.backward()
            for name, share in {"loss": loss.detach(), **metrics}.items():
                measured[name] = measured[name] + share if name in measured else share
        self.tokens += sum(len(sequence.ids) for example in examples for sequence in example.sequences)
        self.labelled_tokens += sum(sequence.labelled for example in examples for sequence in example.sequences)
        return measured

    def _logprobs(self, micro_batch: Sequence[int]) -> Logprobs:
        """Log-probabilities of all answers in one forward: the chosen ones, then the rejected ones."""
        examples, n = [self.examples[index] for index in micro_batch], len(micro_batch)
        sequences = [example.chosen for example in examples] + [
            example.rejected for example in examples if example.rejected
        ]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.dtype == "bfloat16"):
            sums, tokens = answer_logprobs(self.model, collate(sequences).to(self.device))
        if len(sequences) == n:
            return Logprobs(sums, tokens)
        reference = (
            (None, None) if self.reference is None else self.reference[list(micro_batch)].to(self.device).unbind(dim=1)
        )
        return Logprobs(sums[:n], tokens[:n], sums[n:], tokens[n:], *reference)

    def _check_finite(self, values: Row) -> None:
        if not all(math.isfinite(value) for value in values.values()):
            raise InputError(
                f"training diverged at step {self.step}: {values}. Lower learning_rate (now "
                f"{self.settings.learning_rate}) and train into a new folder."
            )

    def _update(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs besides the counters: weights, buffers, Adam's moments."""
        state = {f"model/{name}": tensor for name, tensor in self._model_tensors().items()}
        for name, parameter in self.parameters.items():
            state |= {
                f"adam/{moment}/{name}": self.optimizer.state[parameter][moment]
                for moment in MOMENTS
                if self.optimizer.state[parameter]
            }
        return state

    def facts(self) -> dict[str, Any]:
        return {"step": self.step, "tokens": self.tokens, "labelled_tokens": self.labelled_tokens}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.step, self.tokens, self.labelled_tokens = facts["step"], facts["tokens"], facts["labelled_tokens"]
        with torch.no_grad():
            for name, tensor in self._model_tensors().items():
                tensor.copy_(tensors[f"model/{name}"])
        for name, parameter in self.parameters.items():
            if f"adam/step/{name}" in tensors:
                self.optimizer.state[parameter] = {
                    moment: tensors[f"adam/{moment}/{name}"].to(self.device) for moment in MOMENTS
                }

    def _model_tensors(self) -> dict[str, Tensor]:
        """Weights and buffers, tied ones once."""
        return dict(self.model.named_parameters()) | dict(self.model.named_buffers())


def _optimizer(parameters: Any, settings: TrainSettings) -> torch.optim.AdamW:
    matrices = [parameter for parameter in parameters if parameter.dim() >= 2]
    vectors = [parameter for parameter in parameters if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, betas=settings.adam_betas, fused=True
    )


def _reference(folder: Path, examples: Sequence[Example], out: Path, settings: TrainSettings) -> Tensor:
    def load() -> Any:
        return load_or_initialise(folder, settings.seed).to(pick_device(settings.device))

    return reference_logprobs(load, sha256_folder(folder), examples, settings.micro_batch_size, out / "reference")


def _check_vocabulary(model: Any, examples: Sequence[Example], folder: Path) -> None:
    """A tokenizer of another model would crash in the embedding, or on a GPU corrupt the whole process."""
    highest, rows = (
        max(max(sequence.ids) for example in examples for sequence in example.sequences),
        model.get_input_embeddings().weight.shape[0],
    )
    if highest >= rows:
        raise InputError(
            f"the tokenizer of {folder} gives the id {highest}, but its model has embeddings for {rows} ids only: they "
            "do not belong together"
        )


def _resume_or_clean(run: _Run, clock: Clock, out: Path) -> None:
    """Go on from the newest state, cutting off rows that it does not know; without one, start from nothing."""
    state = load_state(out / "state")
    if state is None:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        for name in ("train.jsonl", "summary.json"):
            (out / name).unlink(missing_ok=True)
        return
    tensors, facts = state
    run.restore(tensors, facts)
    clock.add(facts)
    write_jsonl(out / "train.jsonl", [row for row in read_log(out / "train.jsonl") if row["step"] <= run.step])


def _finish(run: _Run, counts: DataCounts, out: Path, clock: Clock) -> TrainSummary:
    last = read_log(out / "train.jsonl")[-1]
    names = [step_name(step) for step in checkpoint_steps(run.steps, run.settings.checkpoints)]
    summary = TrainSummary(
        steps=run.steps,
        epochs=last["epoch"],
        tokens=run.tokens,
        labelled_tokens=run.labelled_tokens,
        data=counts,
        checkpoints=tuple(out / "checkpoints" / name for name in names),
        final_loss=last["loss"],
        **clock.facts(),
    )
    save_summary(out, summary)
    shutil.rmtree(out / "state", ignore_errors=True)
    return summary
