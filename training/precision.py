"""A loaded model made ready to train: number format, attention kernel, dropout, gradient checkpointing.

All of it is done to the plain model, before anything wraps it (adapters, data parallelism).
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from seft_bench.errors import InputError

from .checkpoint import pick_device
from .settings import TrainSettings


def weights_dtype(settings: TrainSettings) -> torch.dtype:
    """Return the number format of weights in memory and in checkpoints."""
    return torch.bfloat16 if settings.precision == "bfloat16" else torch.float32


def autocast(settings: TrainSettings, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of every forward, the reference's too: bfloat16 over float32 weights where `mixed`."""
    context: AbstractContextManager[Any] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=settings.precision == "mixed"
    )
    return context


def prepare_model(model: Any, settings: TrainSettings) -> Any:
    """Apply the settings of attention, dropout and gradient checkpointing to a model, in place; return it.

    Raises:
        InputError: the model or this environment cannot do what is asked for.
    """
    if settings.attention != "auto":
        _set_attention(model, settings.attention)
    if settings.attention == "flex_attention" and pick_device(settings.device).type == "cpu":
        raise InputError(
            "attention: flex_attention has no gradients on the CPU: train on a GPU, or with `attention: auto`"
        )
    if not settings.dropout:
        silence_dropout(model)
    if settings.gradient_checkpointing:
        _checkpoint_gradients(model)
    return model


def _set_attention(model: Any, attention: str) -> None:
    try:
        model.set_attn_implementation(attention)
        taken = model.config._attn_implementation
    except (ImportError, ValueError, RuntimeError) as error:
        raise _no_attention(model, attention, (str(error).splitlines() or ["?"])[0]) from None
    if taken != attention:
        raise _no_attention(model, attention, f"the model keeps {taken!r}")


def _no_attention(model: Any, attention: str, reason: str) -> InputError:
    install = " pip install flash-attn (it needs an NVIDIA GPU)," if attention == "flash_attention_2" else ""
    return InputError(
        f"attention: {attention} cannot be used with {type(model).__name__} here: {reason}. Install it,{install} or "
        "train with `attention: auto`, which takes the best that is there."
    )


def silence_dropout(model: Any) -> None:
    """Set every dropout to 0 while the model's config, which checkpoints are saved with, stays as it is.

    Modules hold their rates in three ways: as a `Dropout` module, as an attribute, and in the config they were made
    from; they get a copy of that config.
    """
    silent: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        _set_rates_to_zero(module)
        config = getattr(module, "config", None)
        if config is not None and module is not model:
            module.config = silent.setdefault(id(config), _without_dropout(config))


def _without_dropout(config: Any) -> Any:
    config = copy.deepcopy(config)
    _set_rates_to_zero(config)
    return config


def _set_rates_to_zero(holder: Any) -> None:
    """Set the rates among an object's attributes to 0; jitter is the routers' dropout."""
    for name, value in list(vars(holder).items()):
        if ("drop" in name or "jitter" in name) and isinstance(value, float):
            setattr(holder, name, 0.0)


def _checkpoint_gradients(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise InputError(
            f"gradient_checkpointing: {type(model).__name__} does not support it. Train with "
            "`gradient_checkpointing: false`, and a smaller micro_batch_size where memory is short."
        )
    # transformers 5.2x renames it; the old name goes in version 6.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
