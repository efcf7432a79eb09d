"""The judges' chat client, talking to a server of ours: same retries and store, one cause more to stop at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seft_bench.chat import answer_text, prompt_ids, without_markup
from seft_bench.errors import InputError
from seft_bench.inference.addresses import address_of
from seft_bench.inference.client import ChatCall, ChatClient, OnReply
from seft_bench.inference.replies import KEPT, Reply
from seft_bench.inference.store import ResponseStore
from seft_bench.inference.vllm.server import VLLMServer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TIMEOUT_SECONDS = 3600.0
"""Long: a request may wait behind many others, and a server that died is noticed without it."""
MAX_IN_FLIGHT = 256


class ServerClient(ChatClient):
    """Asks a `VLLMServer`. A request's key holds what is served, not the port: a rerun finds its stored responses."""

    empty_attempts = 1  # the engine says the same again

    def __init__(
        self,
        server: VLLMServer,
        store: ResponseStore | None = None,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        super().__init__(
            server.base_url,
            server.served_name,
            None,
            store,
            max_in_flight=max_in_flight,
            timeout_seconds=timeout_seconds,
        )
        self.server = server

    def run(self, calls: Sequence[ChatCall], on_reply: OnReply) -> None:
        """Run as `ChatClient.run` does, against the checkpoint that is loaded now.

        Raises:
            ServiceUnavailableError: also when the server's process dies under way, with the end of its log.
        """
        self.address, self.weights_fingerprint = address_of(self.server.base_url), self.server.weights_fingerprint
        super().run(calls, on_reply)

    @property
    def server_in_keys(self) -> str:
        return "vllm"

    async def _attempt(self, session: Any, call: ChatCall) -> Reply:
        try:
            return await super()._attempt(session, call)
        except Exception:
            self.server.check_alive()  # no use in trying again
            raise


class VLLMClient(ServerClient):
    """Sends messages.

    Args:
        tokenizer: of the served checkpoint. Its special tokens in texts are broken up before they are sent, as the
            server would take them for markup.
    """

    def __init__(
        self,
        server: VLLMServer,
        tokenizer: PreTrainedTokenizerBase,
        store: ResponseStore | None = None,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        super().__init__(server, store, max_in_flight=max_in_flight, timeout_seconds=timeout_seconds)
        self.tokenizer = tokenizer

    def _body(self, call: ChatCall) -> dict[str, Any]:
        return {**super()._body(call), "messages": without_markup(self.tokenizer, call.messages)}


class AnswerClient(VLLMClient):
    """A client whose answers are to equal our own generator's: same prompt ids, same stops, same decoding of ids.

    Args:
        stops: ids of the tokens that end an answer.
    """

    def __init__(
        self,
        server: VLLMServer,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[int],
        store: ResponseStore | None = None,
    ) -> None:
        super().__init__(server, tokenizer, store)
        self.stops = list(stops)

    def run(self, calls: Sequence[ChatCall], on_reply: OnReply) -> None:
        """Run as `VLLMClient.run` does; the texts are decoded here, from the ids.

        Raises:
            InputError: also when the server's prompt is not ours, token by token.
        """
        super().run(calls, lambda index, reply: on_reply(index, self._decoded(calls[index], reply)))

    def _body(self, call: ChatCall) -> dict[str, Any]:
        """Ask for no more tokens than the context has left; at 0 left the server says that the prompt does not fit."""
        left = self.server.context_tokens - len(_prompt_ids(self.tokenizer, call))
        most = max(1, min(int(call.sampling["max_tokens"]), left))
        return {**super()._body(call), "max_tokens": most, "stop_token_ids": self.stops, "return_token_ids": True}

    def _decoded(self, call: ChatCall, reply: Reply) -> Reply:
        if reply.status not in KEPT:
            return reply
        ours = _prompt_ids(self.tokenizer, call)
        theirs = list(reply.body.get("prompt_token_ids") or [])
        if theirs != ours:
            raise InputError(
                f"vLLM does not render the chat template as our tokenizer does: its prompt has {len(theirs)} tokens, "
                f"ours {len(ours)}. Check chat_template.jinja of {self.server.folder}, or answer with --engine "
                "transformers."
            )
        ids = list(reply.body["choices"][0]["token_ids"])
        text = answer_text(self.tokenizer, ids, self.stops)
        return dataclasses.replace(reply, text=text, status="ok" if text.strip() else "empty")


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, call: ChatCall) -> list[int]:
    return prompt_ids(tokenizer, call.messages, call.sampling.get("chat_template_kwargs"))
