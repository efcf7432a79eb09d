"""A forward and a backward on tensors without contents, to count the bytes that are alive at every moment.

torch's "meta" device runs all the code of a real micro-batch (the model's own layers, adapters, checkpointing, the
projection by chunks) on shapes alone, in a second or two for 7B parameters. What is counted is what torch asks its
allocator for; what happens inside of one kernel is not seen.
"""

from __future__ import annotations

import copy
import weakref
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from seft_bench.checkpoints.classifiers import HEAD, as_reward_model

from .adapters import lay_over
from .packing import needs_mask
from .precision import prepare_model, weights_dtype
from .projection import plain_model, token_logprobs
from .settings import TrainSettings

ATTENTION = "counted"
"""Name under which transformers finds our stand-in for fused attention."""


@dataclass(frozen=True)
class Rehearsed:
    """Bytes of one micro-batch.

    Attributes:
        weights: of the model, an adapter's among them.
        gradients: of all that is trained.
        highest: the most that is alive at a time beyond the weights, gradients among it.
        activations: the most that is alive at a time of everything but weights and gradients.
        largest: elements of the largest trained parameter.
    """

    weights: int
    gradients: int
    highest: int
    activations: int
    largest: int


def rehearse(
    config: Any,
    settings: TrainSettings,
    ids_shape: tuple[int, int],
    labelled: int,
    most_logits: int,
    is_of_rewards: bool = False,
) -> Rehearsed:
    """Run one micro-batch on tensors without contents.

    Where a step has several, it is a later one: the gradients of those before are there from the start.

    Args:
        ids_shape: [sequences, tokens]
        labelled: tokens that are learnt, of all sequences together.
        most_logits: that exist at a time.
        is_of_rewards: the model gives one number a sequence.
    """
    model = _model(config, settings, is_of_rewards)
    alive = _Alive()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for tensor in [*model.parameters(), *model.buffers()]:
        alive.exclude(tensor)
    for parameter in trained:
        parameter.register_post_accumulate_grad_hook(alive.take_gradient)
        if settings.global_batch_size > settings.micro_batch_size:
            parameter.grad = torch.empty_like(parameter)
            alive.take_gradient(parameter)
    _run(model, alive, settings, ids_shape, labelled, most_logits)
    weights, gradients = (sum(each.nbytes for each in tensors) for tensors in (list(model.parameters()), trained))
    return Rehearsed(
        weights, gradients, alive.highest, alive.activations, max(parameter.numel() for parameter in trained)
    )


def _model(config: Any, settings: TrainSettings, is_of_rewards: bool) -> Any:
    """Build the model as training makes it ready, without contents."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=weights_dtype(settings))
        model = as_reward_model(model) if is_of_rewards else model
        prepare_model(model, settings.model_copy(update={"attention": "auto"}))
        _count_attention(model)
        return (model if settings.lora is None else lay_over(model, settings.lora, "")).train()


def _run(
    model: Any, alive: _Alive, settings: TrainSettings, ids_shape: tuple[int, int], labelled: int, most_logits: int
) -> None:
    half = _Half(model) if settings.precision == "mixed" else None
    with torch.device("meta"), alive, _Labelled(labelled):
        inputs = _inputs(settings, *ids_shape)
        if hasattr(plain_model(model), HEAD):
            figures = model(**inputs, use_cache=False).logits
        else:
            predicting = torch.ones(inputs["input_ids"].shape, dtype=torch.bool)
            targets = torch.zeros(labelled, dtype=torch.int64)
            figures = token_logprobs(model, inputs, predicting, targets, most_logits)
        if half:
            half.forget()
        # Not `Tensor.backward`: the modes here would take it for one function, and see nothing of what runs inside.
        torch.autograd.backward(figures.sum())


def _inputs(settings: TrainSettings, sequences: int, tokens: int) -> dict[str, Tensor]:
    """Make what a forward is given; of the last token of a sequence nothing is computed."""
    if not settings.padding_free:
        return {"input_ids": torch.zeros(sequences, tokens - 1, dtype=torch.int64)}
    row = sequences * (tokens - 1)
    given = {name: torch.zeros(1, row, dtype=torch.int64) for name in ("input_ids", "position_ids")}
    if needs_mask(settings.attention):
        given["attention_mask"] = torch.zeros(1, 1, row, row, dtype=torch.bool)
    return given


class _Alive(TorchDispatchMode):  # type: ignore[misc]
    """Follows every tensor's memory from the operation that makes it until nothing holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.watchers: dict[int, weakref.ref[Any]] = {}
        self.gradients: set[int] = set()
        self.now = self.now_gradients = self.highest = self.activations = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor):
                self._add(tensor, tensor.untyped_storage().nbytes())
        return made

    def exclude(self, tensor: Tensor) -> None:
        """Count a tensor as nothing: it was there before."""
        self._add(tensor, 0)

    def take_gradient(self, parameter: Tensor) -> None:
        """Tell apart what is a parameter's gradient now."""
        assert parameter.grad is not None
        self._add(parameter.grad, parameter.grad.nbytes)
        key = parameter.grad.untyped_storage()._cdata
        if key not in self.gradients:
            self.gradients.add(key)
            self.now_gradients += self.sizes[key]

    def _add(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.sizes:
            return
        self.sizes[key] = size
        self.watchers[key] = weakref.ref(storage, lambda _: self._remove(key))
        self.now += size
        self.highest = max(self.highest, self.now)
        self.activations = max(self.activations, self.now - self.now_gradients)

    def _remove(self, key: int) -> None:
        size = self.sizes.pop(key)
        del self.watchers[key]
        self.now -= size
        if key in self.gradients:
            self.gradients.remove(key)
            self.now_gradients -= size


class _Labelled(TorchFunctionMode):  # type: ignore[misc]
    """Takes so many positions where a mask would choose them, since no one can count in a mask without contents."""

    def __init__(self, labelled: int) -> None:
        super().__init__()
        self.labelled = labelled

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.__getitem__ and isinstance(args[1], Tensor) and args[1].dtype == torch.bool:
            return args[0].flatten(0, 1)[torch.empty(self.labelled, dtype=torch.int64)]
        return function(*args, **(kwargs or {}))


class _Half:
    """Autocast, which torch does not offer on "meta": linear layers in bfloat16, their weights' copies kept meanwhile.

    It is put into the layers themselves, because layers that checkpointing runs again see no mode of torch's.
    """

    def __init__(self, model: Any) -> None:
        self.copies: dict[int, Tensor] = {}
        self.is_forward = True
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.forward = partial(self._linear, module)

    def forget(self) -> None:
        """Let go of the weights' copies, as autocast does after the forward; layers that run again make their own."""
        self.copies.clear()
        self.is_forward = False

    def _linear(self, layer: torch.nn.Linear, inputs: Tensor) -> Tensor:
        weight = self.copies.get(id(layer.weight))
        weight = layer.weight.bfloat16() if weight is None else weight
        if self.is_forward:
            self.copies[id(layer.weight)] = weight
        return F.linear(inputs.bfloat16(), weight, None if layer.bias is None else layer.bias.bfloat16())


class _Attention(torch.autograd.Function):  # type: ignore[misc]
    """Keeps for its gradient what fused attention does: queries, output, and keys and values of every head.

    A mask is kept as what is added to the scores, in their number format.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        output = torch.empty_like(query.transpose(1, 2).contiguous())
        masks = [] if mask is None else [mask.to(query.dtype)]
        ctx.save_for_backward(query, torch.empty_like(query), torch.empty_like(query), output, *masks)
        ctx.heads = key.shape[1]
        return output

    @staticmethod
    def backward(ctx: Any, _gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, keys, values, *_ = ctx.saved_tensors
        of_query, of_keys, of_values = (torch.empty_like(each) for each in (query, keys, values))
        # Heads that share keys and values add their gradients up.
        return of_query, *(each.unflatten(1, (ctx.heads, -1)).sum(dim=2) for each in (of_keys, of_values)), None


def _count_attention(model: Any) -> None:
    from transformers import AttentionInterface

    def attention(
        _module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *_: Any, **__: Any
    ) -> tuple[Tensor, None]:
        # Under autocast, positions turn queries and keys in float32, and the kernel gets them in bfloat16.
        output: Tensor = _Attention.apply(query.to(value.dtype), key.to(value.dtype), value, mask)
        return output, None

    AttentionInterface.register(ATTENTION, attention)
    model.set_attn_implementation(ATTENTION)
