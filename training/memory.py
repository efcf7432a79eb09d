"""Memory of a training step, from the model's shape alone: weights, gradients, optimizer, activations.

The step's own code is run on tensors without contents (`rehearsal`), so activations are what is really alive:
checkpointing, adapters, the number formats of norms and logits, and logits by chunks are not modelled but followed.
Attention counts as its fused kernels do, which keep no square of the length. Left out: what the allocator wastes, what
kernels take inside, and the few hundred MB of the GPU's own context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seft_bench.checkpoints.classifiers import HEAD

from .bfloat16 import SLICE_ELEMENTS
from .projection import MOST_LOGITS
from .rehearsal import rehearse
from .settings import TrainSettings

BYTES_OF = {"float32": 4, "mixed": 4, "bfloat16": 2}
"""Precision -> bytes of a weight and of its gradient."""

OPTIMIZER_BYTES = {"float32": 8, "mixed": 8, "bfloat16": 6}
"""Precision -> bytes of AdamW's state of a weight: two moments, and in bfloat16 the lower half of the weight."""

SPLIT_UPDATE_BYTES = 28
"""Of an element of `SplitAdamW`'s slice while it is updated: gradient, both moments, scale and weight in float32, and
the bits of weight and its upper half as 32-bit integers."""

NORM_BYTES = {"cpu": 4, "cuda": 0}
"""Of an element while the norm of a bfloat16 gradient is taken: the CPU's kernel makes a float32 copy first."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a training step.

    Attributes:
        activations: the most that is alive at a time beside the other three: what a forward keeps for its gradient, a
            layer or a chunk of logits at work, or the optimizer's own copies.
        together: the most of gradients and activations at a time. Activations go while gradients come, so it is less
            than both, unless a step has several micro-batches.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    together: int

    @property
    def peak(self) -> int:
        return self.weights + self.optimizer + self.together

    def shared_by(self, processes: int, layers: int) -> Memory:
        """Return one process's memory where a model is sharded: its part of it, and two layers that are gathered."""
        held = (self.weights, self.gradients, self.optimizer)
        weights, gradients, optimizer = (-(-size // processes) for size in held)
        activations = self.activations + 2 * self.weights // layers
        return Memory(weights, gradients, optimizer, activations, gradients + activations)


def estimate_memory(
    model: Any, settings: TrainSettings, sequences: int, tokens: int, labelled: int | None = None
) -> Memory:
    """Estimate the memory that one process needs, without sharding.

    Args:
        model: of the training's shape; it needs no weights (`probe.shape_of`).
        sequences: of one forward; both answers of a pair count.
        tokens: of the longest one.
        labelled: tokens that are learnt, of one sequence at most; None is all but the first.
    """
    device = "cpu" if settings.device == "cpu" else "cuda"
    learnt = sequences * min(labelled or tokens, tokens - 1)
    shape = (sequences, tokens)
    found = rehearse(model.config, settings, shape, learnt, MOST_LOGITS[device], hasattr(model, HEAD))
    is_split = settings.precision == "bfloat16" and settings.lora is None
    of_trained = "bfloat16" if is_split else "float32"
    optimizer = found.gradients // BYTES_OF[of_trained] * OPTIMIZER_BYTES[of_trained]
    update = _update_bytes(found.largest, device) if is_split else 0
    together = max(found.highest, found.gradients + update)
    return Memory(found.weights, found.gradients, optimizer, max(found.activations, update), together)


def _update_bytes(largest: int, device: str) -> int:
    """Bytes of the step itself: the norm of the largest gradient, then `SplitAdamW`'s slices; torch's needs none."""
    return max(NORM_BYTES[device] * largest, SPLIT_UPDATE_BYTES * min(largest, SLICE_ELEMENTS[device]))


def bytes_a_parameter(precision: str) -> int:
    """Bytes that a trained parameter takes, with its gradient and the optimizer's state.

    >>> [bytes_a_parameter(precision) for precision in ("float32", "mixed", "bfloat16")]
    [16, 16, 10]
    """
    return 2 * BYTES_OF[precision] + OPTIMIZER_BYTES[precision]
