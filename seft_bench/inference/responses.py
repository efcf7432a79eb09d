"""From a server's response to a `Reply`, or to what is to be done instead: try again, or stop with one message."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seft_bench.errors import InputError, SeftBenchError, ServiceUnavailableError
from seft_bench.inference.bodies import decode_body
from seft_bench.inference.failures import (
    ErrorWords,
    Kind,
    Settings,
    context_limit,
    kind_of,
    named_parameters,
    parameter_advice,
    read_error,
    reply_limit,
    retry_after_seconds,
)
from seft_bench.inference.replies import Reply
from seft_bench.inference.secrets import Secrets
from seft_bench.inference.transport import MOST_BODY_BYTES, Response
from seft_bench.texts import mapped_strings, without_lone_surrogates

LONGEST_RETRY_AFTER_SECONDS = 600.0

Completion = Callable[[Mapping[str, Any], float | None], Reply]


class ParameterRefusedError(InputError):
    """The server does not take a parameter that every request has.

    Attributes:
        names: of the parameters that its refusal names.
    """

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)


class Retry(Exception):
    """This attempt failed in a way that another may not.

    Attributes:
        is_throttled: the server has too many requests.
        is_unreachable: nobody took the connection.
        may_be_paid: the server may have done its work all the same.
        partial: what came before the failure.
    """

    def __init__(
        self,
        reason: str,
        wait_seconds: float | None = None,
        *,
        is_throttled: bool = False,
        is_unreachable: bool = False,
        may_be_paid: bool = False,
        partial: Reply | None = None,
    ) -> None:
        super().__init__(reason)
        self.wait_seconds, self.is_throttled, self.is_unreachable = wait_seconds, is_throttled, is_unreachable
        self.may_be_paid, self.partial = may_be_paid, partial


@dataclass(frozen=True)
class ResponseReader:
    """Reads the responses of one server.

    Attributes:
        server: its address as it may be shown.
        key_variable: NAME of the variable with its key; None for servers without one.
        settings: where the settings stand that a refusal may be about.
        completion: makes a reply of a decoded body.
        note: says a fact about the server, once.
    """

    server: str
    model: str
    key_variable: str | None
    settings: Settings
    secrets: Secrets
    completion: Completion
    note: Callable[[str], None]

    def read(self, response: Response, sent: Mapping[str, Any], latency_seconds: float) -> Reply:
        """Read a response.

        Args:
            sent: the parameters of the request.

        Raises:
            Retry: another attempt may do better.
            InputError, ServiceUnavailableError: no other request would do better.
        """
        if not response.is_whole:
            raise Retry(f"a response of more than {MOST_BODY_BYTES // 2**20} MB", may_be_paid=True)
        if not 200 <= response.status < 300:
            error = read_error(response.text, self.secrets.mask)
            return self._refused(response.status, response.headers, error, sent, latency_seconds)
        reply = self._reply(response.text, latency_seconds)
        return self._error_inside(reply, response, sent, latency_seconds) if reply.error else reply

    def _reply(self, text: str, latency_seconds: float) -> Reply:
        try:
            body = self.cleaned(decode_body(text))
            reply = self.completion(body, latency_seconds)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            start = read_error(text[:2000], self.secrets.mask).words[:200]
            raise Retry(f"a malformed response ({error}): {start!r}", may_be_paid=True) from None
        self._note_usage(body, reply)
        return self._without_split_keys(reply)

    def _without_split_keys(self, reply: Reply) -> Reply:
        """Mask keys that only the parts of a content put together show; the body then holds the masked text."""
        text, reasoning = self.secrets.mask(reply.text), self.secrets.mask(reply.reasoning)
        if (text, reasoning) == (reply.text, reply.reasoning):
            return reply
        message = {"role": "assistant", "content": text, "reasoning_content": reasoning}
        (choice, *_) = reply.body.get("choices") or [{}]
        body = {**reply.body, "choices": [{**choice, "message": message}]}
        return dataclasses.replace(reply, text=text, reasoning=reasoning, body=body)

    def cleaned(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a response without keys, and without halves of surrogate pairs, which no file could hold."""
        halves: list[str] = []

        def clean(text: str) -> str:
            whole = without_lone_surrogates(text)
            halves.extend([text] if whole != text else [])
            return self.secrets.mask(whole)

        result: dict[str, Any] = mapped_strings(body, clean)
        if halves:
            self.note(f"{self.server} sent halves of surrogate pairs: each is kept as U+FFFD")
        return result

    def _note_usage(self, body: Mapping[str, Any], reply: Reply) -> None:
        usage = body.get("usage")
        said = usage if isinstance(usage, dict) else {}
        read = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
        if wrong := [f"{name} {str(said[name])[:40]}" for name in read if said.get(name) is not None is read[name]]:
            self.note(
                f"{self.server} sent counts of tokens that cannot be ({', '.join(wrong)}): such replies have none, and "
                "a budget counts the most that their requests can cost"
            )

    def _error_inside(self, reply: Reply, response: Response, sent: Mapping[str, Any], latency_seconds: float) -> Reply:
        """Treat an error inside a good status as its code says, and as the server's own where it does not say."""
        error = ErrorWords(reply.error, read_error(response.text, self.secrets.mask).codes)
        kind = kind_of(reply.error_code or 400, error, sent)
        if reply.status == "partial" or kind == "server" or (kind == "request" and reply.error_code is None):
            partial = reply if reply.status == "partial" else None
            raise Retry(f"an error in the reply: {error.words[:200]}", may_be_paid=True, partial=partial)
        return self._refused(reply.error_code or 400, response.headers, error, sent, latency_seconds)

    def _refused(
        self,
        http_status: int,
        headers: Mapping[str, str],
        error: ErrorWords,
        sent: Mapping[str, Any],
        latency_seconds: float,
    ) -> Reply:
        """Return a reply for a refusal of this one request; raise for any other."""
        said, wait = f"HTTP {http_status}: {error.words}", retry_after_seconds(headers)
        kind = kind_of(http_status, error, sent)
        if kind in ("server", "throttled"):
            if wait is not None and wait > LONGEST_RETRY_AFTER_SECONDS:
                raise self._long_wait(wait, said)
            raise Retry(said, wait, is_throttled=kind == "throttled")
        if stop := self._stop(kind, said, error, sent):
            raise stop
        status = kind if kind in ("over_length", "refused") else "api_error"
        return Reply(status, text=said, latency_seconds=latency_seconds)

    def _stop(self, kind: Kind, said: str, error: ErrorWords, sent: Mapping[str, Any]) -> SeftBenchError | None:
        """Return the error that ends the run; None where only this request was refused."""
        if kind == "credits":
            return ServiceUnavailableError(
                f"{self.server} wants money: the account has no quota or credits left ({said}). What arrived is kept; "
                "once there is some, the same command goes on."
            )
        if kind == "key":
            variable = f"the variable {self.key_variable}" if self.key_variable else "`api_key_env`, which is null"
            return InputError(f"{self.server} refused the key ({said}). Check {variable}.")
        if kind == "model":
            return InputError(
                f"{self.server} does not serve the model {self.model!r} ({said}). Check the model's name and the "
                f"address ({self.settings.file})."
            )
        if kind == "parameter":
            words = f"{error.words} {error.codes}"
            advice = parameter_advice(words, sent, self.settings)
            message = f"{self.model} at {self.server} refuses the request ({said}). {advice}".strip()
            return ParameterRefusedError(message, named_parameters(words, sent))
        return self._no_room(said, error, sent) if kind == "no_room" else None

    def _no_room(self, said: str, error: ErrorWords, sent: Mapping[str, Any]) -> InputError:
        return InputError(
            f"{self.model} at {self.server} has no room for any prompt: a reply may have {reply_limit(sent)} tokens, "
            f"and the context has {context_limit(error.words)} ({said}). Set a smaller {self.settings.reply_limit}, or "
            "serve the model with a larger context."
        )

    def _long_wait(self, wait_seconds: float, said: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"{self.server} asks to wait for {wait_seconds:.0f} seconds ({said}). What arrived is kept; run the same "
            "command again then."
        )


def only_fails(server: str, count: int, reply: Reply) -> InputError | ServiceUnavailableError:
    """Return the error for so many requests in a row without a reply, of which this is the last."""
    why = reply.error or reply.text
    if not reply.attempts_failed:
        return InputError(f"{server} refused {count} requests in a row ({why}). What arrived is kept.")
    return ServiceUnavailableError(
        f"{server} failed {count} requests in a row ({why}). What arrived is kept; run the same command again later."
    )
