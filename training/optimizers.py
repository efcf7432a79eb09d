"""Optimizers: built from the settings, and their state as named tensors, whatever an optimizer keeps.

Everything here works on a mapping from names to parameters, so that a model may be wrapped or sharded before.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from seft_bench.errors import InputError

from .bfloat16 import SplitAdamW
from .settings import TrainSettings
from .sharding import like, whole

PREFIX = "optimizer"


def build_optimizer(parameters: Mapping[str, Tensor], settings: TrainSettings) -> torch.optim.Optimizer:
    """Build the optimizer of the settings; weight decay is of matrices only, never of norms and biases."""
    matrices = [parameter for parameter in parameters.values() if parameter.dim() >= 2]
    vectors = [parameter for parameter in parameters.values() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw_8bit":
        return _eight_bit(groups, settings)
    if any(parameter.dtype == torch.bfloat16 for parameter in parameters.values()):
        return SplitAdamW(groups, settings.learning_rate, settings.adam_betas)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.adam_betas, fused=True)


def check_optimizer(settings: TrainSettings) -> None:
    """Refuse an optimizer whose library is not installed.

    Raises:
        InputError: naming it.
    """
    if settings.optimizer == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise _no_bitsandbytes()


def _no_bitsandbytes() -> InputError:
    return InputError(
        "optimizer: adamw_8bit needs bitsandbytes: pip install 'seft-bench[bitsandbytes]', or give optimizer: adamw"
    )


def _eight_bit(groups: list[dict[str, Any]], settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW whose moments are quantised by blocks of 256 (Dettmers et al. 2022, arXiv 2110.02861).

    Moments of parameters below 4,096 elements stay in float32, as the library has it.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise _no_bitsandbytes() from None
    return AdamW8bit(groups, lr=settings.learning_rate, betas=settings.adam_betas)


def clip_gradients(parameters: Mapping[str, Tensor], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `max_norm`; return the norm before, in float32."""
    gradients = [parameter.grad for parameter in parameters.values() if parameter.grad is not None]
    if all(gradient.dtype == torch.float32 for gradient in gradients):
        return whole(torch.nn.utils.clip_grad_norm_(parameters.values(), max_norm))
    norms = [whole(torch.linalg.vector_norm(gradient, dtype=torch.float32)) for gradient in gradients]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    torch.nn.utils.clip_grads_with_norm_(parameters.values(), max_norm, norm)
    return norm


def update(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Take one step with this learning rate, and forget the gradients."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the optimizer's state: "optimizer/KEY/PARAMETER" by its own keys; plain counts become scalar tensors."""
    return {
        f"{PREFIX}/{key}/{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Put the state that `optimizer_tensors` named back; state of any other name is another version's.

    Raises:
        InputError: the tensors hold no state of this optimizer.
    """
    states: dict[str, dict[str, Tensor | int]] = {}
    for full_name, tensor in tensors.items():
        prefix, _, rest = full_name.partition("/")
        if prefix == PREFIX:
            key, _, name = rest.partition("/")
            states.setdefault(name, {})[key] = _restored(tensor)
    if not states.keys() & parameters.keys():
        raise InputError("the training state was written by another version: remove the run's folder `state`")
    for name, parameter in parameters.items():
        if name in states:
            optimizer.state[parameter] = {
                key: like(parameter, value) if isinstance(value, Tensor) else value
                for key, value in states[name].items()
            }


def _restored(tensor: Tensor) -> Tensor | int:
    """A scalar int64 was a plain count; torch's own step counters are float32 tensors."""
    return int(tensor) if tensor.dim() == 0 and tensor.dtype == torch.int64 else tensor
