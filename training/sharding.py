"""Models and gradients of several processes: summed over whole copies (DDP), or sharded by torch's FSDP2.

Under FSDP2 every parameter is a DTensor of which a process holds a slice of the first dimension. Files never hold
slices: what is written is gathered tensor by tensor in the first process, and what is read is read by slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from seft_bench.checkpoints import is_adapter
from seft_bench.checkpoints.adapters import is_adapted

from .checkpoint import has_weights, load_classifier, load_model, load_or_initialise, pick_device
from .distributed import Processes
from .precision import weights_dtype
from .settings import TrainJob, TrainSettings

BUCKET_BYTES = 1 << 28
"""Gradients that are summed in one exchange, as float32."""


# Whole copies: every process has the model, and gradients are summed


def sum_gradients(parameters: Iterable[Tensor], processes: Processes) -> None:
    """Add up the gradients of all processes, in float32, after the last micro-batch of a step."""
    if processes.size == 1:
        return
    for bucket in _buckets([parameter for parameter in parameters if not isinstance(parameter, DTensor)]):
        grads = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in bucket]
        flat = processes.add_up(torch.cat([grad.float().flatten() for grad in grads]))
        for parameter, grad, part in zip(bucket, grads, flat.split([grad.numel() for grad in grads]), strict=True):
            parameter.grad = grad.copy_(part.view_as(grad))


def _buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if bucket and size + 4 * parameter.numel() > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += 4 * parameter.numel()
    if bucket:
        yield bucket


# Sharded models


def is_sharded(model: Any) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def sharding_of(settings: TrainSettings, processes: Processes) -> str:
    """Say how the model is held: "none" by the one process there is, else as the settings say."""
    return "none" if processes.size == 1 else settings.sharding


def load_policy(folder: Path, job: TrainJob, processes: Processes) -> Any:
    """Load the model of a folder, or initialise one, as the job trains it: whole on the CPU, or sharded on the device.

    What is sharded is read in parts: transformers applies `fully_shard` to the layers and then to the whole, on meta
    tensors, and each process reads its rows of the files. A fresh model, a reward model, one with an adapter, one that
    is not sharded on the machine's own kind of device, or whose tied embeddings do not divide, is made whole first.
    """
    dtype = weights_dtype(job.settings)
    if sharding_of(job.settings, processes) != "fsdp":
        return load_start(folder, job, dtype)
    device = pick_device(processes.device(job.settings.device))
    in_files = has_weights(folder) and not is_adapter(folder) and not job.loss_entry.is_of_rewards
    if in_files and (device.type == "cuda" or not torch.cuda.is_available()):
        model = _load_parts(folder, dtype, processes)
        if not _splits_ties(model, processes):
            return summing(model)
    return shard(load_start(folder, job, dtype), device)


def load_start(folder: Path, job: TrainJob, dtype: torch.dtype) -> Any:
    """Load the model of a folder whole, on the CPU, or initialise one; a reward model where rewards are learnt."""
    if job.loss_entry.is_of_rewards:
        return load_classifier(folder, dtype)
    return load_or_initialise(folder, job.seed, dtype, fresh=job.fresh)


def placed(model: Any, settings: TrainSettings, processes: Processes) -> Any:
    """Put a model on its process's device; a sharded one is there, and is sharded again where a forward gathered it.

    The parameters that an optimizer is to have are the sharded ones, and a forward without gradients leaves the rest
    beside the layers whole.
    """
    if not is_sharded(model):
        return model.to(pick_device(processes.device(settings.device)))
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    return model


def spread(model: Any, settings: TrainSettings, processes: Processes) -> Any:
    """Shard a model that every process holds whole, where the settings say so."""
    if sharding_of(settings, processes) != "fsdp":
        return model
    return shard(model, pick_device(processes.device(settings.device)))


def _load_parts(folder: Path, dtype: torch.dtype, processes: Processes) -> Any:
    from transformers.distributed import DistributedConfig

    # "Mixed" here means that gradients are summed in float32; the weights are bfloat16 already.
    plan = DistributedConfig(fsdp_size=processes.size, fsdp_mixed_precision=dtype == torch.bfloat16)
    model = load_model(folder, dtype, parts=plan)
    del model.config.distributed_config  # from here on it is ours: saving gathers nothing by itself
    return model


def _splits_ties(model: Any, processes: Processes) -> bool:
    """Return whether transformers' loading would break tied embeddings apart, without a word.

    It ties them after sharding, so FSDP2 handles them twice, and where rows do not divide, pads a copy for each.
    """
    tokens, projection = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = projection is not None and projection.weight is tokens.weight
    return bool(is_tied and tokens.weight.shape[0] % processes.size)


def shard(model: Any, device: torch.device) -> Any:
    """Shard a model that every process holds: each layer, then the rest."""
    mesh = dist.init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    layers = set(getattr(model, "_no_split_modules", None) or ())
    for module in [module for module in model.modules() if type(module).__name__ in layers]:
        fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return summing(model)


def summing(model: Any) -> Any:
    """Let gradients be summed, not averaged: losses are shares of the global batch's.

    The sum alone is asked for, because gloo knows no other reduction.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that all processes hold: a sharded one is gathered, so all of them must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], processes: Processes) -> Iterator[tuple[str, Tensor]]:
    """Gather named tensors one after the other; the first process gets them, on the CPU, the others take part.

    One that has several names, as tied weights have, is gathered once.
    """
    seen: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor) and id(tensor) not in seen:
            full = whole(tensor.detach())
            seen[id(tensor)] = full.cpu() if processes.is_main else full.new_empty(0)
        if processes.is_main:
            yield name, seen.get(id(tensor), tensor)


def gathered_weights(model: Any, processes: Processes) -> dict[str, Tensor] | None:
    """Return a sharded model's whole state dict, in the first process; None for a model that is not sharded.

    Of a model with an adapter over it, only what is trained.
    """
    if not is_sharded(model):
        return None
    tensors = model.state_dict(keep_vars=True)
    kept = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad or not is_adapted(model)}
    return dict(gathered(kept, processes))


def fill(tensor: Tensor, full: Tensor) -> None:
    """Fill a tensor from a whole one, of a sharded one this process's part alone."""
    if not isinstance(tensor, DTensor):
        tensor.copy_(full)
        return
    if list(tensor.placements) != [Shard(0)]:
        raise TypeError(f"sharded otherwise than by rows: {tensor.placements}")
    local = tensor.to_local()
    per_process = -(-tensor.shape[0] // tensor.device_mesh.size())
    start = min(tensor.shape[0], per_process * tensor.device_mesh.get_local_rank())
    local.copy_(full[start : start + local.shape[0]])


def like(parameter: Tensor, full: Tensor) -> Tensor:
    """Return what is kept beside a parameter, sharded as that is where it has its shape, on its device."""
    if not isinstance(parameter, DTensor) or full.shape != parameter.shape:
        return full.to(parameter.device, copy=True)  # what was read may still be the file itself
    tensor = torch.empty_like(parameter, dtype=full.dtype, requires_grad=False)
    fill(tensor, full)
    return tensor


def held(model: Any) -> int:
    """Count the parameters that this process holds."""
    return sum(
        (parameter.to_local() if isinstance(parameter, DTensor) else parameter).numel()
        for parameter in model.parameters()
    )
