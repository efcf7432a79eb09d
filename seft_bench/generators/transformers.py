"""Answers from a Hugging Face causal LM in this process: batched, sorted by length, with a KV cache.

Sampling draws one uniform number a token from a stream of its own for every conversation (seeded by the run's seed
and the conversation's key) and inverts the cumulative distribution. So an answer depends on its own key alone, not on
which other prompts shared its batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from seft_bench.chat import check_ids, load_tokenizer, prompt_ids, stop_ids
from seft_bench.checkpoints import base_of, is_adapter
from seft_bench.checkpoints.batches import Batches
from seft_bench.checkpoints.merging import lay_over
from seft_bench.checkpoints.weights import load_whole, no_numbers, positions_of
from seft_bench.files import check_safetensors
from seft_bench.generators.conversations import Completion, ConversationGenerator, Sampling, over_length
from seft_bench.records import Message
from seft_bench.texts import utf8

if TYPE_CHECKING:
    from torch import Tensor, device
    from torch import dtype as torch_dtype
    from transformers import PreTrainedModel

FINISHED_SHARE_TO_COMPACT = 0.5
"""Finished rows leave the batch at this share of it: dropping rows copies the KV cache, so not every time."""


class TransformersGenerator(ConversationGenerator):
    """A checkpoint folder or hub id, loaded once and used for any number of batches."""

    def __init__(
        self,
        model: str | Path,
        model_id: str,
        *,
        batch_size: int = 128,
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        self.model_id = model_id
        self.batch_size = batch_size
        self._batches = Batches(batch_size, f"texts of {model_id}")
        self.tokenizer = load_tokenizer(model, trust_remote_code)
        self.model = load_causal_lm(model, device, trust_remote_code)
        self.stops = stop_ids(self.tokenizer)
        self.context_tokens: int = positions_of(self.model.config) or 1 << 30

    def complete(
        self,
        conversations: Sequence[Sequence[Message]],
        samplings: Sequence[Sampling],
        max_new_tokens: int,
        seed: int,
        template_args: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        """Continue every conversation with one assistant's message, in the order given.

        Batches that do not fit into memory are halved.

        Raises:
            InputError: the model computes no finite numbers, or has no embedding for a token of its tokenizer's.
        """
        prompts = [prompt_ids(self.tokenizer, conversation, template_args) for conversation in conversations]
        done = over_length(prompts, self.context_tokens)
        left = [index for index in range(len(prompts)) if index not in done]
        order = sorted(left, key=lambda index: len(prompts[index]))

        def generate(batch: Sequence[int]) -> list[list[int]]:
            asked, drawn = [prompts[index] for index in batch], [samplings[index] for index in batch]
            return self._generate(asked, drawn, max_new_tokens, seed)

        for index, ids in self._batches.over(order, generate):
            done[index] = self._completion(len(prompts[index]), ids)
        return [done[index] for index in range(len(prompts))]

    def next_token_logits(self, prompts: Sequence[list[int]]) -> Tensor:
        """Return the logits of the token after each prompt, in one batch: (prompts, vocabulary), float32.

        They are given as they are: a judge has a status for a prompt at which they are no numbers.
        """
        import torch

        check_ids(prompts, self.model)
        with torch.inference_mode():
            ids, mask = _left_padded(prompts, self.model.device)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
            return self.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1].float()

    def _generate(
        self, prompts: Sequence[list[int]], samplings: Sequence[Sampling], max_new_tokens: int, seed: int
    ) -> list[list[int]]:
        """Return the new token ids of each prompt, up to and with its stop token."""
        import torch

        check_ids(prompts, self.model)
        with torch.inference_mode():
            return decode(self.model, prompts, samplings, self.stops, max_new_tokens, seed, self.context_tokens)


def load_causal_lm(
    model: str | Path, device: str = "auto", trust_remote_code: bool = False, dtype: torch_dtype | None = None
) -> PreTrainedModel:
    """Load a causal LM for inference; an adapter lies over its base, and loses nothing by it (`lay_over`).

    Args:
        dtype: of the weights; None is float32 on a CPU (bf16 is slower there), the checkpoint's own type on a GPU.

    Raises:
        InputError: the folder or hub id holds no causal LM in safetensors, or not all its weights.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    if is_adapter(Path(model)):
        base = load_causal_lm(base_of(Path(model)), device, trust_remote_code, dtype)
        return cast("PreTrainedModel", lay_over(base, Path(model)).eval())

    logging.disable_progress_bar()  # our own bars say what is going on
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    check_safetensors(Path(model))
    loaded: PreTrainedModel = load_whole(
        AutoModelForCausalLM,
        model,
        "causal language model",
        dtype=dtype or (torch.float32 if place == "cpu" else "auto"),
        trust_remote_code=trust_remote_code,
    )
    return loaded.to(place).eval()


def decode(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    samplings: Sequence[Sampling],
    stops: Sequence[int],
    max_new_tokens: int,
    seed: int,
    context_tokens: int,
) -> list[list[int]]:
    """Prefill the left-padded prompts, then decode one token a step for the rows that are not finished.

    Args:
        model: in evaluation; called where no gradients are kept.
        stops: ids that end an answer.
        context_tokens: positions of the model.

    Returns:
        The new token ids of each prompt, up to and with its stop token.
    """
    import torch
    from transformers import DynamicCache

    place = model.device
    ids, mask = _left_padded(prompts, place)
    uniforms = torch.stack([_uniforms(seed, sampling.key, max_new_tokens) for sampling in samplings]).to(place)
    temperatures = torch.tensor([sampling.temperature for sampling in samplings], device=place)
    top_ps = torch.tensor([sampling.top_p for sampling in samplings], device=place)
    rows = torch.arange(len(prompts), device=place)  # which prompt each row of the batch continues
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=place)
    stop_tokens = torch.tensor(list(stops), device=place)
    generated: list[list[int]] = [[] for _ in prompts]
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for step in range(max_new_tokens):
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        logits = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        if not bool(torch.isfinite(logits.amax(dim=-1)).all()):  # the largest of a row with a NaN is NaN
            raise no_numbers(f"the model {model.name_or_path}")
        tokens = choose_tokens(logits, temperatures[rows], top_ps[rows], uniforms[rows, step])
        for row, token, over in zip(rows.tolist(), tokens.tolist(), finished.tolist(), strict=True):
            if not over:
                generated[row].append(token)
        positions = positions[:, -1:] + 1
        finished = finished | torch.isin(tokens, stop_tokens) | (positions[:, 0] + 1 >= context_tokens)
        if bool(finished.all()):
            break
        if finished.float().mean() > FINISHED_SHARE_TO_COMPACT:
            keep = (~finished).nonzero().squeeze(1)
            cache.batch_select_indices(keep)
            rows, finished, tokens = rows[keep], finished[keep], tokens[keep]
            mask, positions = mask[keep], positions[keep]
        ids = tokens[:, None]
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
    return generated


def _left_padded(prompts: Sequence[list[int]], place: device) -> tuple[Tensor, Tensor]:
    import torch

    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(place), mask.to(place)


def _uniforms(seed: int, key: str, count: int) -> Tensor:
    """Draw uniform numbers in [0, 1), one a token, from the conversation's own stream."""
    import numpy
    import torch

    digest = hashlib.sha256(utf8(f"{seed}/{key}")).digest()
    stream = numpy.random.Generator(numpy.random.Philox(key=int.from_bytes(digest[:16], "big")))
    return torch.from_numpy(stream.random(count, dtype=numpy.float32))


def choose_tokens(logits: Tensor, temperatures: Tensor, top_ps: Tensor, uniforms: Tensor) -> Tensor:
    """Choose one token a row.

    Args:
        logits: (rows, vocabulary).
        temperatures, top_ps, uniforms: (rows,). Temperature 0 takes the most likely token.

    Returns:
        (rows,) token ids; sampled ones by inversion of the cumulative distribution.
    """
    import torch

    greedy = logits.argmax(dim=-1)
    if not bool((temperatures > 0).any()):
        return greedy
    probabilities = torch.softmax(logits / temperatures.clamp(min=1e-6)[:, None], dim=-1)
    if bool((top_ps < 1).any()):
        probabilities = _nucleus(probabilities, top_ps)
    cumulative = probabilities.cumsum(dim=-1)
    below = cumulative <= uniforms[:, None] * cumulative[:, -1:]
    sampled = below.sum(dim=-1).clamp(max=logits.shape[-1] - 1)
    return torch.where(temperatures > 0, sampled, greedy)


def _nucleus(probabilities: Tensor, top_ps: Tensor) -> Tensor:
    """Keep the most likely tokens until their sum reaches top_p; the first is always kept. Not renormalised."""
    ordered, tokens = probabilities.sort(dim=-1, descending=True)
    kept = ordered.masked_fill(ordered.cumsum(dim=-1) - ordered >= top_ps[:, None], 0.0)
    return probabilities.scatter(-1, tokens, kept)
