"""One training run between two steps: model, optimizer, counters, and the step itself."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seft_bench.errors import InputError
from seft_bench.records import Row

from .checkpoint import pick_device
from .data import Example, batch_plan, planned_steps
from .distributed import ALONE, MicroBatch, Processes, micro_batches
from .logprobs import example_logprobs, mismatched_logprobs
from .losses import Logprobs, Rewards, Totals, logprobs_of
from .optimizers import build_optimizer, clip_gradients, optimizer_tensors, restore_optimizer, update
from .precision import autocast
from .rewards import example_rewards
from .settings import TrainJob, learning_rate_at
from .sharding import fill, held, placed, sum_gradients


class Run:
    """Model, optimizer and counters of a run, between two steps."""

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        reference: Tensor | None,
        job: TrainJob,
        processes: Processes = ALONE,
    ) -> None:
        """Put the model on its device; a sharded one is there.

        Args:
            reference: [examples, columns] log-probabilities under the reference model; None without one.
        """
        self.processes = processes
        self.job, self.settings, self.loss = job, job.settings, job.loss_entry
        self.examples, self.reference = examples, reference
        self.device = pick_device(processes.device(self.settings.device))
        self.model = placed(model, self.settings, processes)
        self.model.train()
        self.parameters = {
            name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad
        }
        self.optimizer = build_optimizer(self.parameters, self.settings)
        self.lengths = [example.length for example in examples]
        self.steps, self.batches_in_epoch = planned_steps(job, examples), job.batches_in_epoch(len(examples))
        self.step = self.tokens = self.labelled_tokens = 0
        self.plan: tuple[int, list[list[int]]] = (-1, [])

    def take_step(self) -> Row:
        """Take one optimizer step over one global batch; return its row of train.jsonl."""
        self.step += 1
        # A seed of its own for every step: dropout then repeats after a resume without saving a generator's state.
        torch.manual_seed(self.job.seed * 1_000_003 + self.step + 1_000_000_007 * self.processes.rank)
        learning_rate = learning_rate_at(self.settings, self.step, self.steps)
        measured = self._forward_backward(self._global_batch())
        sum_gradients(self.parameters.values(), self.processes)
        grad_norm = clip_gradients(self.parameters, self.settings.max_grad_norm)
        shares = self.processes.add_up(torch.stack(list(measured.values())))
        # The step's only wait for the device.
        values = dict(zip([*measured, "grad_norm"], torch.cat([shares, grad_norm[None]]).tolist(), strict=True))
        self._check_finite(values)
        update(self.optimizer, learning_rate)
        return self.position() | {"learning_rate": learning_rate} | values

    @property
    def may_pause(self) -> bool:
        """Return whether a state that is saved now is all that a resumed run needs."""
        return True

    def position(self) -> Row:
        """Return how far the run is, in steps, epochs and tokens."""
        epoch = self.step / self.batches_in_epoch
        return {"step": self.step, "epoch": round(epoch, 6), "tokens": self.tokens}

    def _global_batch(self) -> list[int]:
        epoch, index = divmod(self.step - 1, self.batches_in_epoch)
        if self.plan[0] != epoch:
            self.plan = (epoch, batch_plan(self.lengths, self.settings.global_batch_size, self.job.seed, epoch))
        return self.plan[1][index]

    def _forward_backward(self, batch: Sequence[int]) -> dict[str, Tensor]:
        """Add this process's part of the global batch's gradient; return its share of the loss and the metrics."""
        examples = [self.examples[index] for index in batch]
        parts = micro_batches(batch, self.settings.micro_batch_size, self.processes)
        totals = self.totals(examples, self.divergence(self.examples, self.reference, parts))
        measured: dict[str, Tensor] = {}
        for micro_batch in parts:
            for name, share in self._backward(micro_batch, totals).items():
                measured[name] = measured[name] + share if name in measured else share
        self.tokens += sum(len(sequence.ids) for example in examples for sequence in example.sequences)
        self.labelled_tokens += sum(sequence.labelled for example in examples for sequence in example.sequences)
        return measured

    def _backward(self, micro_batch: MicroBatch, totals: Totals) -> dict[str, Tensor]:
        """Add one micro-batch's gradient; return its share of the loss and the metrics, zeros where it counts not."""
        reference = None if self.reference is None else self.reference[micro_batch.indices]
        scores = self.scores([self.examples[index] for index in micro_batch.indices], reference)
        measured = self.measured(scores, totals, micro_batch.counts)
        measured["loss"].backward()
        return {name: share.detach() for name, share in measured.items()}

    @staticmethod
    def totals(examples: Sequence[Example], divergence: Tensor | None) -> Totals:
        """Return the figures of a global batch, or of a whole held-out side."""
        return Totals(len(examples), sum(example.chosen.labelled for example in examples), divergence)

    def divergence(
        self, examples: Sequence[Example], reference: Tensor | None, parts: Sequence[MicroBatch]
    ) -> Tensor | None:
        """Estimate the divergence from the reference by mismatched answers, >= 0; None where the loss needs none.

        Args:
            parts: this process's micro-batches of all examples that it is estimated on.
        """
        if not self.loss.needs_mismatched or reference is None:
            return None
        total = torch.zeros(2, device=self.device)  # log-ratios, and how many
        with torch.no_grad(), autocast(self.settings, self.device):
            for indices, counts in parts:
                batch = [examples[index] for index in indices]
                sums = mismatched_logprobs(self.model, batch, self.device, self.settings.padding_free)
                ratios = sums - reference[indices, -1].to(self.device)
                if counts:
                    total += torch.stack([ratios.sum(), torch.full_like(ratios[0], len(ratios))])
        ratio, number = self.processes.add_up(total)
        return (ratio / number).clamp(min=0)

    def measured(self, scores: Logprobs | Rewards, totals: Totals, counts: bool) -> dict[str, Tensor]:
        """Return a micro-batch's shares of the loss and the metrics; zeros of one that does not count."""
        loss, metrics = self.loss.function(scores, totals, **self.job.loss_settings)
        shares = {"loss": loss, **metrics}
        return shares if counts else {name: 0 * share for name, share in shares.items()}

    def scores(self, examples: Sequence[Example], reference: Tensor | None) -> Logprobs | Rewards:
        """Return what the loss is a function of: log-probabilities of all answers, or their rewards.

        Args:
            reference: [examples, columns] log-probabilities under the reference model; None without one.
        """
        return self.rewards(examples) if self.loss.is_of_rewards else self.logprobs(examples, reference)

    def rewards(self, examples: Sequence[Example]) -> Rewards:
        """Rewards of all answers in one forward: the chosen ones, then the rejected ones."""
        with autocast(self.settings, self.device):
            found = example_rewards(self.model, examples, self.device)
        return Rewards(*found.split(len(examples)))

    def logprobs(self, examples: Sequence[Example], reference: Tensor | None) -> Logprobs:
        """Log-probabilities of all answers in one forward: the chosen ones, then the rejected ones.

        Args:
            reference: [examples, columns] those under the reference model; None without one.
        """
        with autocast(self.settings, self.device):
            sums, tokens = example_logprobs(
                self.model, examples, self.device, self.settings.padding_free, self.loss.needs_shared
            )
        of_reference = [] if reference is None else list(reference.to(self.device).unbind(dim=1))
        labels = [example.label for example in examples] if self.loss.rows == "labels" else None
        found = logprobs_of(sums.split(len(examples)), tokens.split(len(examples)), of_reference, labels)
        return found._replace(weights=self._weights(examples))

    def _weights(self, examples: Sequence[Example]) -> Tensor | None:
        """[n] weights of answers, 1 of those without one; None where none has one."""
        if all(example.weight is None for example in examples):
            return None
        weights = [1.0 if example.weight is None else example.weight for example in examples]
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    def _check_finite(self, values: Row) -> None:
        if not all(math.isfinite(value) for value in values.values()):
            raise InputError(
                f"training diverged at step {self.step}: {values}. Lower learning_rate (now "
                f"{self.settings.learning_rate}) and train into a new folder."
            )

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs besides the counters: weights, buffers, the optimizer's state."""
        weights = {f"model/{name}": tensor for name, tensor in self._model_tensors().items()}
        return weights | optimizer_tensors(self.optimizer, self.parameters)

    def facts(self) -> Row:
        """Return the counters, which a saved state holds beside the tensors."""
        return {"step": self.step, "tokens": self.tokens, "labelled_tokens": self.labelled_tokens}

    def whereabouts(self) -> Row:
        """Say where this process ran, and how many parameters it held."""
        place = {"rank": self.processes.rank, "process": os.getpid(), "machine": platform.node()}
        return place | {"device": str(self.device), "parameters_held": held(self.model)}

    def restore(self, tensors: Mapping[str, Tensor], facts: Row) -> None:
        """Go back to the step of a saved state."""
        self.step, self.tokens, self.labelled_tokens = facts["step"], facts["tokens"], facts["labelled_tokens"]
        with torch.no_grad():
            for name, tensor in self._model_tensors().items():
                fill(tensor, tensors[f"model/{name}"])
        restore_optimizer(self.optimizer, self.parameters, tensors)

    def _model_tensors(self) -> dict[str, Tensor]:
        """Weights that are trained, tied ones once, and buffers; frozen weights are where they came from."""
        return self.parameters | dict(self.model.named_buffers())
