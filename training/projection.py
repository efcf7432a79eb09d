"""The output projection and its softmax, for labelled positions only and a bounded number of logits at a time.

The projection is most of a small model's work; prompts and padding need none of it. For a large vocabulary, logits are
most of the memory of a step, too: of 4,096 tokens x 150,000 they take 2.5 GB in float32, several times over. So few are
made at a time, forgotten, and made again for the gradient. Whatever a model does to its logits after the projection
(soft capping, scaling) is kept, because its own forward does it, over stored hidden states where need be.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

MOST_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 27}
"""Logits that exist at a time, by device; up to so many, all are projected at once, and once only."""


def token_logprobs(
    model: Any, inputs: Mapping[str, Any], predicting: Tensor, targets: Tensor, most_logits: int | None = None
) -> Tensor:
    """Log-probabilities of tokens, in float32.

    Args:
        inputs: what the model's forward is given: "input_ids" [n, width], and what tells packed sequences apart.
        predicting: [n, width] bool, True where the next token's probability is wanted.
        targets: [number of True] the tokens there.
        most_logits: that exist at a time; None is the device's own number.

    Returns:
        [number of True], in nats.
    """
    plain = plain_model(model)
    most = most_logits or MOST_LOGITS["cpu" if targets.device.type == "cpu" else "cuda"]
    rows = max(1, most // int(plain.config.get_text_config().vocab_size))
    if len(targets) > rows and (decoded := _decode(model, plain, inputs, predicting)):
        hidden, head = decoded
        weights = [weight for weight in head.weights if weight.requires_grad]
        logprobs: Tensor = _ChunkedLogprobs.apply(head, targets, rows, hidden, *weights)
        return logprobs
    return -F.cross_entropy(_logits_at(model, inputs, predicting).float(), targets, reduction="none")


def plain_model(model: Any) -> Any:
    """Return the transformers model inside of wrappers: data parallelism, adapters."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _logits_at(model: Any, inputs: Mapping[str, Any], predicting: Tensor) -> Tensor:
    """Logits [number of True in `predicting`, vocabulary]."""
    # No attention mask: padding stands on the right, where causal attention never looks, and without a mask the
    # attention kernels take their faster causal path.
    with _projecting(plain_model(model), lambda hidden: hidden[predicting].unsqueeze(0), predicting.shape):
        logits = model(**inputs, use_cache=False).logits
    # A model that projects in a way of its own never met the hook: its logits are full.
    return logits[predicting] if logits.shape[:2] == predicting.shape else logits.squeeze(0)


def _decode(model: Any, plain: Any, inputs: Mapping[str, Any], predicting: Tensor) -> tuple[Tensor, _Head] | None:
    """Run the decoder alone: its output [number of True, hidden], and what makes logits of it.

    None where the model is not made of a decoder and a projection.
    """
    decoder, projection, outputs = plain.get_decoder(), plain.get_output_embeddings(), []
    if decoder is None or decoder is plain or projection is None:
        return None
    kept = decoder.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        # The whole model runs, as wrappers expect, but its projection is given no position.
        with _projecting(plain, lambda hidden: hidden[:, :0], predicting.shape):
            model(**inputs, use_cache=False)
    finally:
        kept.remove()
    if not outputs or not hasattr(outputs[0], "last_hidden_state"):
        return None
    if any(hasattr(weight, "to_local") for weight in projection.parameters()):
        return (
            None  # of a sharded model the projection is kept whole from here to its gradient, or nothing is by chunks
        )
    return outputs[0].last_hidden_state[predicting], _Head(plain, decoder, type(outputs[0]))


@contextmanager
def _projecting(plain: Any, select: Callable[[Tensor], Tensor], shape: torch.Size) -> Iterator[None]:
    """Let the projection see only what `select` takes of the hidden states [*shape, hidden]."""

    def hook(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (select(inputs[0]),) if inputs[0].shape[:2] == shape else inputs

    projection = plain.get_output_embeddings()
    handle = None if projection is None else projection.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


class _Head:
    """What a model does after its decoder: hidden states [rows, hidden] -> logits [rows, vocabulary]."""

    def __init__(self, plain: Any, decoder: Any, output: Callable[..., Any]) -> None:
        self.plain, self.decoder, self.output = plain, decoder, output
        decoders = {id(weight) for weight in decoder.parameters()}
        others = [weight for weight in plain.parameters() if id(weight) not in decoders]
        # The projection's own may be the embeddings, which are the decoder's.
        self.weights = list(dict.fromkeys([*plain.get_output_embeddings().parameters(), *others]))

    def __call__(self, hidden: Tensor) -> Tensor:
        ids = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        stored = self.output(last_hidden_state=hidden.unsqueeze(0))
        self.decoder.forward = lambda *_, **__: stored
        try:
            with _without_hooks(self.plain.get_output_embeddings()):
                # Not through __call__: the model's hooks (of sharding, say) have had their turn.
                logits: Tensor = self.plain.forward(input_ids=ids, use_cache=False).logits
        finally:
            del self.decoder.forward
        return logits.squeeze(0)


HOOKS = ("_forward_pre_hooks", "_forward_hooks")


@contextmanager
def _without_hooks(module: Any) -> Iterator[None]:
    """Let a sharded module be called without its hooks: it was gathered in the forward, and is not to be sent away."""
    kept = {name: getattr(module, name) for name in HOOKS if isinstance(module, FSDPModule)}
    for name in kept:
        setattr(module, name, OrderedDict())
    try:
        yield
    finally:
        for name, hooks in kept.items():
            setattr(module, name, hooks)


class _ChunkedLogprobs(torch.autograd.Function):  # type: ignore[misc]
    """log softmax(head(hidden))[target], `rows` rows at a time, with the same again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, head: Callable[[Tensor], Tensor], targets: Tensor, rows: int, hidden: Tensor, *weights: Tensor
    ) -> Tensor:
        # "meta", where memory is only counted (training/rehearsal.py), knows no autocast.
        device = "cpu" if hidden.device.type == "meta" else hidden.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        ctx.head, ctx.rows = head, rows
        parts = [
            _logprobs_of(head(states), chosen)
            for states, chosen in zip(hidden.split(rows), targets.split(rows), strict=True)
        ]
        logprobs, normalisers = (torch.cat(list(columns)) for columns in zip(*parts, strict=True))
        ctx.save_for_backward(targets, normalisers, hidden, *weights)
        return logprobs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        targets, normalisers, hidden, *weights = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden)
        of_weights: list[Tensor | None] = [None] * len(weights)
        device, dtype, enabled = ctx.autocast
        with torch.enable_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
            for start in range(0, len(targets), ctx.rows):
                part = slice(start, start + ctx.rows)
                states = hidden[part].detach().requires_grad_()
                logits = ctx.head(states)
                of_logits = _gradient_of_logits(logits, targets[part], normalisers[part], gradient[part])
                of_states, *shares = torch.autograd.grad(logits, [states, *weights], of_logits, allow_unused=True)
                of_hidden[part] = of_states
                of_weights = [_sum(total, share) for total, share in zip(of_weights, shares, strict=True)]
        return (None, None, None, of_hidden, *of_weights)


def _sum(total: Tensor | None, share: Tensor | None) -> Tensor | None:
    return share if total is None else total if share is None else total.add_(share)


def _logprobs_of(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(log-probabilities of the targets, log of the softmax's normaliser), each [rows], with one float32 copy."""
    logits = logits.to(torch.float32, copy=True)
    chosen = logits.gather(1, targets[:, None]).squeeze(1)
    highest = logits.amax(dim=1)
    normalisers = logits.sub_(highest[:, None]).exp_().sum(dim=1).log_().add_(highest)
    return chosen - normalisers, normalisers


@torch.no_grad()  # type: ignore[untyped-decorator]
def _gradient_of_logits(logits: Tensor, targets: Tensor, normalisers: Tensor, gradient: Tensor) -> Tensor:
    """Return g (one-hot - softmax) [rows, vocabulary], in the logits' own format."""
    softmax = logits.detach().to(torch.float32, copy=True).sub_(normalisers[:, None]).exp_()
    share = softmax.mul_(-gradient[:, None])
    share.scatter_add_(1, targets[:, None], gradient[:, None])
    return share.to(logits.dtype)
