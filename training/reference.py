"""Log-probabilities of pairs under the frozen reference model: computed once, then read from a file.

A policy that starts from its reference has a loss of log 2 at its first step. But a log-probability depends on the
batch that it was computed in: in bfloat16 by 1e-2 and more, in float32 by the rounding of a sum of hundreds of nats.
So the reference sees the very micro-batches of the policy's first epoch, which makes the first margins exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seft_bench.checkpoints.weights import no_numbers
from seft_bench.files import sha256_json, write_atomic

from .data import Example, Tokens, batch_plan
from .distributed import ALONE, MicroBatch, Processes, micro_batches
from .logprobs import example_logprobs, mismatched_logprobs, score_sequences
from .precision import autocast
from .settings import TrainJob

EXACT_NATS = 64.0
"""Sums of up to so many nats agree to 4e-6 in float32 in any batch, and a loss of log 2 to 4e-7 (beta 0.1): batches
sorted by length, which are faster, serve as well.
"""


def reference_logprobs(
    load_reference: Callable[[], Any],
    fingerprint: str,
    examples: Sequence[Example],
    job: TrainJob,
    cache_folder: Path,
    processes: Processes = ALONE,
) -> Tensor:
    """Log-probabilities of all examples under the reference model.

    The file is named by the hash of the model's fingerprint, of the token ids, which covers data, chat template and
    maximal length at once, and of the micro-batches of one process; several keep what one of another number began.

    Args:
        load_reference: called only when the file is not there yet.
        processes: that share the work, each with the micro-batches that it will train on.

    Returns:
        [number of examples, columns] float32 on the CPU: sums of the chosen and of the rejected answer, then of both
        over the length that they share; or of the labelled answer, then of the mismatched one.
    """
    from safetensors.torch import load, save

    path = cache_folder / f"{_key(fingerprint, examples, job)[:32]}.safetensors"
    if not processes.from_main(path.exists):
        sums = _computed(load_reference(), examples, job, processes)
        if not bool(torch.isfinite(sums).all()):
            raise no_numbers("the reference model")
        if processes.is_main:
            write_atomic(path, save({"sums": sums}))
        processes.barrier()
    return load(path.read_bytes())["sums"]


def _computed(model: Any, examples: Sequence[Example], job: TrainJob, processes: Processes) -> Tensor:
    nats = _longest(model, examples)
    whole = not job.loss_entry.needs_shared
    if whole and job.settings.precision == "float32" and processes.from_main(lambda: nats) < EXACT_NATS:
        return _by_length(model, examples, job, processes)
    return _in_batches(model, examples, job, processes)


def first_epoch_batches(examples: Sequence[Example], job: TrainJob, processes: Processes = ALONE) -> list[MicroBatch]:
    """List the micro-batches in which a process's policy sees its examples for the first time."""
    lengths, settings = [example.length for example in examples], job.settings
    plan = batch_plan(lengths, settings.global_batch_size, job.seed, 0)
    return [part for batch in plan for part in micro_batches(batch, settings.micro_batch_size, processes)]


def _key(fingerprint: str, examples: Sequence[Example], job: TrainJob) -> str:
    batches = [part.indices for part in first_epoch_batches(examples, job)]
    ids = [[sequence.ids.tolist(), sequence.prompt_tokens] for example in examples for sequence in _sequences(example)]
    kind = ["shared"] if job.loss_entry.needs_shared else []
    return sha256_json([fingerprint, ids, job.settings.precision, job.settings.attention, batches, *kind])


def _sequences(example: Example) -> tuple[Tokens, ...]:
    return (*example.sequences, *([example.mismatched] if example.mismatched else []))


def _longest(model: Any, examples: Sequence[Example]) -> float:
    """Negative log-likelihood of the longest answer, in nats."""
    sequences = [sequence for example in examples for sequence in _sequences(example)]
    return -score_sequences(model, [max(sequences, key=lambda sequence: sequence.labelled)])[0].sum


def _by_length(model: Any, examples: Sequence[Example], job: TrainJob, processes: Processes) -> Tensor:
    sequences = [sequence for example in examples for sequence in _sequences(example)]
    given = job.settings
    scored = score_sequences(model, sequences, given.micro_batch_size, processes, given.padding_free)
    return torch.tensor([answer.sum for answer in scored]).reshape(-1, job.loss_entry.columns)


def _in_batches(model: Any, examples: Sequence[Example], job: TrainJob, processes: Processes) -> Tensor:
    sums, loss = torch.zeros(len(examples), job.loss_entry.columns), job.loss_entry
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad(), autocast(job.settings, device):
        for indices, counts in first_epoch_batches(examples, job, processes):
            batch = [examples[index] for index in indices]
            found, _ = example_logprobs(model, batch, device, job.settings.padding_free, loss.needs_shared)
            if loss.needs_mismatched:
                found = torch.cat([found, mismatched_logprobs(model, batch, device, job.settings.padding_free)])
            if counts:
                sums[indices] = found.reshape(loss.columns, -1).T.cpu()
    return processes.add_up(sums)
