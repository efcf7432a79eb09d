"""LoRA: where a training run starts, with an adapter over it or without, through peft."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from seft_bench.checkpoints import adapter_config as read_adapter_config
from seft_bench.checkpoints import base_of, base_place, base_record, check_adapter, is_adapter
from seft_bench.checkpoints.adapters import adapter_tensors, quiet_peft
from seft_bench.checkpoints.classifiers import HEAD, TASK
from seft_bench.checkpoints.merging import format_name, merged_model
from seft_bench.console import note
from seft_bench.errors import InputError
from seft_bench.records import Row

from .distributed import ALONE, Processes
from .precision import prepare_model, weights_dtype
from .settings import LoraSettings, TrainJob
from .sharding import load_policy, load_start, spread

ONLY_IN_PLACE = ("alpha_pattern", "rank_pattern", "use_dora", "modules_to_save")
"""Of an adapter's configuration: what none of ours has, and what changes what its tensors do."""


@dataclass(frozen=True)
class Start:
    """Where training starts.

    Attributes:
        model: all its weights are trained, or those of the adapter over it.
        facts: what checkpoint.json says of every checkpoint: an adapter's base, by its hash.
    """

    model: Any
    facts: Row = field(default_factory=dict)


def open_start(folder: Path, job: TrainJob, merged_base: Path, processes: Processes = ALONE) -> Start:
    """Load the model that training starts from, and lay an adapter over it where LoRA is asked for.

    It is on the CPU; where each process holds a part of it, on their devices.

    A start that is itself an adapter goes on being trained where the settings are its own (its dropout may differ).
    Otherwise it is merged into its base: in memory where all weights are trained, and in `merged_base` where another
    adapter is trained, whose base must stay.

    Raises:
        InputError: no model can be loaded, or LoRA does not fit it.
    """
    lora = job.settings.lora
    if lora is None:
        return Start(open_model(folder, job, processes))
    with processes.main_first():  # which merges an adapter for all
        start = _adapted_start(folder, lora, job, merged_base)
    return replace(start, model=spread(start.model, job.settings, processes))


def open_model(folder: Path, job: TrainJob, processes: Processes = ALONE) -> Any:
    """Load a folder's whole model, made ready as the job says: on the CPU, or in parts on the processes' devices."""
    return prepare_model(load_policy(folder, job, processes), job.settings)


def _adapted_start(folder: Path, lora: LoraSettings, job: TrainJob, merged_base: Path) -> Start:
    if not is_adapter(folder):
        return _adapted(folder, lora, job)
    check_adapter(folder)
    base = base_of(folder)
    start = _adapted(base, lora, job)
    if _goes_on(folder, start.model):
        return start
    # In the type that is trained in: so whoever loads the new adapter's base loads what training saw.
    merged = merged_model(folder, merged_base, format_name(weights_dtype(job.settings)))
    for line in merged.losses():
        note(line)
    return _adapted(merged.folder, lora, job)


def _adapted(base: Path, lora: LoraSettings, job: TrainJob) -> Start:
    """Lay a fresh adapter over a base, which is made ready before: the adapter's own dropout stays."""
    model = prepare_model(load_start(base, replace(job, fresh=False), weights_dtype(job.settings)), job.settings)
    return Start(attach(model, base, lora, job.seed), base_record(base))


def attach(model: Any, base: Path, lora: LoraSettings, seed: int) -> Any:
    """Lay a fresh adapter over a model, which changes nothing of what it computes; only the adapter is trained.

    Its weights follow from the seed alone, and are float32 whatever the model's are.

    Args:
        base: the folder of the model, which the adapter's checkpoints will name.

    Raises:
        InputError: the model has no such layers, or they are its embeddings or its output layer.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = lay_over(model, lora, str(base))
    ends = (adapted.get_input_embeddings(), adapted.get_output_embeddings())
    if any(hasattr(layer, "base_layer") for layer in ends):
        raise InputError("lora: embeddings and output layer cannot be target_modules; name layers between them")
    for key, value in base_place(base).items():
        setattr(adapted.peft_config["default"], key, value)
    return adapted


def lay_over(model: Any, lora: LoraSettings, name: str) -> Any:
    """Wrap a model in peft's with a fresh adapter, drawn from torch's own generator.

    Args:
        name: of the model, for the one who reads an error.

    Raises:
        InputError: the model has no such layers.
    """
    from peft import LoraConfig, get_peft_model

    is_of_rewards = hasattr(model, HEAD)
    if is_of_rewards:
        model.score.float()  # it is trained beside the adapter, in the adapter's number format
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.use_rslora,
        task_type=TASK if is_of_rewards else "CAUSAL_LM",  # with which peft trains and saves the layer of rewards, too
    )
    with quiet_peft():
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise InputError(f"lora does not fit the model {name}: {(str(error).splitlines() or ['?'])[0]}") from None


def _goes_on(adapter: Path, model: Any) -> bool:
    """Give a fresh adapter the weights of a saved one, where both are of one shape; else leave it, and return False."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    fresh, saved = model.peft_config["default"], read_adapter_config(adapter)
    here, there = get_peft_model_state_dict(model, save_embedding_layers=False), adapter_tensors(adapter)
    same = (
        {name: tensor.shape for name, tensor in here.items()} == {name: tensor.shape for name, tensor in there.items()}
        and (saved.get("lora_alpha"), bool(saved.get("use_rslora"))) == (fresh.lora_alpha, fresh.use_rslora)
        and not any(saved.get(key) for key in ONLY_IN_PLACE)
    )
    if same:
        set_peft_model_state_dict(model, there)
    return same
