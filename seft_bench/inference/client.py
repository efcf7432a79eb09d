"""A pooled asynchronous client for OpenAI-compatible chat completions that loses nothing.

Each response is in the store the moment that it arrives, if it is good; a stored one is never asked for again. What a
server can do wrong becomes a `Reply` with a status, or an exception that stops the run with what arrived kept:

    429                                 wait (Retry-After, else backoff), fewer in flight, try again
    5xx, time-out, cut, malformed       backoff with jitter, try again, at last `api_error`
    400 on length, 413                  `over_length`
    an error in a 200 reply             as its code says; else tried again, at last `api_error`, or `partial` with text
    no text, and no reason              tried again a few times, at last `empty`
    content filter, refusal             `refused`
    other 4xx                           `api_error`
    401, 403, 404, no quota, no server  the run stops with one message
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.inference.bodies import decode_body
from seft_bench.inference.budget import Meter
from seft_bench.inference.concurrency import AdaptiveLimit
from seft_bench.inference.failures import classify_error, retry_after_seconds
from seft_bench.inference.replies import KEPT, Reply, read_completion
from seft_bench.inference.store import ResponseStore, request_key
from seft_bench.records import Message
from seft_bench.texts import mapped_strings, without_lone_surrogates

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 600.0
GET_ATTEMPTS = 3
EMPTY_ATTEMPTS = 3
"""A model that has said nothing so often has nothing to say: `empty` is then its answer."""
FAILURES_IN_A_ROW_TO_STOP = 20
"""So many requests given up, and none answered in between, mean that the server is gone: stop, keep what is there."""

OnReply = Callable[[int, Reply], None]


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One request.

    Attributes:
        sampling: what goes into the body beside model and messages (temperature, max_tokens, seed, logprobs).
        template_version: of the prompt; "" for plain generation.
        is_good: whether a response is worth keeping; what cannot be parsed is asked for again on the next run.
        sample_index: which of several samples of one request; each is sent, kept and paid for by itself.
        repeat: above 0 for a repetition on purpose, which has a place of its own in the store.
    """

    messages: tuple[Message, ...]
    sampling: Mapping[str, Any]
    template_version: str = ""
    is_good: Callable[[Reply], bool] = field(default=lambda reply: True, compare=False)
    sample_index: int = 0
    repeat: int = 0


class _Retry(Exception):
    """This attempt failed in a way that another may not.

    Attributes:
        may_be_paid: the server may have done its work all the same.
        partial: what came before the failure.
    """

    def __init__(
        self,
        reason: str,
        wait_seconds: float | None = None,
        unreachable: bool = False,
        may_be_paid: bool = False,
        partial: Reply | None = None,
    ) -> None:
        super().__init__(reason)
        self.wait_seconds, self.unreachable, self.may_be_paid = wait_seconds, unreachable, may_be_paid
        self.partial = partial


class ChatClient:
    """Sends chat completions to one server for one model.

    Args:
        api_key_env: NAME of the environment variable that holds the key, None for servers without one. The key is read
            when a request needs it and is cut out of whatever the server says.
        store: None keeps nothing.
        weights_fingerprint: enters the keys of stored responses: one local server serves many checkpoints over time.
            Where it is "" and there is no key, `weights.fingerprint_local_weights` measures it.
        epoch: enters the keys too: another word asks everything again.
        on_missing_key: makes the error for a missing key, so that the caller can name what would work instead.
        sleep, clock: replaced in tests.
    """

    meter: Meter | None = None  # counts what is paid, and stops at a budget
    empty_attempts = EMPTY_ATTEMPTS
    path = "/chat/completions"

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str | None,
        store: ResponseStore | None,
        *,
        max_in_flight: int = 64,
        timeout_seconds: float = 120.0,
        max_attempts: int = 6,
        weights_fingerprint: str = "",
        epoch: str = "",
        on_missing_key: Callable[[str], InputError] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url, self.model, self.api_key_env, self.store = base_url.rstrip("/"), model, api_key_env, store
        self.timeout_seconds, self.max_attempts, self.max_in_flight = timeout_seconds, max_attempts, max_in_flight
        self.weights_fingerprint, self.measured_fingerprint, self.epoch = weights_fingerprint, "", epoch
        self.limit = AdaptiveLimit(max_in_flight, sleep, clock)
        self._on_missing_key, self._sleep, self._clock = on_missing_key, sleep, clock
        self._jitter = random.Random()  # spreads retries over time; no result depends on it
        self._failures_in_a_row = 0
        self.probes: list[Reply] = []
        self.notes: list[str] = []

    def run(self, calls: Sequence[ChatCall], on_reply: OnReply) -> None:
        """Send all calls; `on_reply(index, reply)` is called as each arrives, in any order.

        Equal calls are sent once. An exception out of `on_reply`, or Ctrl-C, cancels what is in flight and is passed
        on.

        Raises:
            InputError: no key, a key or a model that the server refuses.
            ServiceUnavailableError: the server cannot be reached, has no quota left, or keeps failing.
        """
        if calls:
            asyncio.run(self._run(calls, on_reply))

    def probe(self, call: ChatCall) -> Reply:
        """Send one call now, past the store and the limit; what fails is an exception or the reply's status."""
        replies: list[Reply] = []
        store, self.store = self.store, None
        limit, self.limit = self.limit, AdaptiveLimit(1, self._sleep, self._clock)
        try:
            self.run([call], lambda _, reply: replies.append(reply))
        finally:
            self.store, self.limit = store, limit
        self.probes += replies
        return replies[0]

    def get_json(self, url: str) -> Any:
        """Return the JSON at an address of this server; None if there is none, or nobody answers."""
        return asyncio.run(self._get_json(url))

    @property
    def server_in_keys(self) -> str:
        """The server's name in the keys of stored responses."""
        return self.base_url

    def key_of(self, call: ChatCall) -> str:
        epoch = "/".join(part for part in (self.epoch, f"repeat-{call.repeat}" if call.repeat else "") if part)
        server, weights = self.server_in_keys, self.weights_fingerprint
        return request_key(
            server, self.model, call.messages, call.sampling, call.template_version, call.sample_index, epoch, weights
        )

    async def _run(self, calls: Sequence[ChatCall], on_reply: OnReply) -> None:
        same: dict[str, list[int]] = {}
        for index, call in enumerate(calls):
            same.setdefault(self.key_of(call), []).append(index)
        queue = iter(same.items())  # shared: each worker takes the next

        async def work(session: Any) -> None:
            for key, indices in queue:
                reply = self._stored(key) or await self._ask(session, calls[indices[0]], key)
                for position, index in enumerate(indices):
                    on_reply(index, reply if position == 0 else reply.as_stored())

        async with self._session() as session:
            await _run_all([work(session) for _ in range(min(self.max_in_flight, len(same)))])

    def _session(self) -> Any:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)  # the adaptive limit bounds the connections
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=self.timeout_seconds))

    def _stored(self, key: str) -> Reply | None:
        """Return the reply in the store; what is none by today's rules (an error, say) is taken out of it."""
        kept = self.store.get(key) if self.store else None
        if self.store is None or kept is None:
            return None
        try:
            reply = self._completion(kept["body"], kept.get("latency_seconds"))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            reply = Reply("api_error")
        if reply.status in KEPT:
            return dataclasses.replace(reply, received_at=str(kept.get("received_at") or ""), stored=True)
        self.store.forget(key)
        return None

    async def _ask(self, session: Any, call: ChatCall, key: str) -> Reply:
        """Try until there is a reply or no attempt left; a good reply is stored before anything else happens."""
        failure, empty = _Retry("none was made"), 0
        for attempt in range(self.max_attempts):
            if attempt:
                await self._sleep(self._backoff_seconds(attempt, failure.wait_seconds))
            try:
                reply = await self._metered_attempt(session, call)
            except _Retry as error:
                failure = error
                continue
            empty += _is_silent(reply)
            if _is_silent(reply) and empty < min(self.empty_attempts, self.max_attempts):
                failure = _Retry("an empty reply")
                continue
            self._keep(key, call, reply)
            return self._noted(reply)
        if failure.unreachable:
            raise ServiceUnavailableError(
                f"{failure}. Is the server running? What arrived is kept; the same command goes on."
            )
        text = f"given up after {self.max_attempts} attempts, the last one: {failure}"
        if failure.partial:
            return self._noted(dataclasses.replace(failure.partial, error=text, attempts_failed=True))
        return self._noted(Reply("api_error", text=text, attempts_failed=True))

    async def _metered_attempt(self, session: Any, call: ChatCall) -> Reply:
        if self.meter is None:
            return await self._attempt(session, call)
        return await self.meter.count(call.messages, call.sampling, functools.partial(self._attempt, session, call))

    def _keep(self, key: str, call: ChatCall, reply: Reply) -> None:
        if reply.status in KEPT and self.store and call.is_good(reply):
            kept = {"body": reply.body, "latency_seconds": reply.latency_seconds, "received_at": reply.received_at}
            self.store.put(key, kept)

    def _noted(self, reply: Reply) -> Reply:
        """Stop when requests keep failing without one success in between."""
        self._failures_in_a_row = self._failures_in_a_row + 1 if reply.attempts_failed else 0
        if self._failures_in_a_row >= FAILURES_IN_A_ROW_TO_STOP:
            raise ServiceUnavailableError(
                f"{self.base_url} failed {self._failures_in_a_row} requests in a row ({reply.text}). What arrived is "
                "kept; run the same command again later."
            )
        return reply

    def _backoff_seconds(self, attempt: int, told_seconds: float | None) -> float:
        """Return the wait that the server asks for, else one that doubles, with jitter: never the same for all."""
        if told_seconds is not None:
            return told_seconds
        longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** (attempt - 1))
        return longest * (0.5 + self._jitter.random() / 2)

    async def _attempt(self, session: Any, call: ChatCall) -> Reply:
        import aiohttp

        url, headers = f"{self.base_url}{self.path}", self._headers()
        entered_at = await self.limit.enter()
        try:
            async with session.post(url, json=self._body(call), headers=headers) as response:
                text = self._without_key(await response.text(errors="replace"))
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise self._broken_off(error) from None
        finally:
            self.limit.leave()
        latency_seconds = self._clock() - entered_at
        return self._read(response.status, response.headers, text, entered_at, latency_seconds)

    def _broken_off(self, error: Exception) -> _Retry | InputError:
        """Return the exception for a request without a reply."""
        import aiohttp

        if isinstance(error, aiohttp.ClientConnectorError):
            why = error.os_error.strerror or type(error.os_error).__name__
            return _Retry(f"no connection to {self.base_url} ({why})", unreachable=True)
        if isinstance(error, aiohttp.InvalidURL):
            return InputError(
                f"not an address of a server: {self.base_url!r} (--server, or base_url in a judge's YAML)"
            )
        if isinstance(error, TimeoutError):
            return _Retry(f"no reply within {self.timeout_seconds:g} seconds", may_be_paid=True)
        return _Retry(f"the connection broke ({type(error).__name__})", may_be_paid=True)

    def _read(
        self, http_status: int, headers: Mapping[str, str], text: str, entered_at: float, latency_seconds: float
    ) -> Reply:
        if http_status == 200:
            reply = self._read_body(text, latency_seconds)
            if not reply.error:
                return reply
            if reply.status == "partial" or not 400 <= (reply.error_code or 500) < 500:
                partial = reply if reply.status == "partial" else None
                raise _Retry(f"an error in the reply: {reply.error[:200]}", may_be_paid=True, partial=partial)
            http_status, text = reply.error_code or 500, f"{reply.error} {text[:1000]}"
        if http_status == 429:
            raise self._throttled(headers, text, entered_at)
        if http_status >= 500 or http_status == 408:
            raise _Retry(f"HTTP {http_status}: {text[:200]}", retry_after_seconds(headers))
        # OpenAI forbids log-probabilities by 403 where a model gives none: the key is good.
        if http_status in (401, 403) and "logprobs" not in text:
            raise InputError(
                f"{self.base_url} refused the key (HTTP {http_status}). Check the variable "
                f"{self.api_key_env or '(none: api_key_env is null)'}."
            )
        if http_status == 404:
            raise InputError(
                f"{self.base_url} does not serve the model {self.model!r} (HTTP 404: {text[:200]}). Check `model` and "
                "`base_url` of the YAML."
            )
        said = f"HTTP {http_status}: {text[:2000]}"
        return Reply(classify_error(http_status, text), text=said, latency_seconds=latency_seconds)

    def _read_body(self, text: str, latency_seconds: float) -> Reply:
        try:
            reply = self._completion(self._cleaned(decode_body(text)), latency_seconds)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise _Retry(
                f"a malformed response ({type(error).__name__}: {error}): {text[:200]!r}", may_be_paid=True
            ) from None
        if not reply.error:
            self.limit.succeeded()
        return reply

    def _cleaned(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a response without lone surrogates, which no file could hold."""
        cleaned: dict[str, Any] = mapped_strings(body, without_lone_surrogates)
        if cleaned != body:
            self._note(f"{self.base_url} sent halves of surrogate pairs: each is kept as U+FFFD")
        return cleaned

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _completion(self, body: Mapping[str, Any], latency_seconds: float | None) -> Reply:
        return read_completion(body, latency_seconds)

    def _throttled(self, headers: Mapping[str, str], text: str, entered_at: float) -> Exception:
        wait = retry_after_seconds(headers)
        if "insufficient_quota" in text:
            return ServiceUnavailableError(
                f"{self.base_url} says that the account has no quota left. What arrived is kept; the same command goes "
                "on."
            )
        if wait is not None and wait > LONGEST_RETRY_AFTER_SECONDS:
            return ServiceUnavailableError(
                f"{self.base_url} asks to wait for {wait:.0f} seconds. What arrived is kept; run the same command "
                "again then."
            )
        self.limit.throttle(entered_at, wait)
        return _Retry(f"HTTP 429: {text[:200]}", wait)

    def _body(self, call: ChatCall) -> dict[str, Any]:
        return {"model": self.model, "messages": list(call.messages), **call.sampling}

    def _headers(self) -> dict[str, str]:
        if self.api_key_env is None:
            return {}
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self._on_missing_key:
            raise self._on_missing_key(self.api_key_env)
        if not key:
            raise InputError(f"{self.api_key_env} is not set: {self.base_url} needs a key.")
        if not key.isprintable() or not key.isascii():
            raise InputError(f"{self.api_key_env} holds characters that no key has (a line break, say). Set it again.")
        return {"Authorization": f"Bearer {key}"}

    def _without_key(self, text: str) -> str:
        """Cut the key out, which some servers echo in their errors: it must reach no record and no message."""
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        return text.replace(key, "[key]") if key else text

    async def _get_json(self, url: str) -> Any:
        import aiohttp

        async with self._session() as session:
            for attempt in range(GET_ATTEMPTS):
                if attempt:
                    await self._sleep(self._backoff_seconds(attempt, None))
                try:
                    async with session.get(url, headers=self._headers()) as response:
                        if response.status < 500:
                            return json.loads(await response.text(errors="replace")) if response.status == 200 else None
                except (aiohttp.ClientConnectorError, ValueError):
                    return None
                except (aiohttp.ClientError, OSError, TimeoutError):
                    continue
        return None


def _is_silent(reply: Reply) -> bool:
    """Say whether nothing came at all: neither a text, nor reasoning that took all the tokens."""
    return reply.status == "empty" and reply.finish_reason != "length" and not reply.reasoning


async def _run_all(work: Sequence[Any]) -> None:
    """Run all to the end, or pass on the first exception after cancelling the rest."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
