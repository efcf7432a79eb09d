"""Whether a training fits a GPU's memory, and what would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from seft_bench.stages import door

if TYPE_CHECKING:
    from seft_bench.stages.door import memory, settings

GIGABYTE = 1 << 30

MARGIN_SHARE, CONTEXT_BYTES = 0.05, GIGABYTE
"""Left free beyond the estimate: for what the allocator wastes, and for the GPU's own context and kernels."""

PROCESSES = (2, 4, 8, 16, 32, 64)
"""Numbers of GPUs that a model may be sharded over."""


@dataclass(frozen=True)
class Batch:
    """One forward of a training.

    Attributes:
        sequences: both answers of a pair count.
        tokens: of the longest one.
        labelled: tokens that are learnt, of one sequence at most; None is all but the first.
    """

    sequences: int
    tokens: int
    labelled: int | None = None


def fits(found: memory.Memory, gpu_bytes: int) -> bool:
    return found.peak * (1 + MARGIN_SHARE) + CONTEXT_BYTES <= gpu_bytes


def verdict(model: Any, given: settings.TrainSettings, batch: Batch, gpu_bytes: int) -> str:
    """Say whether a training fits a GPU, or exactly which settings do."""
    size = f"{gpu_bytes / GIGABYTE:.0f} GB"
    given = given.model_copy(update={"device": "cuda"})
    found = _memory(model, given, batch)
    if fits(found, gpu_bytes):
        return f"fits {size}"
    ways = [way for way in (_on_one(model, given, batch, gpu_bytes), _sharded(model, given, batch, gpu_bytes)) if way]
    said = f"needs {found.peak / GIGABYTE:.1f} GB, more than {size}"
    return f"{said}; fits with {', or with '.join(ways)}" if ways else f"{said}, whatever the settings"


def _on_one(model: Any, given: settings.TrainSettings, batch: Batch, gpu_bytes: int) -> str:
    """Name the first changes of settings with which one GPU is enough; "" where none is."""
    for changes, smaller in _alternatives(given, batch):
        found = _memory(model, given.model_copy(update=changes), smaller)
        if fits(found, gpu_bytes):
            words = ", ".join(f"{name}: {_value(value)}" for name, value in changes.items())
            return f"{words} ({found.peak / GIGABYTE:.1f} GB)"
    return ""


def _sharded(model: Any, given: settings.TrainSettings, batch: Batch, gpu_bytes: int) -> str:
    """Name the smallest number of GPUs over which it fits as it is, but for checkpointing; "" where none does."""
    whole = _memory(model, given.model_copy(update={"gradient_checkpointing": True}), batch)
    layers = int(model.config.get_text_config().num_hidden_layers)
    for processes in PROCESSES:
        part = whole.shared_by(processes, layers)
        if fits(part, gpu_bytes):
            words = f"sharding: fsdp over {processes} GPUs, gradient_checkpointing: true"
            return f"{words} ({part.peak / GIGABYTE:.1f} GB each)"
    return ""


def _alternatives(given: settings.TrainSettings, batch: Batch) -> Iterator[tuple[dict[str, Any], Batch]]:
    """Yield changes of settings that need ever less memory, those that keep all weights trained first."""
    single = replace(batch, sequences=max(1, batch.sequences // given.micro_batch_size))
    one_by_one: dict[str, Any] = {"gradient_checkpointing": True, "micro_batch_size": 1}
    yield {"gradient_checkpointing": True}, batch
    yield one_by_one, single
    smallest = {"precision": min(offered_precisions(), key=door.memory.bytes_a_parameter)}
    yield {**smallest, "gradient_checkpointing": True}, batch
    yield {**smallest, **one_by_one}, single
    if given.lora is None:
        yield {**smallest, **one_by_one, "lora": door.settings.LoraSettings()}, single


def offered_precisions() -> tuple[str, ...]:
    """Return the precisions that training settings may name."""
    return get_args(door.settings.TrainSettings.model_fields["precision"].annotation)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{{rank: {value.rank}}}" if isinstance(value, door.settings.LoraSettings) else str(value)


def _memory(model: Any, given: settings.TrainSettings, batch: Batch) -> memory.Memory:
    return door.memory.estimate_memory(model, given, batch.sequences, batch.tokens, batch.labelled)


def present_gpu_bytes() -> int | None:
    """Return the memory of this machine's first GPU; None without one."""
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None
