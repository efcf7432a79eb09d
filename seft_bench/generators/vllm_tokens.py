"""Conversations continued by vLLM from our own token ids: what its two engines share, and the one behind a server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.chat import load_tokenizer, prompt_ids, stop_ids
from seft_bench.checkpoints.weights import load_config, positions_of
from seft_bench.errors import InputError
from seft_bench.generators.conversations import Completion, ConversationGenerator, Sampling, over_length
from seft_bench.inference.vllm.server import VLLMServer
from seft_bench.inference.vllm.tokens import TokenClient, TokenRequest
from seft_bench.records import Message
from seft_bench.texts import utf8

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class TokenGenerator(ConversationGenerator):
    """Continues prompts of our own token ids; each conversation draws from its own seed.

    Greedy texts equal `TransformersGenerator`'s up to the engines' rounding; sampled ones come from vLLM's own random
    streams.
    """

    def complete(
        self,
        conversations: Sequence[Sequence[Message]],
        samplings: Sequence[Sampling],
        max_new_tokens: int,
        seed: int,
        template_args: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        """Continue every conversation with one assistant's message, in the order given."""
        context_tokens = self._load()
        prompts = [prompt_ids(self.tokenizer, conversation, template_args) for conversation in conversations]
        done = over_length(prompts, context_tokens)
        asked = [index for index in range(len(prompts)) if index not in done]
        requests = [
            TokenRequest(
                prompts[index],
                min(max_new_tokens, context_tokens - len(prompts[index])),
                samplings[index].temperature,
                samplings[index].top_p,
                conversation_seed(seed, samplings[index].key),
            )
            for index in asked
        ]
        drawn = self._draw(requests) if requests else []
        for index, ids in zip(asked, drawn, strict=True):
            done[index] = self._completion(len(prompts[index]), ids)
        return [done[index] for index in range(len(prompts))]

    def _load(self) -> int:
        """Make sure that this checkpoint answers now; return how many tokens of prompt and answer it takes."""
        raise NotImplementedError

    def _draw(self, requests: Sequence[TokenRequest]) -> list[list[int]]:
        """Return the new token ids of each prompt, up to and with its stop token."""
        raise NotImplementedError


class ServedGenerator(TokenGenerator):
    """A checkpoint folder behind a `VLLMServer`, which also says how likely given texts are.

    Args:
        server: shared by the generators of a run; it is started, or given this checkpoint's weights, when something is
            asked for.
    """

    def __init__(self, folder: Path, model_id: str, server: VLLMServer, *, batch_size: int = 256) -> None:
        self.folder, self.model_id, self.server, self.batch_size = folder, model_id, server, batch_size
        self.tokenizer = load_tokenizer(folder, server.trust_remote_code)
        self.stops = stop_ids(self.tokenizer)
        self._client = TokenClient(server)

    def logprobs(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the log-probability of every token of each answer after its prompt.

        Raises:
            InputError: a sequence is longer than the server takes. ServiceUnavailableError: the server died.
        """
        self.server.serve(self.folder)
        whole = [[*before, *answer] for before, answer in zip(prompts, answers, strict=True)]
        self._check_fits(max((len(ids) + 1 for ids in whole), default=0))
        found = self._client.logprobs(whole)
        return [values[-len(answer) :] for values, answer in zip(found, answers, strict=True)]

    def _load(self) -> int:
        self.server.serve(self.folder)
        return positions_of(self._config()) or self.server.context_tokens

    def _config(self) -> PreTrainedConfig:
        config: PreTrainedConfig = load_config(self.folder, self.server.trust_remote_code)
        return config

    def _draw(self, requests: Sequence[TokenRequest]) -> list[list[int]]:
        self._check_fits(max(len(request.prompt) + request.max_tokens for request in requests))
        return self._client.complete(requests, self.stops)

    def _check_fits(self, tokens: int) -> None:
        """Refuse what the server would cut, and another engine would not."""
        if tokens > self.server.context_tokens:
            raise InputError(
                f"a prompt and its answer take {tokens} tokens, and the vLLM server for {self.folder} takes "
                f"{self.server.context_tokens}. Raise `vllm.max_model_len` of the recipe, leave out or shorten the "
                "longest rows of its data, or give `engine: transformers`."
            )


def conversation_seed(seed: int, key: str) -> int:
    """Return the seed of one conversation's random stream, in [0, 2^31)."""
    return int.from_bytes(hashlib.sha256(utf8(f"{seed}/{key}")).digest()[:4], "big") >> 1
