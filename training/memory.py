"""Memory of a training step, from the model's shape alone: weights, gradients, optimizer, activations.

The first three are counted. What a forward keeps for its gradient is counted too, by running the model's own code on
tensors without contents (torch's "meta" device); attention counts as its fused kernels do, which keep no square of the
length. Left out: what the allocator wastes, and the few hundred MB of the GPU's own context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .projection import MOST_LOGITS
from .settings import TrainSettings

BYTES_OF = {"float32": 4, "mixed": 4, "bfloat16": 2}
"""Precision -> bytes of a weight and of its gradient."""

OPTIMIZER_BYTES = {"float32": 8, "mixed": 8, "bfloat16": 6}
"""Precision -> bytes of AdamW's state of a weight: two moments, and in bfloat16 the lower half of the weight."""

AUTOCAST_BYTES = {"float32": 0, "mixed": 2, "bfloat16": 0}
"""Precision -> bytes of the copy of a weight that autocast keeps from forward to backward."""

LOGIT_BYTES = 16
"""Of one logit: itself, in float32, its log-softmax, and the gradient of that."""

ATTENTION = "counted"
"""Name under which transformers finds our stand-in for fused attention."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a training step; activations are what the forward of one micro-batch keeps, logits among them."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def peak(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations

    def shared_by(self, processes: int, layers: int) -> Memory:
        """Return one process's memory where a model is sharded: its part of it, and two layers that are gathered."""
        held = (self.weights, self.gradients, self.optimizer)
        weights, gradients, optimizer = (-(-size // processes) for size in held)
        return Memory(weights, gradients, optimizer, self.activations + 2 * self.weights // layers)


def estimate_memory(model: Any, trained: int, settings: TrainSettings, sequences: int, tokens: int) -> Memory:
    """Estimate the memory that one process needs, without sharding.

    Args:
        model: of the training's shape; it needs no weights (`probe.shape_of`).
        trained: parameters that get gradients; an adapter's are not among the model's.
        sequences: of one forward; both answers of a pair count.
        tokens: of the longest one.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = BYTES_OF[settings.precision]
    adapter = trained if settings.lora else 0
    weights = parameters * (size + AUTOCAST_BYTES[settings.precision]) + 4 * adapter
    of_trained = 4 if settings.lora else size
    optimizer = trained * (8 if settings.lora else OPTIMIZER_BYTES[settings.precision])
    activations = _activations(model, settings, sequences, tokens) + _logits(model, sequences * tokens)
    # A gradient is there twice while it is added to that of the micro-batches before.
    activations += size * max(parameter.numel() for parameter in model.parameters())
    return Memory(weights, of_trained * trained, optimizer, activations)


def bytes_a_parameter(precision: str) -> int:
    """Bytes that a trained parameter takes, with its gradient and the optimizer's state.

    >>> [bytes_a_parameter(precision) for precision in ("float32", "mixed", "bfloat16")]
    [16, 18, 10]
    """
    return 2 * BYTES_OF[precision] + AUTOCAST_BYTES[precision] + OPTIMIZER_BYTES[precision]


def _logits(model: Any, tokens: int) -> int:
    return LOGIT_BYTES * min(tokens * int(model.config.get_text_config().vocab_size), MOST_LOGITS["cuda"])


def _activations(model: Any, settings: TrainSettings, sequences: int, tokens: int) -> int:
    """Count what the layers keep; with checkpointing the inputs of all, and what one of them keeps."""
    config = model.config.get_text_config()
    size = 4 if settings.precision == "float32" else 2
    kept = _kept_by_forward(model, sequences, tokens) * size // 4
    if not settings.gradient_checkpointing:
        return kept
    layers = int(config.num_hidden_layers)
    return layers * sequences * tokens * int(config.hidden_size) * size + kept // layers


def _kept_by_forward(model: Any, sequences: int, tokens: int) -> int:
    """Run the decoder on contentless tensors, in float32; return the bytes that it keeps for the gradient."""
    seen: dict[int, int] = {}
    alive: list[Tensor] = []
    own = {id(parameter) for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        base = tensor._base if tensor._base is not None else tensor
        if id(tensor) not in own and id(base) not in own and tensor.is_floating_point():
            alive.append(base)  # ids are of living tensors
            seen[id(base)] = max(seen.get(id(base), 0), base.numel() * base.element_size())
        return tensor

    _count_attention(model)
    ids = torch.zeros(sequences, tokens, dtype=torch.int64, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.get_decoder()(input_ids=ids, use_cache=False)
    return sum(seen.values())


class _Attention(torch.autograd.Function):  # type: ignore[misc]
    """Keeps for its gradient what fused attention does: queries, output, and keys and values of every head."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query.transpose(1, 2).contiguous())
        ctx.save_for_backward(query, torch.empty_like(query), torch.empty_like(query), output)
        return output


def _count_attention(model: Any) -> None:
    from transformers import AttentionInterface

    def attention(_module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        output: Tensor = _Attention.apply(query, key, value)
        return output, None

    AttentionInterface.register(ATTENTION, attention)
    model.set_attn_implementation(ATTENTION)
