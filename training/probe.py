"""What a training would take, found without it: parameters by the model's shape, and speed by a few real steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from seft_bench.checkpoints import base_of, is_adapter
from seft_bench.checkpoints.classifiers import HEAD, as_reward_model

from .adapters import lay_over, open_start
from .checkpoint import load_config
from .data import Example, planned_steps
from .distributed import ALONE
from .packing import check_apart
from .precision import prepare_model
from .run import Run
from .settings import LoraSettings, TrainJob, TrainSettings
from .sharding import placed

PROBE_STEPS = 3
"""Steps of a probe; the first one, which also prepares, is not timed."""

PROBE_SECONDS = 60.0
"""A probe takes no further step after this."""


@dataclass(frozen=True)
class Parameters:
    """Numbers of a model's parameters; a tied one counts once.

    Attributes:
        total: of the model, an adapter not among them.
        trained: that get gradients: all, or those of the adapter.
    """

    total: int
    trained: int


def shape_of(folder: Path, is_of_rewards: bool = False) -> Any:
    """Build the model of a checkpoint's config.json without any weights; of an adapter, its base's.

    Args:
        is_of_rewards: a reward model is trained on its weights.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(load_config(base_of(folder) if is_adapter(folder) else folder))
    return as_reward_model(model) if is_of_rewards else model


def check_shape(folder: Path, settings: TrainSettings) -> None:
    """Apply the settings of attention, checkpointing and LoRA to a model without weights.

    Raises:
        InputError: the model or this environment cannot do what is asked for.
    """
    lora = settings.lora if settings.lora and settings.lora.target_modules != "all-linear" else None
    if lora is None and settings.attention == "auto" and not settings.gradient_checkpointing:
        return
    model = prepare_model(shape_of(folder), settings)
    if lora:
        with torch.device("meta"):
            lay_over(model, lora, str(folder))


def count_parameters(model: Any, lora: LoraSettings | None) -> Parameters:
    """Count a model's parameters, and those that are trained; the model may have no weights."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return Parameters(total, total if lora is None else _adapter_parameters(model, lora))


def _adapter_parameters(model: Any, lora: LoraSettings) -> int:
    """Count those of LoRA: rank x (inputs + outputs) of each linear layer that it is laid over."""
    head = getattr(model, HEAD, None)  # which is trained beside the adapter
    ends = (model.get_input_embeddings(), model.get_output_embeddings(), head)
    names = lora.target_modules
    layers = [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
        and not any(layer is end for end in ends)
        and (names == "all-linear" or any(name == wanted or name.endswith(f".{wanted}") for wanted in names))
    ]
    beside: int = sum(parameter.numel() for parameter in head.parameters()) if head else 0
    adapters: int = sum(lora.rank * (layer.in_features + layer.out_features) for layer in layers)
    return beside + adapters


def probed_tokens_per_second(folder: Path, examples: Sequence[Example], job: TrainJob, scratch: Path) -> float:
    """Take a few steps of a training, and forget them.

    Args:
        folder: the model that training starts from, or one of its shape.
        scratch: an empty folder, for what an adapter over an adapter needs.

    Raises:
        InputError: no model can be loaded.
    """
    enough = max(PROBE_STEPS, planned_steps(job, examples))
    length = {"epochs": None, "max_tokens": None, "max_steps": enough, "schedule": "constant", "warmup_steps": 0}
    settings = job.settings.model_copy(update=length)
    started = open_start(folder, replace(job, settings=settings), scratch / "merged-base")
    if settings.padding_free:
        check_apart(placed(started.model, settings, ALONE), settings)
    # What the reference says decides no step's time.
    reference = torch.zeros(len(examples), job.loss_entry.columns) if job.loss_entry.needs_reference else None
    run = Run(started.model, examples, reference, replace(job, settings=settings))
    begun = time.monotonic()
    run.take_step()
    tokens, start = run.tokens, time.monotonic()
    while run.step < PROBE_STEPS and (run.step < 2 or time.monotonic() - begun < PROBE_SECONDS):
        run.take_step()
    _wait_for(run.device)
    return (run.tokens - tokens) / (time.monotonic() - start)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
