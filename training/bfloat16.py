"""AdamW for bfloat16 weights that loses nothing: float32 weights kept in two halves, the upper one being the model's.

A bfloat16 is the upper half of a float32. The lower half, which a step at a small learning rate changes alone, lies in
the optimizer's state as an int16: together they are the float32 weight, bit for bit ("split" master weights, as in
Intel's extension for PyTorch). Both moments are bfloat16. The second one decays by a thousandth a step, less than
bfloat16 can show, so it is rounded with a threshold that runs through a low-discrepancy sequence: over steps the
rounding errors cancel, without a random generator (docs/decisions/bfloat16-training.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

SLICE_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Elements that are updated together: float32 copies of so many exist at a time, not of a whole embedding."""


class SplitAdamW(torch.optim.Optimizer):  # type: ignore[misc]
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with 10 bytes a bfloat16 weight, its gradient included.

    Parameters that are float32 keep moments in float32.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float = 1e-8
    ) -> None:
        super().__init__(list(groups), {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update every parameter that has a gradient."""
        if closure is not None:
            raise TypeError("SplitAdamW takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state |= _fresh_state(parameter)
        state["step"] += 1
        (beta1, beta2), step = group["betas"], state["step"]
        numbers = _Numbers(group["lr"], beta1, beta2, group["eps"], group["weight_decay"], step)
        size = SLICE_ELEMENTS["cpu" if parameter.device.type == "cpu" else "cuda"]
        tensors = [parameter, parameter.grad, *(state[key] for key in ("exp_avg", "exp_avg_sq", "low") if key in state)]
        for parts in zip(*(_local(tensor).view(-1).split(size) for tensor in tensors), strict=True):
            _update_slice(*parts, numbers=numbers)


class _Numbers(NamedTuple):
    """What a step does to every element alike."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    step: int


def _fresh_state(parameter: Tensor) -> dict[str, Any]:
    moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
    # The 16 bits pass for a bfloat16, because neither gloo nor NCCL sends an int16 between processes.
    low = {"low": torch.zeros_like(parameter)} if parameter.dtype == torch.bfloat16 else {}
    return {"step": 0, **moments, **low}


def _local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor, any other as it is."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def _update_slice(
    weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor, low: Tensor | None = None, *, numbers: _Numbers
) -> None:
    gradient = gradient.float()
    mean = first.float().lerp_(gradient, 1 - numbers.beta1)
    square = second.float().mul_(numbers.beta2).addcmul_(gradient, gradient, value=1 - numbers.beta2)
    first.copy_(mean)
    second.copy_(square if low is None else round_dithered(square, numbers.step))
    scale = square.div(1 - numbers.beta2**numbers.step).sqrt_().add_(numbers.eps)
    full = weight if low is None else join_halves(weight, low.view(torch.int16))
    full.mul_(1 - numbers.lr * numbers.weight_decay)
    full.addcdiv_(mean, scale, value=-numbers.lr / (1 - numbers.beta1**numbers.step))
    if low is not None:
        split_halves(full, weight, low.view(torch.int16))


def join_halves(high: Tensor, low: Tensor) -> Tensor:
    """Return the float32 tensor of which `high` (bfloat16) is the nearest bfloat16 and `low` (int16) the rest."""
    return high.view(torch.int16).to(torch.int32).bitwise_left_shift_(16).add_(low).view(torch.float32)


def split_halves(full: Tensor, high: Tensor, low: Tensor) -> None:
    """Write a float32 tensor into its halves; `join_halves` gives it back bit for bit."""
    bits = full.view(torch.int32)
    upper = (bits + 0x8000).bitwise_right_shift_(16)
    high.view(torch.int16).copy_(upper)
    low.copy_(bits - upper.bitwise_left_shift_(16))


def round_dithered(full: Tensor, step: int) -> Tensor:
    """Round float32 >= 0 to bfloat16: up where what is cut off exceeds a threshold that differs in every step."""
    threshold = int(f"{step % 65536:016b}"[::-1], 2)  # van der Corput: 0, 1/2, 1/4, 3/4, ...
    bits = full.view(torch.int32) + threshold
    return bits.bitwise_right_shift_(16).to(torch.int16).view(torch.bfloat16)
