"""Log-probabilities of answers: in batches that are trained on, and of whole lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seft_bench.chat import answer_ids, check_ids, load_tokenizer
from seft_bench.checkpoints.batches import Batches
from seft_bench.checkpoints.weights import no_numbers
from seft_bench.records import Message

from .checkpoint import load_model, pick_device
from .data import Batch, Example, Tokens, collate
from .distributed import ALONE, Processes, in_turns
from .packing import pack, packed_logprobs
from .projection import token_logprobs
from .sharding import is_sharded


def answer_logprobs(model: Any, batch: Batch, firsts: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Summed log p over the labelled positions of each sequence.

    Args:
        model: a Hugging Face causal language model.
        batch: n sequences, padded on the right.
        firsts: [n] numbers of labelled tokens whose sums are wanted, too.

    Returns:
        ([n] float32 sums in nats, [n] int64 numbers of labelled tokens); the sums over the first tokens come behind
        the others.
    """
    targets = batch.ids[:, 1:][batch.labelled[:, 1:]]
    predicting = batch.labelled[:, 1:]  # the logits at position t predict the token at t + 1
    # The last position predicts nothing, so it is not computed.
    logprobs = token_logprobs(model, {"input_ids": batch.ids[:, :-1]}, predicting, targets)
    # Written back into a grid and summed by row: unlike index_add, that has one order of addition on every device.
    grid = torch.zeros(predicting.shape, dtype=torch.float32, device=batch.ids.device)
    grid = grid.masked_scatter(predicting, logprobs)
    sums = grid.sum(dim=1)
    if firsts:
        early = predicting.cumsum(dim=1) <= torch.tensor(firsts, device=grid.device)[:, None]
        sums = torch.cat([sums, grid.masked_fill(~early, 0).sum(dim=1)])
    return sums, predicting.sum(dim=1)


def sequence_logprobs(
    model: Any, sequences: Sequence[Tokens], device: torch.device, padding_free: bool, firsts: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """`answer_logprobs` of sequences in one forward, padded or in one row."""
    if padding_free:
        return packed_logprobs(model, pack(sequences).to(device), firsts)
    return answer_logprobs(model, collate(sequences).to(device), firsts)


def answer_token_logprobs(
    model: Any, sequences: Sequence[Tokens], device: torch.device, padding_free: bool = False
) -> Tensor:
    """Log p of each labelled token, in one forward, padded or in one row.

    Returns:
        [n, most labelled tokens] float32 in nats, 0 behind a sequence's last one.
    """
    if padding_free:
        row = pack(sequences).to(device)
        logprobs = token_logprobs(model, row.inputs(model), row.predicting, row.targets)
    else:
        batch = collate(sequences).to(device)
        predicting = batch.labelled[:, 1:]
        targets = batch.ids[:, 1:][predicting]
        logprobs = token_logprobs(model, {"input_ids": batch.ids[:, :-1]}, predicting, targets)
    parts = logprobs.split([sequence.labelled for sequence in sequences])
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)


def example_logprobs(
    model: Any, examples: Sequence[Example], device: torch.device, padding_free: bool = False, shared: bool = False
) -> tuple[Tensor, Tensor]:
    """`sequence_logprobs` of a micro-batch: the chosen answers, then the rejected ones.

    Policy and reference both come through here: in bfloat16, equal weights give equal sums only in equal batches.

    Args:
        shared: then come the sums of both over the first tokens, as many as the shorter answer has.
    """
    chosen, rejected = [example.chosen for example in examples], [e.rejected for e in examples if e.rejected]
    shorter = [min(sequence.labelled for sequence in example.sequences) for example in examples]
    return sequence_logprobs(model, chosen + rejected, device, padding_free, 2 * shorter if shared else ())


def mismatched_logprobs(
    model: Any, examples: Sequence[Example], device: torch.device, padding_free: bool = False
) -> Tensor:
    """[n] summed log p of answers to other prompts than their own."""
    sequences = [example.mismatched for example in examples if example.mismatched]
    return sequence_logprobs(model, sequences, device, padding_free)[0]


@dataclass(frozen=True, slots=True)
class AnswerLogprob:
    """Log-likelihood of one answer, stop token included: `sum` in nats over `tokens` tokens."""

    sum: float
    tokens: int

    @property
    def mean(self) -> float:
        return self.sum / self.tokens


def score_sequences(
    model: Any,
    sequences: Sequence[Tokens],
    batch_size: int = 32,
    processes: Processes = ALONE,
    padding_free: bool = False,
) -> list[AnswerLogprob]:
    """Log-likelihood of every sequence's labelled part, in the order given; no gradients, sorted by length inside.

    Several processes take the batches in turns, and all of them return all scores. Batches that do not fit into memory
    are halved, but where the processes hold one model in parts, and must keep step.

    Raises:
        InputError: one is no finite number, so the model is none to measure anything by; or an id is unknown to it.
    """
    # no_grad, not inference_mode: a model that is trained afterwards may keep tensors of this forward (rotary tables).
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index].ids))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    scored: dict[int, tuple[float, int]] = {}
    check_ids((sequence.ids for sequence in sequences), model)
    was_training, device = model.training, next(model.parameters()).device
    sizes = Batches(batch_size, f"likelihoods under {model.name_or_path}")

    def score(batch: Sequence[int]) -> list[tuple[float, int]]:
        sums, tokens = sequence_logprobs(model, [sequences[index] for index in batch], device, padding_free)
        return list(zip(sums.tolist(), tokens.tolist(), strict=True))

    model.eval()
    with torch.no_grad():
        for batch in in_turns(batches, processes):
            in_step = is_sharded(model)
            scored.update(zip(batch, score(batch), strict=True) if in_step else sizes.over(batch, score))
    model.train(was_training)
    found = {index: score for part in processes.gather(list(scored.items())) for index, score in part}
    if not all(math.isfinite(value) for value, _ in found.values()):
        raise no_numbers(f"the model {model.name_or_path}")
    return [AnswerLogprob(*found[index]) for index in range(len(sequences))]


def score_answers(
    model_folder: Path,
    tokenizer: Any | None,
    pairs: Sequence[tuple[Sequence[Message], str]],
    batch_size: int = 32,
    device: str = "auto",
) -> list[AnswerLogprob]:
    """Log-likelihood of answers to prompts under a saved model, in the order given.

    Args:
        tokenizer: None loads the checkpoint's own.
        pairs: (messages of the prompt, answer text).
        batch_size: sequences in one forward.

    Raises:
        InputError: the folder holds no model, tokenizer or chat template.
    """
    return score_answer_lists(model_folder, tokenizer, [pairs], batch_size, device)[0]


def score_answer_lists(
    model_folder: Path,
    tokenizer: Any | None,
    lists: Sequence[Sequence[tuple[Sequence[Message], str]]],
    batch_size: int = 32,
    device: str = "auto",
    processes: Processes = ALONE,
) -> list[list[AnswerLogprob]]:
    """As `score_answers` for each of several lists, with the model loaded once; no batch holds answers of two lists.

    Args:
        processes: that share the work; each has the model, and returns all scores.

    Raises:
        InputError: as there.
    """
    tokenizer = tokenizer or load_tokenizer(model_folder)
    model = load_model(model_folder).to(pick_device(processes.device(device)))
    return score_lists(model, tokenizer, lists, batch_size, processes)


def score_lists(
    model: Any,
    tokenizer: Any,
    lists: Sequence[Sequence[tuple[Sequence[Message], str]]],
    batch_size: int = 32,
    processes: Processes = ALONE,
) -> list[list[AnswerLogprob]]:
    """As `score_answer_lists`, under a model that is loaded."""
    sequences = [[Tokens.of(*answer_ids(tokenizer, messages, answer)) for messages, answer in pairs] for pairs in lists]
    return [score_sequences(model, part, batch_size, processes) for part in sequences]
