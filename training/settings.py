"""Settings of one training run, their checks, and the arithmetic of steps and learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from seft_bench.errors import InputError, unknown_name

from .losses import Loss, find_loss

SCHEDULES = ("cosine", "constant")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training run; wrong ones are refused when the object is made.

    Attributes:
        loss: a name in `LOSSES`.
        loss_settings: its settings, defaults where absent.
        learning_rate: of AdamW, after warmup.
        epochs, max_steps: how long; exactly one of them is given.
        global_batch_size: examples (a pair is one) between two optimizer steps.
        micro_batch_size: examples in one forward; changes memory and speed, not the result.
        warmup_ratio: share of the steps in which the learning rate rises linearly.
        schedule: "cosine" (to 0 at the end) or "constant", after warmup.
        weight_decay: of matrices only, never of norms and biases.
        max_grad_norm: the gradient's norm is cut to this.
        max_length: tokens of prompt and answer together.
        seed: of the order of examples, of a fresh initialisation, and of dropout.
        checkpoints: how many are saved, evenly spaced, the last one at the end.
        device: "auto", "cpu", "cuda", ...
        dtype: "float32", or "bfloat16" for mixed precision over float32 weights.

    Raises:
        InputError: naming every wrong setting at once.
    """

    loss: str
    learning_rate: float
    epochs: float | None = None
    max_steps: int | None = None
    loss_settings: Mapping[str, float] = field(default_factory=dict)
    global_batch_size: int = 32
    micro_batch_size: int = 32
    warmup_ratio: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0
    max_length: int = 1024
    seed: int = 0
    checkpoints: int = 1
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        find_loss(self.loss, self.loss_settings)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        wrong = [message for message in self._problems() if message]
        if wrong:
            raise InputError("training settings: " + "; ".join(wrong))

    def _problems(self) -> list[str]:
        positive = ("learning_rate", "global_batch_size", "micro_batch_size", "max_grad_norm", "checkpoints")
        problems = [
            f"{name} must be greater than 0, got {getattr(self, name)!r}"
            for name in positive
            if not getattr(self, name) > 0
        ]
        if (self.epochs is None) == (self.max_steps is None):
            problems.append(
                f"give exactly one of epochs and max_steps, got epochs={self.epochs!r} and max_steps={self.max_steps!r}"
            )
        if (self.epochs is not None and not self.epochs > 0) or (self.max_steps is not None and not self.max_steps > 0):
            problems.append("epochs and max_steps must be greater than 0")
        if not 0 <= self.warmup_ratio <= 1:
            problems.append(f"warmup_ratio must lie between 0 and 1, got {self.warmup_ratio!r}")
        if self.max_length < 2:
            problems.append(f"max_length must be at least 2 tokens, got {self.max_length!r}")
        return problems

    @property
    def loss_entry(self) -> Loss:
        return find_loss(self.loss, self.loss_settings)


def steps_in_epoch(examples: int, global_batch_size: int) -> int:
    """Optimizer steps that use each example once; the last batch may be smaller."""
    return math.ceil(examples / global_batch_size)


def total_steps(settings: TrainSettings, examples: int) -> int:
    """Optimizer steps of the run, at least 1."""
    if settings.max_steps is not None:
        return settings.max_steps
    return max(1, round((settings.epochs or 0) * steps_in_epoch(examples, settings.global_batch_size)))


def checkpoint_steps(steps: int, checkpoints: int) -> list[int]:
    """Evenly spaced steps at which a checkpoint is saved, the last step among them; fewer where there are fewer steps.

    >>> checkpoint_steps(150, 2), checkpoint_steps(2, 4)
    ([75, 150], [1, 2])
    """
    return sorted({max(1, round(steps * part / checkpoints)) for part in range(1, checkpoints + 1)})


def learning_rate_at(settings: TrainSettings, step: int, steps: int) -> float:
    """Learning rate of one step, counted from 1: linear warmup, then cosine to 0 just after the last step, or constant.

    Warmup's first step already learns (1 / warmup steps), where the usual lambda schedules waste it at 0.
    """
    warmup = math.ceil(settings.warmup_ratio * steps)
    if step <= warmup:
        return settings.learning_rate * step / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - 1 - warmup) / (steps - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
