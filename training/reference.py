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

from seft_bench.files import sha256_json, write_atomic

from .data import Example, batch_plan, micro_batches
from .logprobs import example_logprobs, score_sequences
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
) -> Tensor:
    """Log-probabilities of all pairs under the reference model.

    The file is named by the hash of the model's fingerprint, of the token ids, which covers data, chat template and
    maximal length at once, and of the micro-batches.

    Args:
        load_reference: called only when the file is not there yet.

    Returns:
        [number of examples, 2] float32 on the CPU: sums of the chosen and of the rejected answer.
    """
    from safetensors.torch import load, save

    batches = first_epoch_batches(examples, job)
    path = cache_folder / f"{_key(fingerprint, examples, job, batches)[:32]}.safetensors"
    if not path.exists():
        model = load_reference()
        any_batches = job.settings.precision == "float32" and _longest(model, examples) < EXACT_NATS
        sums = _by_length(model, examples, job) if any_batches else _in_batches(model, examples, job, batches)
        write_atomic(path, save({"sums": sums}))
    return load(path.read_bytes())["sums"]


def first_epoch_batches(examples: Sequence[Example], job: TrainJob) -> list[list[int]]:
    """List the micro-batches in which the policy sees the examples for the first time."""
    lengths, settings = [example.length for example in examples], job.settings
    plan = batch_plan(lengths, settings.global_batch_size, job.seed, 0)
    return [list(part) for batch in plan for part in micro_batches(batch, settings.micro_batch_size)]


def _key(fingerprint: str, examples: Sequence[Example], job: TrainJob, batches: list[list[int]]) -> str:
    ids = [[sequence.ids.tolist(), sequence.prompt_tokens] for example in examples for sequence in example.sequences]
    return sha256_json([fingerprint, ids, job.settings.precision, job.settings.attention, batches])


def _longest(model: Any, examples: Sequence[Example]) -> float:
    """Negative log-likelihood of the longest answer, in nats."""
    sequences = [sequence for example in examples for sequence in example.sequences]
    return -score_sequences(model, [max(sequences, key=lambda sequence: sequence.labelled)])[0].sum


def _by_length(model: Any, examples: Sequence[Example], job: TrainJob) -> Tensor:
    sequences = [sequence for example in examples for sequence in example.sequences]
    scored = score_sequences(model, sequences, job.settings.micro_batch_size)
    return torch.tensor([answer.sum for answer in scored]).reshape(-1, 2)


def _in_batches(model: Any, examples: Sequence[Example], job: TrainJob, batches: Sequence[Sequence[int]]) -> Tensor:
    sums = torch.zeros(len(examples), 2)
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode(), autocast(job.settings, device):
        for batch in batches:
            both, _ = example_logprobs(model, [examples[index] for index in batch], device)
            sums[list(batch)] = both.reshape(2, -1).T.cpu()
    return sums
