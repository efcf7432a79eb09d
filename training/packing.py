"""Padding-free batches: sequences one behind the other in a single row, which attention has to keep apart.

Positions start again with each sequence. Flash attention is told where sequences begin, and flex attention computes no
block between two of them; the other kernels get a mask of the row's length squared. A model that keeps a state, or that
does not look at positions, would let each sequence see those before it: such a one is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seft_bench.errors import InputError

from .precision import autocast
from .projection import plain_model, token_logprobs
from .settings import TrainSettings
from .tokens import Tokens

PROBED = (23, 17)
"""Tokens of the two sequences that are tried: unequal, so that a wrong boundary shows."""

ROUNDING_NATS = {"float32": 1e-4, "mixed": 0.05, "bfloat16": 0.05}
"""Precision -> mean difference of a token's log-probability that a row of another length may bring."""

SEEN_SHARE = 0.1
"""Of what a sequence before it does to a token's log-probability: above it the sequence is seen. Large models'
log-probabilities of senseless tokens round by more than `ROUNDING_NATS`, and are moved by whole nats."""


TENSORS = ("ids", "positions", "predicting", "targets", "bounds")


class Packed(NamedTuple):
    """Sequences in one row. The last token of each is only a target, so no position predicts across a boundary.

    Attributes:
        ids, positions: [1, tokens] int64
        predicting: [1, tokens] bool, True where the next token is learnt.
        targets: [number of True] the tokens learnt.
        bounds: [sequences + 1] int32, where each sequence begins, and the row's end.
        longest: positions of the longest sequence.
        labelled: learnt tokens of each sequence.
    """

    ids: Tensor
    positions: Tensor
    predicting: Tensor
    targets: Tensor
    bounds: Tensor
    longest: int
    labelled: list[int]

    def to(self, device: torch.device) -> Packed:
        moved = {name: each.to(device, non_blocking=True) for name, each in self._asdict().items() if name in TENSORS}
        return self._replace(**moved)

    def inputs(self, model: Any) -> dict[str, Any]:
        """Return what the model's forward is given; for flash attention as DataCollatorWithFlattening does."""
        given: dict[str, Any] = {"input_ids": self.ids, "position_ids": self.positions}
        if is_flash(plain_model(model).config._attn_implementation):
            given |= {f"cu_seq_lens_{side}": self.bounds for side in "qk"}
            given |= {f"max_length_{side}": self.longest for side in "qk"}
        return given


def is_flash(attention: str | None) -> bool:
    return str(attention).startswith("flash_attention")


def needs_mask(attention: str) -> bool:
    """Return whether a kernel is told of packed sequences by a mask of tokens x tokens."""
    return not is_flash(attention) and attention != "flex_attention"


def pack(sequences: Iterable[Tokens]) -> Packed:
    """Put sequences into one row, in their order."""
    rows = list(sequences)
    lengths = [len(row.ids) - 1 for row in rows]
    ids = [torch.frombuffer(row.ids, dtype=torch.int32).long() for row in rows]
    learnt = [_learnt(row) for row in rows]
    return Packed(
        ids=torch.cat([each[:-1] for each in ids])[None],
        positions=torch.cat([torch.arange(length) for length in lengths])[None],
        predicting=torch.cat(learnt)[None],
        targets=torch.cat([each[1:][chosen] for each, chosen in zip(ids, learnt, strict=True)]),
        bounds=torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),
        longest=max(lengths),
        labelled=[row.labelled for row in rows],
    )


def _learnt(row: Tokens) -> Tensor:
    """[tokens - 1] bool, True where the next token is learnt."""
    learnt = torch.zeros(len(row.ids) - 1, dtype=torch.bool)
    for first, end in row.learnt:
        learnt[first - 1 : end - 1] = True
    return learnt


def packed_logprobs(model: Any, packed: Packed, firsts: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Summed log p over the labelled positions of each sequence of a row.

    Args:
        firsts: [n] numbers of labelled tokens whose sums are wanted, too.

    Returns:
        ([n] float32 sums in nats, [n] int64 numbers of labelled tokens); the sums over the first tokens come behind
        the others.
    """
    logprobs = token_logprobs(model, packed.inputs(model), packed.predicting, packed.targets)
    parts = logprobs.split(packed.labelled)
    early = [part[:first] for part, first in zip(parts, firsts, strict=bool(firsts))]
    sums = torch.stack([part.sum() for part in [*parts, *early]])
    return sums, torch.tensor(packed.labelled, device=sums.device)


# Models that cannot


def check_stateless(config: Any) -> None:
    """Refuse a model that carries a state from token to token, by its configuration alone.

    Raises:
        InputError: it is recurrent, or partly so.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    kinds = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), ())
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if getattr(kind, "_is_stateful", False):
            raise _refusal(kind.__name__, "it carries a state from token to token, which goes on into the next one")


def check_apart(model: Any, settings: TrainSettings) -> None:
    """Try two sequences in one row, each alone, and as one text; refuse a model by which the second sees the first.

    Args:
        model: made ready to train; it is tried where it is.

    Raises:
        InputError: it keeps a state, takes no positions, or gives the second sequence other log-probabilities.
    """
    plain, device = plain_model(model), next(model.parameters()).device
    check_stateless(plain.config)
    first, second = _probes(int(plain.config.get_text_config().vocab_size))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast(settings, device):
            together, as_one = (_of_last(model, row, device) for row in ([first, second], [_joined(first, second)]))
            alone = _of_last(model, [second], device)
    except TypeError as error:
        raise _refusal(type(plain).__name__, f"its forward takes no such row ({error})") from None
    finally:
        model.train(was_training)
    wrong, seen = ((each - alone).abs().mean().item() for each in (together, as_one))
    if not wrong <= max(ROUNDING_NATS[settings.precision], SEEN_SHARE * seen):
        raise _refusal(
            type(plain).__name__,
            f"behind another sequence the log-probabilities of a sequence are {wrong:.2g} nats a token off, and "
            f"{seen:.2g} where that is a part of its text",
        )


def _probes(vocabulary: int) -> list[Tokens]:
    """Senseless sequences, all of which but the first token is learnt."""
    every = [(7919 * number + 13) % vocabulary for number in range(sum(PROBED))]
    return [Tokens.of([], every[: PROBED[0]]), Tokens.of([], every[PROBED[0] :])]


def _joined(first: Tokens, second: Tokens) -> Tokens:
    return Tokens.of([], [*first.ids, *second.ids])


def _of_last(model: Any, sequences: Sequence[Tokens], device: torch.device) -> Tensor:
    """Log-probabilities of the last tokens of a row, as many as the second sequence has labels."""
    row = pack(sequences).to(device)
    return token_logprobs(model, row.inputs(model), row.predicting, row.targets)[1 - PROBED[1] :]


def _refusal(model: str, reason: str) -> InputError:
    return InputError(
        f"padding_free: {model} does not keep the sequences of a row apart: {reason}. Train with `padding_free: false`."
    )
